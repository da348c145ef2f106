"""`sigctl doctor`: what is configured, reachable and loaded, and what to do about each fault."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import exits, opening, schema, show
from worker.cli.exits import Exit
from worker.cli.live import report as live_report
from worker.cli.options import Json
from worker.cli.work import reach

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from model.scoring import Scoring
    from worker.settings import Settings

PATIENCE = 10.0
"""Seconds that a check of a service may take before it counts as not reachable."""
LOADING = 120.0
STALE = timedelta(minutes=10)

REMEDIES = {
    "settings": "Correct the variable in the environment or in .env.",
    "model": "Set SIGCTL_CHECKPOINT to a checkpoint, or make one with `sigctl train`.",
    "database": "Check SIGCTL_DATABASE_URL, that the server runs, and that it may be reached.",
    "references": "Enrol the others, or enrol them again for a new model: `sigctl enroll`.",
    "chain": "Set SIGCTL_CHAIN_KEY to what `openssl rand -hex 32` prints, and keep a copy safe.",
    "jobs": "`sigctl requeue` sends queued jobs again; `sigctl worker` works them off.",
    "store": "Check SIGCTL_STORE, the SIGCTL_S3_ variables, and the rights to write there.",
    "buckets": "Check SIGCTL_BUCKETS, the SIGCTL_S3_ variables, and the rights to read there.",
    "broker": "Check SIGCTL_BROKER_URL, that Redis runs, and that it may be reached.",
}


class State(StrEnum):
    """How a part is; only faults change the exit code."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found and, unless all is well, what to do about it."""

    part: str
    state: State
    found: str
    remedy: str = ""
    exit: Exit = Exit.SETUP
    seconds: float = 0.0


Check = Callable[["Settings"], Finding]
COLUMNS = (
    show.Column(title="part"),
    show.Column(title="state", styled=True),
    show.Column(title="found"),
)


def doctor(
    json: Json = False,
    load: Annotated[
        bool, typer.Option("--load/--no-load", help="Load the model, which takes seconds.")
    ] = True,
    show_settings: Annotated[
        bool, typer.Option("--settings", help="Show every setting, defaults included.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the running workers, and what waits for them.")
    ] = False,
) -> None:
    """Check the settings, the model, the database, the store and the broker.

    Says what to do about each fault. The exit code is 0 when there is none, 5 when something is
    set up wrongly, and 6 when a service cannot be reached or, with --live, no worker answers.
    """
    from worker.errors import SettingsError

    if live:
        raise typer.Exit(live_report(json))
    settings: Settings | None = None
    try:
        settings = opening.settings(logs="critical")
        findings = [_settings(settings), *_exposures(settings), *_findings(settings, load)]
    except SettingsError as error:
        findings = [
            Finding(part="settings", state=State.FAULT, found=problem, remedy=REMEDIES["settings"])
            for problem in error.problems
        ]
    faults = [finding for finding in findings if finding.state is State.FAULT]
    if json:
        _as_json(settings, findings)
    else:
        _tell(settings, findings, show_settings)
    if faults:
        raise typer.Exit(min(finding.exit for finding in faults))


def _findings(settings: Settings, load: bool) -> Iterator[Finding]:
    checks: tuple[tuple[str, Check, float], ...] = (
        ("model", _model if load else _checkpoint_file, LOADING),
        ("database", _database, PATIENCE),
        ("chain", _chain, PATIENCE),
        ("references", _references, PATIENCE),
        ("jobs", _jobs, PATIENCE),
        ("store", _store, PATIENCE),
        ("buckets", _buckets, PATIENCE),
        ("broker", _broker, PATIENCE),
    )
    needs = {"references": ("model", "database"), "jobs": ("database",)}
    missing: set[str] = set()
    for part, check, patience in checks:
        lacking = " and ".join(need for need in needs.get(part, ()) if need in missing)
        if lacking:
            found = f"Not looked at: it needs the {lacking}."
            yield Finding(part=part, state=State.SKIPPED, found=found)
            continue
        finding = _timed(part, check, settings, patience)
        if finding.state is not State.OK:
            missing.add(part)
        yield finding


def _timed(part: str, check: Check, settings: Settings, patience: float) -> Finding:
    """The check's finding; one that hangs is given up, and one that fails is a fault."""
    results: list[Finding] = []
    began = time.monotonic()

    def run() -> None:
        try:
            results.append(check(settings))
        except Exception as error:
            results.append(_fault(part, error))

    runner = threading.Thread(target=run, daemon=True)
    runner.start()
    runner.join(patience)
    seconds = round(time.monotonic() - began, 2)
    found = results[0] if results else _silent(part, patience)
    return replace(found, part=part, seconds=seconds)


