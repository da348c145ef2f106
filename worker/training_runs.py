"""Retraining by whichever worker takes it: asked for in a row, sent as a message that names it.

The message holds the run's id and nothing else, so that nobody who can write to the broker can make
a worker read a folder: corpora are the worker's own. A run is resumed from its folder, by the same
worker or, where `SIGCTL_RUNS` is shared, by another; two are never at it at once.
"""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from model.errors import ModelError
from storage import runs
from storage.errors import RunEnded, RunHeld, StorageError, Transient, UnknownRun
from storage.runs import Hold
from storage.tables import TrainingRun
from worker.delivery import INTERNAL_ERROR, Again, pause
from worker.errors import BrokerUnavailable, NoCorpora, WorkerError
from worker.logs import get_logger
from worker.retrain_run import Asked, Cancelled, RunFolder, Watch, asked_from
from worker.runtime import Runtime
from worker.signing import FIELD, is_genuine, signed
from worker.transactions import transaction

if TYPE_CHECKING:
    from celery import Celery

TASK = "sigctl.train.retrain"
BEAT = 5.0
"""Seconds between two words about a run; the silence that loses it is far longer."""

FIELDS = {"run_id", FIELD}
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = get_logger(__name__)


class Stopping(Exception):
    """The worker is to stop; the run waits for another."""


class Lost(Exception):
    """Another worker has taken the run."""


def request(asked: Asked, runtime: Runtime) -> str:
    """Record what is wanted and send it to the workers that train; returns the run's id.

    Raises NoBroker, DatabaseUnavailable, and BrokerUnavailable, after which nothing will be done.
    """
    from worker.app import make_app

    app = make_app(runtime.settings)
    run_id = str(uuid.uuid4())
    options = {name: value for name, value in asked.as_dict().items() if name != "corpora"}
    with transaction(runtime.sessions) as session:
        runs.make(session, run_id, options=options, by=asked.by)
    try:
        _send(app, run_id, runtime)
    except (OperationalError, OSError) as error:
        with transaction(runtime.sessions) as session:
            runs.cancel(session, run_id)
        raise BrokerUnavailable("The broker does not answer, so nothing was begun.") from error
    return run_id


def requeue(runtime: Runtime, older_than: timedelta | None = None) -> list[str]:
    """Send again the runs that nothing was heard of for so long and that the broker has forgotten.

    The default is SIGCTL_REQUEUE_AFTER. Returns their ids, oldest first. Sent twice, a run is done
    once. Raises BrokerUnavailable.
    """
    if older_than is None:
        older_than = timedelta(seconds=runtime.settings.requeue_after)
    with transaction(runtime.sessions) as session:
        unheard = runs.unheard(session, older_than)
    if not unheard or runtime.settings.broker_url is None:
        return []
    from worker.app import make_app, queues
    from worker.waiting import named

    app = make_app(runtime.settings)
    known = named(app, queues(runtime.settings)["train"], "run_id")
    lost = [run_id for run_id in unheard if run_id not in known]
    try:
        for run_id in lost:
            _send(app, run_id, runtime)
    except (OperationalError, OSError) as error:
        raise BrokerUnavailable("The broker does not answer.") from error
    return lost


def _send(app: Celery, run_id: str, runtime: Runtime) -> None:
    kwargs = signed({"run_id": run_id}, runtime.settings.message_key)
    app.send_task(TASK, kwargs=kwargs, task_id=run_id)


def deliver(
    message: Mapping[str, Any], runtime: Runtime, *, retries: int, stopping: threading.Event
) -> Again | None:
    """Do the run that a message names, or go on with it; None when nothing is left to do.

    Never raises for what is in the message. `stopping` tells that the worker is to end.
    """
    if not is_genuine(message, runtime.settings.message_keys):
        log.error("message_forged", signed=FIELD in message)
        return None
    run_id = message.get("run_id")
    if not isinstance(run_id, str) or not _ID.fullmatch(run_id) or message.keys() - FIELDS:
        log.error("message_refused", reason="it names no training run, or more than that")
        return None
    try:
        with transaction(runtime.sessions) as session:
            hold = runs.take(session, run_id)
            options = runs.get(session, run_id).options
    except (UnknownRun, RunEnded) as error:
        log.info("training_run_left", run=run_id, reason=str(error))
        return None
    except RunHeld as error:  # its worker may be dead, which shows after the lease only
        return Again(delay=runs.LEASE.total_seconds(), counted=True, error=error)
    except Transient as error:
        return Again(delay=pause(runtime.settings, retries), counted=False, error=error)
    return _work(run_id, hold, options, runtime, retries, stopping)


