"""`sigctl audit label` and `labels`: what people found out about documents that were decided."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import moments, opening, show
from worker.cli.job_ids import JobId, whole
from worker.cli.options import Json

if TYPE_CHECKING:
    from storage.labels import Label


class Finding(StrEnum):
    """What a signature turned out to be."""

    GENUINE = "genuine"
    FORGED = "forged"


COLUMNS = (
    show.Column(title="labelled at", whole=True),
    show.Column(title="job", whole=True),
    show.Column(title="label", whole=True),
    show.Column(title="by"),
    show.Column(title="note"),
)


def label(
    job_id: JobId,
    finding: Annotated[Finding, typer.Argument(help="What the signature turned out to be.")],
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who found it out.")] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="How it was found out.")] = None,
    json: Json = False,
) -> None:
    """Record what a person found out about a decided document, for training and for auditors.

    The decision stays as it is. A label is never changed: a later one stands beside it and counts.
    """
    from storage import labels

    with opening.transaction() as session:
        before = labels.of_job(session, job := whole(session, job_id))
        put = labels.put(session, job, finding.value, by=by, note=note)
    if json:
        show.as_json(as_dict(put))
        return
    earlier = f" It was labelled {before[-1].finding} before." if before else ""
    show.say(f"Job {job} is labelled {put.finding}.{earlier}")


def list_(
    since: Annotated[
        str | None, typer.Option(help="Labelled from here on: 2026-11-23 or 24h.", metavar="TIME")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Labelled up to here; a bare date includes it.", metavar="TIME"),
    ] = None,
    json: Json = False,
) -> None:
    """List the jobs that people have labelled, each with the label that counts, newest first."""
    from storage import labels

    began = None if since is None else moments.moment(since)
    ended = None if until is None else moments.moment(until, end_of_day=True)
    with opening.transaction() as session:
        found = list(labels.listed(session, since=began, until=ended))
    found.sort(key=lambda each: (each.labelled_at, each.job_id), reverse=True)
    if json:
        show.as_json([as_dict(each) for each in found])
    elif not found:
        show.say("No label matches.")
    else:
        show.table(COLUMNS, map(_row, found))


def as_dict(found: Label) -> dict[str, Any]:
    """The label's fields by name, with its place in the chain."""
    from dataclasses import asdict

    return asdict(found)


def told(found: Sequence[Label]) -> str | None:
    """The labels of one job in a line, the one that counts first; None where there is none."""
    return "; before: ".join(map(_told, reversed(found))) or None


def _told(found: Label) -> str:
    by = f" by {found.by}" if found.by else ""
    note = f" ({found.note})" if found.note else ""
    return f"{found.finding}{by}, {show.when(found.labelled_at)}{note}"


def _row(found: Label) -> tuple[object, ...]:
    when = show.when(found.labelled_at)
    return (when, show.head(found.job_id), found.finding, found.by, found.note)
