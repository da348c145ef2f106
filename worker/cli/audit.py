"""`sigctl audit`: what was decided, for whom, when, by which model and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import drift, evidence, labels, moments, opening, record, show
from worker.cli.exits import CommandError
from worker.cli.job_ids import JobId, whole
from worker.cli.options import Json

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.decisions import DecisionFilter, VerdictStats
    from storage.tables import ChainEntry, Decision, Job
    from worker.outcome import Outcome

app = typer.Typer(help="Question the record of decisions.", no_args_is_help=True)


class Verdict(StrEnum):
    """What a decision can be; `error` is a job that failed."""

    ACCEPT = "accept"
    REJECT = "reject"
    REVIEW = "review"
    ERROR = "error"


class Format(StrEnum):
    """How an export is written; `jsonl` is one JSON object a line."""

    CSV = "csv"
    JSONL = "jsonl"


app.command("verify")(evidence.verify)
app.command("adopt")(evidence.adopt)
app.command("sign-off")(evidence.sign_off)
app.command("drift")(drift.drift)
app.command("label")(labels.label)
app.command("labels")(labels.list_)

FILTERS = "Filters"


def _filter(help: str, **more: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=FILTERS, **more)


Signer = Annotated[str | None, _filter("Only this signer.")]
OfVerdict = Annotated[Verdict | None, _filter("Only this verdict.")]
Since = Annotated[
    str | None, _filter("From here on: 2026-11-23, 2026-11-23T09:30 (UTC) or 24h.", metavar="TIME")
]
Until = Annotated[str | None, _filter("Up to here; a bare date includes that day.", metavar="TIME")]
Model = Annotated[str | None, _filter("Only this model, by its digest or the beginning of it.")]
MinDistance = Annotated[float | None, _filter("Distance to the nearest reference, at least.")]
MaxDistance = Annotated[float | None, _filter("Distance to the nearest reference, at most.")]
Code = Annotated[str | None, _filter("Only failures with this error code.")]
Limit = Annotated[int | None, _filter("At most so many, newest first.", min=1)]

STATS = (
    show.Column(title="verdict", styled=True),
    show.Column(title="error code"),
    show.Column(title="decisions", right=True),
    show.Column(title="mean distance", right=True),
    show.Column(title="lowest", right=True),
    show.Column(title="highest", right=True),
    show.Column(title="mean ms", right=True),
)


@app.command("list")
def list_(
    signer: Signer = None,
    verdict: OfVerdict = None,
    since: Since = None,
    until: Until = None,
    model: Model = None,
    min_distance: MinDistance = None,
    max_distance: MaxDistance = None,
    code: Code = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List decisions, newest first."""
    from storage import decisions

    wanted = wanted_decisions(
        signer, verdict, since, until, model, min_distance, max_distance, code, limit
    )
    with opening.transaction() as session:
        found = list(decisions.search(session, wanted))
    if json:
        show.as_json([record.as_dict(decision) for decision in found])
        return
    if not found:
        show.say("No decision matches.")
        return
    show.table(record.LIST, map(record.list_row, found))
    if len(found) == limit:
        show.note(f"These are the newest {limit}; --limit shows more, `audit export` shows all.")


@app.command("show")
def show_(
    job_id: JobId,
    json: Json = False,
) -> None:
    """Show everything on record about one job: the verdict and what it rests on."""
    from storage import chain, decisions, jobs
    from storage import labels as stored_labels

    with opening.transaction() as session:
        job = jobs.get(session, whole(session, job_id))
        decision = decisions.get(session, job.id)
        sources = reference_sources(session, decision) if decision else {}
        sealed = chain.entry_of(session, job.id) if decision else None
        found_out = stored_labels.of_job(session, job.id)
    if json:
        found = record.as_dict(decision) if decision else None
        told = {"job": _job(job), "decision": found, "chain": _sealed(sealed)}
        show.as_json(told | {"labels": [labels.as_dict(label) for label in found_out]})
    elif decision is None:
        show.say(f"Job {job.id} has no decision yet; it is {job.status}.")
        show.facts(_job(job))
    else:
        _show_decision(decision, job, sources, sealed, labels.told(found_out))


