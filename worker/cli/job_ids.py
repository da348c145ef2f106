"""What a person types for a job, the id or its beginning, made into the whole id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.exits import CommandError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or the beginning of it.")]


def whole(session: Session, job_id: str) -> str:
    """The id that begins so, or the text itself when there is none or it is one already.

    Raises CommandError when several begin so.
    """
    from sqlalchemy import select

    from storage.tables import Job

    job_id = job_id.removesuffix("…")  # as lists shorten it
    if session.get(Job, job_id) is not None:  # beginnings are looked for among all jobs
        return job_id
    query = select(Job.id).where(Job.id.startswith(job_id, autoescape=True)).limit(3)
    found = list(session.scalars(query.order_by(Job.id)))
    if not found:
        return job_id
    if len(found) > 1:
        raise CommandError(
            f"Several jobs begin with {job_id!r}, {found[0]} and {found[1]} among them."
        )
    return found[0]
