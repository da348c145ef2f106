"""Keeps a worker at the model that the registry names, without a restart.

Each second it looks who is active. A model that is on its way in is loaded and tried out before
its time, so that the change itself is that of one variable, between one batch and the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from model.errors import ModelError
from storage.errors import StorageError, Transient
from worker import metrics
from worker.logs import get_logger

if TYPE_CHECKING:
    from storage.models import Lineup
    from worker.runtime import Runtime

EVERY = 1.0
AGAIN = 10.0
"""Seconds before a model that could not be had is tried again."""

log = get_logger(__name__)


class Succession:
    """A thread that follows the registry until it is stopped."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stopped = threading.Event()
        self._failed: dict[str, float] = {}
        self._thread = threading.Thread(target=self._work, name="succession", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; a model that is being loaded is not waited for."""
        self._stopped.set()
        self._thread.join(2 * EVERY)

    def _work(self) -> None:
        while not self._stopped.wait(EVERY):
            try:
                self._look()
            except Transient:  # the readiness probe tells of it
                continue
            except Exception:
                log.exception("succession_failed")

    def _look(self) -> None:
        before, lineup = self._runtime.loaded, self._runtime.models.lineup()
        for model_id in lineup.embedding:
            self._try(model_id, lambda: self._load(model_id, lineup))  # noqa: B023 - at once
        now = self._runtime.loaded
        if now is not None and before is not now and not self._stopped.is_set():
            self._runtime.follow()
            metrics.loaded(now)
            log.info("model_switched", model=now.model_id)

    def _load(self, model_id: str, lineup: Lineup) -> None:
        """Have the model ready to embed; the active one is used from now on."""
        self._runtime.models.get(model_id)
        if model_id == lineup.active:
            self._runtime.models.use(lineup)

    def _try(self, model_id: str, act: Callable[[], object]) -> None:
        """Do something with a model; one that cannot be had is reported, and tried again later."""
        if time.monotonic() < self._failed.get(model_id, 0.0):
            return
        try:
            act()
        except Transient:
            raise
        except (ModelError, StorageError) as error:
            if model_id not in self._failed:
                log.error("model_unavailable", model=model_id, code=error.code, reason=str(error))
            self._failed[model_id] = time.monotonic() + AGAIN
        else:
            self._failed.pop(model_id, None)