@app.command("export")
def export(
    output: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Where to write; without it, standard output."),
    ] = None,
    format: Annotated[Format, typer.Option(help="csv, or one JSON object a line.")] = Format.CSV,
    signer: Signer = None,
    verdict: OfVerdict = None,
    since: Since = None,
    until: Until = None,
    model: Model = None,
    min_distance: MinDistance = None,
    max_distance: MaxDistance = None,
    code: Code = None,
    limit: Limit = None,
) -> None:
    """Write decisions as CSV or JSON lines, newest first, however many there are.

    In CSV, text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    from storage import decisions

    wanted = wanted_decisions(
        signer, verdict, since, until, model, min_distance, max_distance, code, limit
    )
    lines = record.csv_lines if format is Format.CSV else record.json_lines
    count = 0
    with opening.transaction() as session, _written(output) as file:
        for line in lines(decisions.search(session, wanted)):
            file.write(line)
            count += 1
    count -= format is Format.CSV  # its header
    if output is not None:
        show.note(f"{count} {'decision' if count == 1 else 'decisions'} written to {output}.")


@app.command("stats")
def stats(
    signer: Signer = None,
    verdict: OfVerdict = None,
    since: Since = None,
    until: Until = None,
    model: Model = None,
    min_distance: MinDistance = None,
    max_distance: MaxDistance = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Count decisions by verdict and error code, with their distances and times."""
    from storage import decisions

    wanted = wanted_decisions(
        signer, verdict, since, until, model, min_distance, max_distance, code, None
    )
    with opening.transaction() as session:
        lines = decisions.stats(session, wanted)
    total = sum(line.count for line in lines)
    if json:
        from dataclasses import asdict

        show.as_json({"decisions": total, "by_verdict": [asdict(line) for line in lines]})
    elif not lines:
        show.say("No decision matches.")
    else:
        show.table(STATS, map(_stats_row, lines))
        first, last = min(line.first for line in lines), max(line.last for line in lines)
        show.say(f"{total} decisions from {show.when(first)} to {show.when(last)}.")


def wanted_decisions(
    signer: str | None,
    verdict: Verdict | None,
    since: str | None,
    until: str | None,
    model: str | None,
    min_distance: float | None,
    max_distance: float | None,
    code: str | None,
    limit: int | None,
) -> DecisionFilter:
    """The filter that the options describe. Raises CommandError and InvalidFilter."""
    from storage.decisions import DecisionFilter

    if min_distance is not None and max_distance is not None and min_distance > max_distance:
        raise CommandError("No distance is at least --min-distance and at most --max-distance.")
    return DecisionFilter(
        signer_id=signer,
        verdict=None if verdict is None else verdict.value,
        since=None if since is None else moments.moment(since),
        until=None if until is None else moments.moment(until, end_of_day=True),
        model_id=model,
        min_distance=min_distance,
        max_distance=max_distance,
        error_code=code,
        limit=limit,
    )


def reference_sources(session: Session, decision: Decision | Outcome) -> dict[int, str]:
    """Where each reference that a decision was compared with came from, by its number.

    Those that were erased since are missing; their number may be another reference's by now.
    """
    from sqlalchemy import select

    from storage.tables import Reference

    ids = [entry["reference"] for entry in decision.distances]
    query = select(Reference.id, Reference.source, Reference.uri).where(
        Reference.id.in_(ids), Reference.enrolled_at <= decision.decided_at
    )
    return {id: source or uri for id, source, uri in session.execute(query)}


def _show_decision(
    decision: Decision,
    job: Job,
    sources: dict[int, str],
    sealed: ChainEntry | None,
    label: str | None,
) -> None:
    nearest = sources.get(decision.nearest_reference or 0)
    place = {"page": job.page, "region": _region(job), "deliveries": job.deliveries}
    place |= {"label": label, "chain": _place(sealed)}
    show.facts(record.everything(decision, show.tail(nearest)) | place)
    if decision.distances:
        columns = (
            show.Column(title="reference", right=True),
            show.Column(title="distance", right=True),
            show.Column(title="source"),
        )
        ordered = sorted(decision.distances, key=lambda entry: entry["distance"])
        rows = (
            (e["reference"], show.number(e["distance"]), show.tail(sources.get(e["reference"]), 60))
            for e in ordered
        )
        show.table(columns, rows)


def _sealed(entry: ChainEntry | None) -> dict[str, Any] | None:
    names = ("chain", "position", "kind", "key_id", "recorded_at")
    return None if entry is None else {name: getattr(entry, name) for name in names}


def _place(entry: ChainEntry | None) -> str:
    if entry is None:
        return "no entry; `sigctl audit adopt` enters it"
    return f"entry {entry.position} of chain {entry.chain}, {entry.kind}, key {entry.key_id}"


def _region(job: Job) -> str | None:
    return None if job.region is None else ",".join(map(str, job.region))


def _job(job: Job) -> dict[str, Any]:
    names = ("id", "signer_id", "document", "page", "region", "status", "deliveries")
    times = ("created_at", "updated_at")
    return {name: getattr(job, name) for name in names} | {
        name: show.when(getattr(job, name)) for name in times
    }


def _stats_row(line: VerdictStats) -> tuple[object, ...]:
    distances = (line.mean_distance, line.min_distance, line.max_distance)
    spent = None if line.mean_total_ms is None else f"{line.mean_total_ms:.0f}"
    return (line.verdict, line.error_code or "", line.count, *map(show.number, distances), spent)


@contextmanager
def _written(output: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears whole or not at all."""
    import os
    import sys

    if output is None:
        yield sys.stdout
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(output)
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