def _fault(part: str, error: Exception) -> Finding:
    code = exits.for_error(error)
    known = code is not None
    words = exits.sentence(error) if known else f"{type(error).__name__}: {error}"
    service = code is Exit.UNAVAILABLE
    return Finding(
        part=part,
        state=State.FAULT,
        found=words,
        remedy=REMEDIES[part] if known else "This is unexpected; `sigctl --debug` may tell more.",
        exit=Exit.UNAVAILABLE if service else Exit.SETUP,
    )


def _silent(part: str, patience: float) -> Finding:
    found = f"There was no answer within {patience:.0f} s."
    return Finding(
        part=part, state=State.FAULT, found=found, remedy=REMEDIES[part], exit=Exit.UNAVAILABLE
    )


def _settings(settings: Settings) -> Finding:
    given = [value.variable for value in settings.describe() if value.given]
    found = f"{len(given)} set: {', '.join(given)}." if given else "None set; defaults apply."
    return Finding(part="settings", state=State.OK, found=found)


def _exposures(settings: Settings) -> list[Finding]:
    from worker.exposure import exposed

    return [
        Finding(part="encryption", state=State.WARNING, found=found) for found in exposed(settings)
    ]


def _model(settings: Settings) -> Finding:
    from worker.runtime import get_runtime

    model = get_runtime(settings).embedder
    found = (
        f"{model.source}: {model.backbone}, {model.preprocessing.label}, threshold "
        f"{model.threshold:.3f}, {_operating_point(model.scoring, settings)}, "
        f"model {show.short(model.model_id)}; {model.engine.name}, since {model.engine.why}."
    )
    if settings.checkpoint.is_file() and _sha256(settings.checkpoint) != model.model_id:
        found += (
            f" SIGCTL_CHECKPOINT names another one, {settings.checkpoint}, which does not decide:"
            " `sigctl models add` registers it, `sigctl models activate` lets it decide."
        )
    return Finding(part="model", state=State.OK, found=found)


def _operating_point(scoring: Scoring, settings: Settings) -> str:
    """Where decisions are made. Raises CheckpointError for a point that the model lacks."""
    point = settings.operating_point
    scoring.band(1, point)
    if point is None:
        return "balanced, without review"
    if not scoring.accept:
        return "balanced, without review (the model has no operating points)"
    return f"operating point {point}"


def _checkpoint_file(settings: Settings) -> Finding:
    pinned = settings.checkpoint_sha256
    if settings.checkpoint.is_file() and pinned not in (None, _sha256(settings.checkpoint)):
        found = f"{settings.checkpoint} is not the checkpoint that SIGCTL_CHECKPOINT_SHA256 names."
        return Finding(part="model", state=State.FAULT, found=found, remedy=REMEDIES["model"])
    if settings.checkpoint.is_file():
        size = settings.checkpoint.stat().st_size / 2**20
        found = f"{settings.checkpoint}, {size:.1f} MiB, not loaded."
        return Finding(part="model", state=State.OK, found=found)
    found = f"There is no checkpoint {settings.checkpoint}."
    return Finding(part="model", state=State.FAULT, found=found, remedy=REMEDIES["model"])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _database(settings: Settings) -> Finding:
    from worker.settings import mask_url

    where = mask_url(settings.database_url)
    if opening.is_default(settings) and not opening.file_of(settings.database_url).exists():
        found = f"{where} does not exist yet; the first command that needs it makes it."
        return Finding(part="database", state=State.SKIPPED, found=found)
    state = schema.inspect(settings.database_url)
    schema.check_known(state)
    if state.up_to_date:
        found = f"{where}, revision {state.current}."
        return Finding(part="database", state=State.OK, found=found)
    found = f"{where} has revision {state.current or 'none'}; the newest is {state.newest}."
    remedy = "Run `sigctl db upgrade`."
    return Finding(part="database", state=State.FAULT, found=found, remedy=remedy)


def _chain(settings: Settings) -> Finding:
    """Whether the record is sealed with a key, so that a forger cannot seal it again."""
    from worker.cli.evidence import UNKEYED
    from worker.keys import chain_keys

    keys = chain_keys(settings)
    if settings.chain_key is None:
        remedy = REMEDIES["chain"]
        return Finding(part="chain", state=State.WARNING, found=UNKEYED, remedy=remedy)
    found = f"The record is sealed with the key {keys.current.id}; {len(keys.old)} older ones."
    return Finding(part="chain", state=State.OK, found=found)


