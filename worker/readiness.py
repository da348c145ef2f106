"""Whether this worker could decide a document now: each part looked at again and again.

Every part has a thread of its own, so that one that hangs keeps nobody waiting: what is asked is
answered from the last look, and a look that does not come back is an answer as well. The watch has
connections of its own and takes none from the jobs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import text

from migrations import upgrade
from model.errors import CheckpointError
from storage import backlog
from storage.database import Sessions, make_sessions
from storage.errors import DatabaseNotMigrated
from storage.tables import utc_now
from worker import metrics
from worker.logs import get_logger
from worker.queues import Queues
from worker.runtime import Runtime, make_images
from worker.settings import Settings
from worker.transactions import transaction

EVERY = 3.0
SILENCE = 15.0
"""Seconds without an answer after which a part counts as away."""
HURRY = 2.0

log = get_logger(__name__)


class Watch:
    """Looks at one part every few seconds; `look` raises when the part cannot be used."""

    def __init__(self, part: str, look: Callable[[], None]) -> None:
        self._part, self._look = part, look
        self._answered = time.monotonic()
        self._fault: str | None = f"The {part} has not been looked at yet."
        self._stopped = threading.Event()
        metrics.READY.labels(part).set_function(lambda: float(self.fault() is None))
        threading.Thread(target=self._work, name=f"watch-{part}", daemon=True).start()

    def fault(self) -> str | None:
        """What is wrong, in a sentence that tells a stranger nothing else."""
        silent = time.monotonic() - self._answered
        if silent > SILENCE:
            return f"The {self._part} has not answered for {silent:.0f} s."
        return self._fault

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                self._look()
            except Exception as error:
                self._note(error)
            else:
                self._note(None)
            self._stopped.wait(EVERY)

    def _note(self, error: Exception | None) -> None:
        """Keep the answer; the log, which is not for strangers, gets the error's own words."""
        before, self._answered = self._fault, time.monotonic()
        code = getattr(error, "code", type(error).__name__)
        self._fault = None if error is None else f"The {self._part} cannot be used ({code})."
        if error is not None and self._fault != before:
            log.warning("part_away", part=self._part, code=code, reason=str(error)[:500])
        elif error is None and before is not None:
            log.info("part_ready", part=self._part)


def watches(settings: Settings, runtime: Runtime) -> list[Watch]:
    """A watch for everything that a job needs. In prefork each child loads its own model."""
    found = [
        Watch("database", _database(make_sessions(settings.database_url))),
        Watch("broker", _broker(Queues(settings))),
        Watch("store", make_images(hurried(settings)).check),
    ]
    return (
        found if settings.pool == "prefork" else [*found, Watch("model", lambda: _model(runtime))]
    )


def hurried(settings: Settings) -> Settings:
    """The same store, asked without patience."""
    hurry = {"s3_connect_timeout": HURRY, "s3_read_timeout": HURRY, "s3_retries": 0}
    return settings.model_copy(update=hurry)


def _database(sessions: Sessions) -> Callable[[], None]:
    expected = upgrade.head()
    oldest: datetime | None = None

    def age() -> float:
        return 0.0 if oldest is None else max(0.0, (utc_now() - oldest).total_seconds())

    def look() -> None:
        nonlocal oldest
        with transaction(sessions) as session:
            revision = session.scalar(text("SELECT version_num FROM alembic_version"))
            oldest = backlog.oldest_undecided(session)
        if revision != expected:
            raise DatabaseNotMigrated(
                f"the database has revision {revision}, this worker was made for {expected}"
            )

    metrics.QUEUE_AGE.set_function(age)  # goes on growing while the database is away
    return look


def _model(runtime: Runtime) -> None:
    if runtime.loaded is None:
        raise CheckpointError("the model is not loaded")


def _broker(queues: Queues) -> Callable[[], None]:
    def look() -> None:
        found = queues.look()
        for (queue, priority), messages in found.waiting.items():
            metrics.QUEUE_MESSAGES.labels(queue, priority).set(messages)
        metrics.MESSAGES_HELD.set(found.held)
        metrics.MESSAGES_LATER.set(found.later)

    return look
