"""The beat: jobs that Redis has forgotten are looked for again and again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from celery import bootsteps
from celery.beat import EmbeddedService
from celery.schedules import schedstate, schedule

from worker.broker import DELAY
from worker.settings import Settings

REQUEUE_TASK = "sigctl.requeue"
LOOKS = 60  # seconds between two looks at the schedule, at most


class Every(schedule):  # type: ignore[misc]
    """Celery's interval, which does not wait for a future that a wrong clock once told of."""

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        """Whether it is time, and after how many seconds to look again."""
        if self.maybe_make_aware(last_run_at) > self.maybe_make_aware(self.now()):
            return schedstate(is_due=True, next=self.seconds)  # type: ignore[no-any-return]
        return super().is_due(last_run_at)  # type: ignore[no-any-return]


class BeatStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Part of Celery's worker: the beat as a thread.

    Celery's own is a process, which outlives a worker that is killed, and goes on beating.
    """

    requires = ("celery.worker.components:Pool",)  # which forks before there are threads

    def create(self, worker: Any) -> Any:
        """The thread, not yet started; it keeps its schedule in memory."""
        return EmbeddedService(worker.app, thread=True, scheduler_cls="celery.beat:Scheduler")


def configuration(settings: Settings) -> dict[str, Any]:
    """What Celery's beat is to do, embedded or by itself."""
    interval = settings.requeue_after / 2
    requeue = {
        "task": REQUEUE_TASK,
        "schedule": Every(interval),
        # Put before what waits, since a long queue is when jobs are missed; and rounds that found
        # no worker do not add up.
        "options": {"headers": {DELAY: 0}, "expires": interval},
    }
    return {
        "beat_schedule": {"requeue": requeue},
        "beat_max_loop_interval": min(interval, LOOKS),
    }
