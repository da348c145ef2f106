"""From a candidate to the model that decides, while the service goes on deciding with the old one.

First the candidate embeds every reference in use, in chunks, on all workers that take such work;
then the workers load it; then one transaction makes the change. Stopped anywhere before, it goes on
where it was when it is begun again, and until the change nothing is different for anybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage import models
from storage.errors import ModelIncomplete
from worker import checkpoints, embedding_queue, status
from worker.embedding import embed_references
from worker.errors import BrokerUnavailable
from worker.keys import chain_keys
from worker.logs import get_logger
from worker.transactions import transaction

if TYPE_CHECKING:
    from worker.runtime import Runtime
    from worker.status import Status

POLL = 0.2
PATIENCE = 1.0
READY = 60.0
"""Seconds that workers are given to load the model before the change is made without them."""
FOLLOWED = 10.0
SHOWN = 5

Progress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an activation came to.

    `lost` are references that the model could not embed, with the reasons; `late` are workers that
    had not followed after ten seconds; `seconds` is how long the others took.
    """

    model_id: str
    before: str | None
    embedded: int
    lost: dict[int, str] = field(default_factory=dict)
    workers: int = 0
    late: tuple[str, ...] = ()
    seconds: float = 0.0


def activate(
    runtime: Runtime,
    model_id: str,
    *,
    by: str | None = None,
    give_up_lost: bool = False,
    progress: Progress = lambda *_: None,
) -> Change:
    """Make a registered model the active one.

    Raises UnknownModel, ModelInUse, ActivationUnderWay, CheckpointError when its file cannot be
    used, and ModelIncomplete when it cannot embed a reference, unless those are given up. The
    active model is confirmed, if nothing under the record's key says that it is the active one.
    """
    if _unsealed(runtime, model_id):
        with transaction(runtime.sessions) as session:
            models.confirm(session, model_id, by)
        return _followed(runtime, model_id, model_id, 0, {}, progress)
    embedded, lost = prepare(runtime, model_id, by=by, progress=progress)
    if lost and not give_up_lost:
        raise ModelIncomplete(_lost(model_id, lost))
    while True:
        _await_ready(runtime, model_id, progress)
        try:
            with transaction(runtime.sessions) as session:
                before = models.activate(session, model_id, by, lost=list(lost))
            break
        except ModelIncomplete:  # somebody has enrolled with the old model alone meanwhile
            more, lost = _embed_all(runtime, model_id, progress)
            embedded += more
            if lost and not give_up_lost:
                raise ModelIncomplete(_lost(model_id, lost)) from None
    return _followed(runtime, model_id, before, embedded, lost, progress)


def rollback(
    runtime: Runtime,
    *,
    by: str | None = None,
    now: bool = False,
    progress: Progress = lambda *_: None,
) -> Change:
    """Go back to the model that was active before, whose embeddings are still there.

    What was enrolled since is embedded first; with `now`, afterwards. Raises UnknownModel when
    there is nothing to go back to, ActivationUnderWay, CheckpointError, ModelIncomplete.
    """
    with transaction(runtime.sessions) as session:
        model_id = models.previous(session).id
        complete = models.count_lacking(session, model_id) == 0
    if not (now or complete):
        return activate(runtime, model_id, by=by, progress=progress)
    if not now:
        _ = runtime.models.get(model_id)  # a file that is gone is said before the change
    with transaction(runtime.sessions) as session:
        before = models.activate(session, model_id, by, now=True)
    embedded, lost = _embed_all(runtime, model_id, progress)
    return _followed(runtime, model_id, before, embedded, lost, progress)


def shadow(
    runtime: Runtime,
    model_id: str,
    share: float,
    *,
    by: str | None = None,
    progress: Progress = lambda *_: None,
) -> Change:
    """Show a share of the jobs to a model that decides nothing. Raises as `activate` does."""
    embedded, lost = prepare(runtime, model_id, by=by, progress=progress)
    if lost:
        raise ModelIncomplete(_lost(model_id, lost))
    with transaction(runtime.sessions) as session:
        models.shadow(session, model_id, share, by)
        active = models.lineup(session).active
    return Change(model_id=model_id, before=active, embedded=embedded)


def prepare(
    runtime: Runtime, model_id: str, *, by: str | None, progress: Progress
) -> tuple[int, dict[int, str]]:
    """Announce the model and embed every reference in use: how many anew, and which are lost."""
    keep_files(runtime, model_id)
    _ = runtime.models.get(model_id)  # a file that is gone or altered is said before anything
    with transaction(runtime.sessions) as session:
        models.announce(session, model_id, by)
    return _embed_all(runtime, model_id, progress)