def _work(
    run_id: str,
    hold: Hold,
    options: Mapping[str, Any],
    runtime: Runtime,
    retries: int,
    stopping: threading.Event,
) -> Again | None:
    settings = runtime.settings
    folder = RunFolder(settings.runs / run_id)
    held = _Held(hold, runtime, stopping)
    try:
        with held.kept():
            candidate = _retrain(folder, options, runtime, held)
        held.end("finish", candidate_id=candidate)
    except Lost as error:
        log.warning("training_run_lost", run=run_id, reason=str(error))
    except Stopping as error:
        held.end("hand_back")
        return Again(delay=0.0, counted=False, error=error)
    except Cancelled:
        folder.clear()
        held.end("end_cancelled")
        log.info("training_run_cancelled", run=run_id)
    except Transient as error:
        if retries < settings.max_retries:
            held.end("hand_back")
            return Again(delay=pause(settings, retries), counted=True, error=error)
        _fail(held, folder, error)
    except Exception as error:
        _fail(held, folder, error)
    return None


def _retrain(folder: RunFolder, options: Mapping[str, Any], runtime: Runtime, held: _Held) -> str:
    """The candidate's digest."""
    from worker.retrain import retrain

    corpora = tuple(map(str, runtime.settings.corpora))
    if not corpora:
        raise NoCorpora("This worker has no base corpus: set SIGCTL_CORPORA where it trains.")
    asked = replace(asked_from({**options, "corpora": ()}), corpora=corpora)
    watch = Watch(say=held.say, progress=held.note, go_on=held.go_on)
    cache = runtime.settings.runs / "cache"
    return retrain(folder, asked, runtime=runtime, cache=cache, watch=watch).candidate


def _fail(held: _Held, folder: RunFolder, error: Exception) -> None:
    folder.clear()
    foreseen = isinstance(error, ModelError | StorageError | WorkerError)
    log.error("training_run_failed", reason=str(error), exc_info=not foreseen)
    code = getattr(error, "code", INTERNAL_ERROR) if foreseen else INTERNAL_ERROR
    told = (
        str(error)
        if foreseen
        else (
            f"An unexpected {type(error).__name__} ended the run; the worker's log has the details."
        )
    )
    held.end("fail", code=code, message=told)


class _Held:
    """A worker's hold of a run: it says every few seconds that it lives and how far it is."""

    def __init__(self, hold: Hold, runtime: Runtime, stopping: threading.Event) -> None:
        self._hold, self._sessions, self._stopping = hold, runtime.sessions, stopping
        self._lock = threading.Lock()
        self._progress: dict[str, Any] = {"doing": "Beginning", "done": 0, "total": 0}
        self._over = threading.Event()
        self._fault: Exception | None = None

    def say(self, sentence: str) -> None:
        """A sentence for the log, and for whoever looks."""
        log.info("retraining", run=self._hold.run_id, said=sentence)
        self._progress = {**self._progress, "said": sentence}

    def note(self, doing: str, done: int, total: int) -> None:
        """How far the run is."""
        self._progress = {**self._progress, "doing": doing, "done": done, "total": total}

    def go_on(self) -> None:
        """Raises Lost, Cancelled or Stopping when the run is not to go on here."""
        if self._fault is not None:
            raise self._fault
        if self._stopping.is_set():
            raise Stopping("the worker stops")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps the hold while the work is done."""
        thread = threading.Thread(target=self._keep, name="training-run", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _keep(self) -> None:
        while not self._over.wait(BEAT):
            try:
                with self._lock, transaction(self._sessions) as session:
                    self._hold = runs.report(session, self._hold, self._progress)
                    if runs.is_cancelled(session, self._hold.run_id):
                        self._fault = Cancelled("The run was cancelled.")
            except RunHeld as error:
                self._fault = Lost(str(error))
                return
            except Transient as error:
                log.warning("training_run_unheard", reason=str(error))

    def end(self, how: str, **what: Any) -> None:
        """The last word about the run, with the last progress; said again while nobody hears it."""
        while True:
            try:
                with self._lock, transaction(self._sessions) as session:
                    hold = runs.report(session, self._hold, self._progress)
                    getattr(runs, how)(session, hold, **what)
                return
            except RunHeld as error:
                log.warning("training_run_lost", run=self._hold.run_id, reason=str(error))
                return
            except Transient as error:
                log.warning("training_run_unheard", reason=str(error))
                if self._stopping.wait(random.uniform(1, 3)):  # noqa: S311 - spreads load
                    return


def wait(run_id: str, runtime: Runtime, *, every: float = 1.0) -> Iterator[TrainingRun]:
    """The run as it stands, again and again, until it has ended. Raises UnknownRun."""
    while True:
        with transaction(runtime.sessions) as session:
            run = runs.get(session, run_id)
        yield run
        if run.state not in runs.UNDER_WAY:
            return
        time.sleep(every)