def _references(settings: Settings) -> Finding:
    """Whether the signers in use can be compared by the model in use."""
    from sqlalchemy import exists, func, select

    from storage import models
    from storage.tables import Embedding, Reference, Signer

    with _session(settings) as session:
        model_id = models.lineup(session).active or _sha256(settings.checkpoint)
    live = (Reference.signer_id == Signer.id) & Reference.retired_at.is_(None)
    seen = (Embedding.reference_id == Reference.id) & (Embedding.model_id == model_id)
    usable = exists().where(live, seen)
    in_use = select(func.count()).select_from(Signer).where(Signer.retired_at.is_(None))
    with _session(settings) as session:
        total = session.scalar(in_use) or 0
        ready = session.scalar(in_use.where(usable)) or 0
    found = f"{ready} of {total} signers in use have references that this model has embedded."
    if ready == total:
        return Finding(part="references", state=State.OK, found=found)
    remedy = REMEDIES["references"]
    return Finding(part="references", state=State.WARNING, found=found, remedy=remedy)


def _jobs(settings: Settings) -> Finding:
    from storage import jobs

    with _session(settings) as session:
        waiting = len(jobs.stale(session, STALE))
        running = len(jobs.stale(session, STALE, statuses=("running",)))
    minutes = STALE.total_seconds() / 60
    found = f"{waiting} queued and {running} running for longer than {minutes:.0f} minutes."
    if not waiting + running:
        return Finding(part="jobs", state=State.OK, found=found)
    return Finding(part="jobs", state=State.WARNING, found=found, remedy=REMEDIES["jobs"])


def _store(settings: Settings) -> Finding:
    from worker.readiness import hurried
    from worker.runtime import make_images

    make_images(hurried(settings)).check()
    return Finding(part="store", state=State.OK, found=f"{settings.store} can be written.")


def _buckets(settings: Settings) -> Finding:
    """Whether the buckets that documents come from can be reached; folders are checked at start."""
    from worker.readiness import hurried
    from worker.runtime import make_images

    for bucket in settings.buckets:
        make_images(hurried(settings).model_copy(update={"store": f"s3://{bucket}"})).check()
    if not settings.buckets:
        found = "No bucket is named, so s3:// documents are refused."
        return Finding(part="buckets", state=State.SKIPPED, found=found)
    found = f"{', '.join(settings.buckets)} can be reached."
    return Finding(part="buckets", state=State.OK, found=found)


def _broker(settings: Settings) -> Finding:
    if settings.broker_url is None:
        found = "None is configured: `submit` decides in its own process, `worker` cannot start."
        return Finding(part="broker", state=State.SKIPPED, found=found)
    from worker.app import make_app
    from worker.settings import mask_url

    app = make_app(settings)
    where = mask_url(settings.broker_url)
    reach(app, where)
    workers = app.control.inspect(timeout=1.0).ping() or {}
    if workers:
        found = f"{where}, {len(workers)} workers answer: {', '.join(sorted(workers))}."
        return Finding(part="broker", state=State.OK, found=found)
    found = f"{where} answers, but no worker does."
    remedy = "Start one with `sigctl worker`; until then jobs wait in the queue."
    return Finding(part="broker", state=State.WARNING, found=found, remedy=remedy)


@contextmanager
def _session(settings: Settings) -> Iterator[Session]:
    from worker.runtime import get_runtime
    from worker.transactions import transaction

    with transaction(get_runtime(settings).sessions) as session:
        yield session


def _as_json(settings: Settings | None, findings: list[Finding]) -> None:
    healthy = not any(finding.state is State.FAULT for finding in findings)
    names = ("part", "state", "found", "remedy", "seconds")
    checks = [{name: getattr(finding, name) for name in names} for finding in findings]
    values = settings.describe() if settings else []
    shown = {value.variable: value.value for value in values}
    show.as_json({"healthy": healthy, "checks": checks, "settings": shown})


def _tell(settings: Settings | None, findings: list[Finding], show_settings: bool) -> None:
    if settings and show_settings:
        columns = (show.Column(title="setting"), show.Column(title="value"), show.Column(title=""))
        rows = ((v.variable, v.value, "" if v.given else "default") for v in settings.describe())
        show.table(columns, rows)
    show.table(COLUMNS, ((f.part, f.state.value, f.found) for f in findings))
    for finding in findings:
        if finding.remedy:
            show.say(f"{finding.part}: {finding.remedy}")
    faults = sum(finding.state is State.FAULT for finding in findings)
    show.say(f"{faults} {'fault' if faults == 1 else 'faults'}." if faults else "No fault.")