def keep_files(runtime: Runtime, model_id: str) -> None:
    """See that the file of the model, and of the active one, lies where all workers can have it.

    The active one's is a courtesy to whoever wants to go back, so it is left where it is if it
    cannot be read here. Raises CheckpointError for the model's own.
    """
    with transaction(runtime.sessions) as session:
        wanted = {model_id: models.get(session, model_id).uri}
        if (active := models.lineup(session).active) is not None:
            wanted.setdefault(active, models.get(session, active).uri)
    for id, uri in wanted.items():
        if runtime.images.keeps(uri):
            continue
        data = checkpoints.found(id, [uri, str(runtime.settings.checkpoint)])
        if data is None and id == model_id:
            raise checkpoints.gone(id, uri)
        if data is not None:
            kept = checkpoints.keep(runtime.images, data, id)
            with transaction(runtime.sessions) as session:
                models.moved(session, id, kept)


def _unsealed(runtime: Runtime, model_id: str) -> bool:
    """Whether this is the active model and workers refuse it because it is not sealed to be."""
    with transaction(runtime.sessions) as session:
        active = models.lineup(session).active == model_id
        sealed = models.sealed(session, chain_keys(runtime.settings))
    return active and runtime.settings.chain_key is not None and sealed != model_id


def _embed_all(runtime: Runtime, model_id: str, progress: Progress) -> tuple[int, dict[int, str]]:
    """Embed until nothing is missing: how many embeddings are new, and why some are lost."""
    new = 0
    lost: dict[int, str] = {}

    def tell() -> None:
        with transaction(runtime.sessions) as session:
            total = models.count_live(session)
            done = total - models.count_lacking(session, model_id)
        progress("Embedding", done, total)

    while missing := _missing(runtime, model_id, lost):
        tell()
        left, crew = missing, _crew(runtime) if len(missing) > embedding_queue.CHUNK else 0
        if crew:  # a few are done sooner here
            left = embedding_queue.embed(runtime, model_id, missing, crew, tell)
        new += len(missing) - len(left)
        for start in range(0, len(left), embedding_queue.CHUNK):
            done = embed_references(
                left[start : start + embedding_queue.CHUNK],
                sessions=runtime.sessions,
                images=runtime.images,
                embedder=runtime.models.get(model_id),
                max_pixels=runtime.settings.max_pixels,
            )
            new += done.new
            lost |= done.lost
            tell()
    return new, lost


def _crew(runtime: Runtime) -> int:
    """How many workers take such work."""
    return sum("enrol" in worker.work for worker in _workers(runtime))


def _missing(runtime: Runtime, model_id: str, lost: Mapping[int, str]) -> list[int]:
    with transaction(runtime.sessions) as session:
        return [number for number in models.lacking(session, model_id) if number not in lost]


def _await_ready(runtime: Runtime, model_id: str, progress: Progress) -> None:
    """Give the workers time to load the model, so that the change delays no job."""
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        workers = _following(runtime)
        ready = sum(model_id in worker.ready for worker in workers)
        progress("Loading", ready, len(workers))
        if ready == len(workers):
            return
        time.sleep(POLL)
    log.warning("workers_not_ready", model=model_id)


def _followed(
    runtime: Runtime,
    model_id: str,
    before: str | None,
    embedded: int,
    lost: dict[int, str],
    progress: Progress,
) -> Change:
    """Watch the workers take over, and say who has not."""
    began = time.monotonic()
    while True:
        workers = _following(runtime)
        late = tuple(worker.name for worker in workers if worker.model != model_id)
        seconds = time.monotonic() - began
        progress("Changing", len(workers) - len(late), len(workers))
        if not late or seconds > FOLLOWED:
            break
    runtime.models.use(runtime.models.lineup())
    return Change(
        model_id=model_id,
        before=before,
        embedded=embedded,
        lost=lost,
        workers=len(workers),
        late=late,
        seconds=seconds if workers else 0.0,
    )


def _following(runtime: Runtime) -> list[Status]:
    """The workers that can say which model they have; children of a prefork pool cannot."""
    return [worker for worker in _workers(runtime) if worker.model is not None]


def _workers(runtime: Runtime) -> list[Status]:
    if runtime.settings.broker_url is None:
        return []
    try:
        return status.ask(runtime.settings, PATIENCE)
    except BrokerUnavailable:
        return []


def _lost(model_id: str, lost: Mapping[int, str]) -> str:
    shown = "; ".join(f"reference {number}: {why}" for number, why in list(lost.items())[:SHOWN])
    more = f"; and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    return (
        f"model {model_id[:12]} cannot embed {len(lost)} references in use: {shown}{more}; retire"
        " them, or go on without them"
    )
