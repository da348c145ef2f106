"""`sigctl jobs`: what waits, what failed, and asking again."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import audit, moments, opening, show
from worker.cli.exits import CommandError
from worker.cli.options import Json

if TYPE_CHECKING:
    from storage.tables import Job

app = typer.Typer(help="See to jobs that wait or have failed.", no_args_is_help=True)


class Status(StrEnum):
    """What becomes of a job: `done` is one with a verdict, `failed` one with an error."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


WITHOUT_VERDICT = (Status.QUEUED, Status.RUNNING, Status.FAILED)
COLUMNS = (
    show.Column(title="last heard of", whole=True),
    show.Column(title="job", whole=True),
    show.Column(title="signer"),
    show.Column(title="document"),
    show.Column(title="status", whole=True, styled=True),
    show.Column(title="deliveries", right=True),
)
Code = Annotated[str | None, typer.Option(help="Only failures with this code, such as poison.")]


@app.command("list")
def list_(
    status: Annotated[
        list[Status] | None, typer.Option(help="Only these; else all without a verdict.")
    ] = None,
    code: Code = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Not heard of for longer than this: 10m.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    json: Json = False,
) -> None:
    """List jobs without a verdict, those heard of last first."""
    from storage import jobs

    before = None if older_than is None else datetime.now(UTC) - moments.duration(older_than)
    with opening.transaction() as session:
        found = jobs.search(
            session,
            statuses=[one.value for one in status or WITHOUT_VERDICT],
            error_code=code,
            before=before,
            limit=limit,
        )
    if json:
        show.as_json([as_dict(job) | {"error_code": failed} for job, failed in found])
    elif not found:
        show.say("No job matches.")
    else:
        show.table(COLUMNS, [_row(job, failed) for job, failed in found])
        if len(found) == limit:
            show.note(f"These are the latest {limit}; --limit shows more.")


app.command("show")(audit.show_)


@app.command("replay")
def replay(
    job_ids: Annotated[
        list[str] | None, typer.Argument(metavar="JOB...", help="The jobs to ask again.")
    ] = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Ask again what jobs failed at, once the cause is gone.

    A failure stays on record: a job that failed gets a successor, such as cheque-17~2 after
    cheque-17. A job without a decision is sent again as it is.
    """
    if not job_ids and code is None:
        raise CommandError("Name the jobs to replay, or the --code that they failed with.")
    from worker import client

    runtime = opening.runtime()
    wanted = job_ids or _not_yet_replayed(code or "")
    asked = {job_id: client.replay(job_id, settings=runtime.settings) for job_id in wanted}
    if json:
        show.as_json({"replayed": asked})
        return
    for job_id, successor in asked.items():
        known_as = "" if successor == job_id else f" as {successor}"
        show.say(f"{job_id} is asked again{known_as}.")
    if not asked:
        show.say(f"No job failed with the code {code} that has not been replayed.")


def _not_yet_replayed(code: str) -> list[str]:
    """Jobs that failed so and have no successor, oldest first."""
    from storage import jobs
    from worker.client import successor

    with opening.transaction() as session:
        found = jobs.search(session, statuses=[Status.FAILED.value], error_code=code)
        failed = [job.id for job, _ in reversed(found)]
        replayed = jobs.known(session, map(successor, failed))
    return [job_id for job_id in failed if successor(job_id) not in replayed]


def as_dict(job: Job) -> dict[str, Any]:
    """Every field of a job by name."""
    names = ("id", "signer_id", "document", "page", "region", "status", "deliveries")
    times = ("created_at", "updated_at")
    return {name: getattr(job, name) for name in (*names, *times)}


def _row(job: Job, code: str | None) -> tuple[object, ...]:
    return (
        show.when(job.updated_at),
        show.head(job.id),
        show.head(job.signer_id, 24),
        show.tail(job.document, 16),
        code or job.status,
        job.deliveries,
    )
