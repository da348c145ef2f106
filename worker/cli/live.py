"""`sigctl doctor --live`: what the running workers say, and what waits for them, for how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from worker.cli import exits, opening, show
from worker.cli.exits import Exit
from worker.cli.work import reach

if TYPE_CHECKING:
    from worker.queues import Backlog
    from worker.settings import Settings
    from worker.status import Status

QUIET = timedelta(minutes=10)
RECENT = timedelta(hours=1)

NOBODY = (
    "No worker answers: start one with `sigctl worker`, or look into the log of one that should"
    " run. Until then jobs wait on the queue."
)

WORKERS = (
    show.Column(title="worker"),
    show.Column(title="model", whole=True),
    show.Column(title="engine"),
    show.Column(title="pool", whole=True),
    show.Column(title="at work", right=True),
)
QUEUES = (
    show.Column(title="queue"),
    show.Column(title="priority"),
    show.Column(title="waiting", right=True),
)


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """What the record says: seconds that the oldest undecided job is old, None when all are
    decided; undecided jobs that nothing was heard of for ten minutes; failures of the last hour.
    """

    oldest: float | None
    quiet: int
    failed: int


def report(json: bool) -> Exit:
    """Ask, print, and say with which code to end. Raises NoBroker and BrokerUnavailable."""
    from storage.errors import StorageError
    from worker import queues, status
    from worker.app import make_app
    from worker.settings import mask_url

    settings = opening.settings(logs="critical")
    reach(make_app(settings), mask_url(settings.broker_url or ""))
    workers, backlog = status.ask(settings), queues.look(settings)
    jobs, away = None, None
    try:
        jobs = _jobs(settings)
    except StorageError as error:
        away = f"The record cannot be asked: {exits.sentence(error)}"
    warnings = list(_warnings(workers, jobs)) + ([away] if away else [])
    (_as_json if json else _tell)(workers, backlog, jobs, warnings)
    return Exit.DONE if workers and jobs else Exit.UNAVAILABLE


def _jobs(settings: Settings) -> Jobs:
    from storage import backlog
    from storage.tables import utc_now
    from worker.runtime import get_runtime
    from worker.transactions import transaction

    with transaction(get_runtime(settings).sessions) as session:
        oldest = backlog.oldest_undecided(session)
        return Jobs(
            oldest=None if oldest is None else max(0.0, (utc_now() - oldest).total_seconds()),
            quiet=backlog.stale(session, QUIET),
            failed=backlog.failed_since(session, RECENT),
        )


def _warnings(workers: Sequence[Status], jobs: Jobs | None) -> Iterator[str]:
    if not workers:
        yield NOBODY
    users: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        if worker.fault is not None:
            yield f"{worker.name}: {worker.fault}"
        if worker.model is not None:
            users[worker.model].append(worker.name)
    if len(users) > 1:
        each = "; ".join(f"{show.short(model)} on {', '.join(on)}" for model, on in users.items())
        yield (
            f"The workers use {len(users)} models, so a verdict depends on who takes the job:"
            f" {each}. They follow `sigctl models activate` within seconds; the log of one that"
            " does not says why."
        )
    if jobs is not None and jobs.quiet:
        yield (
            f"{jobs.quiet} undecided jobs have not been heard of for ten minutes; `sigctl requeue`"
            " sends those again that were lost."
        )


def _as_json(
    workers: Sequence[Status], backlog: Backlog, jobs: Jobs | None, warnings: Sequence[str]
) -> None:
    record: dict[str, Any] | None = None
    if jobs is not None:
        record = {
            "oldest_undecided_seconds": jobs.oldest,
            "quiet_for_ten_minutes": jobs.quiet,
            "failed_within_an_hour": jobs.failed,
        }
    waiting = [
        {"queue": queue, "priority": priority, "messages": messages}
        for (queue, priority), messages in backlog.waiting.items()
    ]
    show.as_json(
        {
            "workers": [asdict(worker) for worker in workers],
            "queues": waiting,
            "held_by_workers": backlog.held,
            "to_be_tried_again": backlog.later,
            "jobs": record,
            "warnings": list(warnings),
        }
    )


def _tell(
    workers: Sequence[Status], backlog: Backlog, jobs: Jobs | None, warnings: Sequence[str]
) -> None:
    if workers:
        rows = ((w.name, show.short(w.model), w.engine, w.pool, w.at_work) for w in workers)
        show.table(WORKERS, rows)
    show.table(QUEUES, ((*key, messages) for key, messages in backlog.waiting.items()))
    show.say(f"Held by workers: {backlog.held}. To be tried again later: {backlog.later}.")
    if jobs is not None:
        if jobs.oldest is None:
            show.say("All jobs are decided.")
        else:
            show.say(f"The oldest undecided job was submitted {jobs.oldest:.0f} s ago.")
        show.say(f"Jobs that failed within an hour: {jobs.failed}.")
    for warning in warnings:
        show.say(warning, style="yellow")
