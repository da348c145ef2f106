"""`sigctl audit drift`: whether documents look to the model as they used to, told in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import drift_report, moments, opening, show
from worker.cli.exits import CommandError
from worker.cli.options import Json

if TYPE_CHECKING:
    from worker.drift import Period, Track
    from worker.moved import Finding


class By(StrEnum):
    """How long a period is."""

    WEEK = "week"
    DAY = "day"


def drift(
    since: Annotated[
        str | None, typer.Option(help="From here on: 2026-11-23 or 12w.", metavar="TIME")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Up to here; a bare date includes it.", metavar="TIME")
    ] = None,
    by: Annotated[By, typer.Option(help="How long a period is.")] = By.WEEK,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Compare with this time instead of each source's first periods: its first and "
            "last day, such as 2026-09-01..2026-10-31.",
            metavar="FROM..TO",
        ),
    ] = None,
    signer: Annotated[
        str | None, typer.Option(help="Only this signer; each decision counts.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    source_field: Annotated[
        str | None,
        typer.Option(
            help="The field of the metadata that says where a document comes from, such as "
            "scanner; without it, its folder.",
            metavar="NAME",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="This model, by the beginning of its digest; else the newest."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it here.", metavar="FILE.png")] = None,
    json: Json = False,
) -> None:
    """Say whether distances, verdicts, failures and ink moved, by source and period.

    Decisions of one model are compared with an earlier time of the same model and source. What is
    called out is unlikely by chance and large enough to matter; docs/drift.md tells the tests.
    """
    from worker import moved
    from worker.drift import ALL

    bounds = None if baseline is None else _period(baseline)
    model_id, tracks = _gathered(since, until, by, bounds, signer, source, source_field, model)
    if not tracks[ALL].baseline.basis:
        raise CommandError("No decision matches.")
    tests = moved.compared(tracks)
    found = moved.findings(tests)
    if plot is not None:
        drift_report.draw(tracks, found, plot)
    if json:
        show.as_json(drift_report.as_dict(model_id, tracks, found, len(tests)))
    else:
        _tell(model_id, tracks, found, len(tests))


def _gathered(
    since: str | None,
    until: str | None,
    by: By,
    baseline: Period | None,
    signer: str | None,
    source: str | None,
    source_field: str | None,
    model: str | None,
) -> tuple[str, dict[str, Track]]:
    """The model that is looked at, and its decisions by source and period."""
    from storage import observations
    from worker import drift as drifting

    with opening.transaction() as session:
        model_id = observations.model_named(session, model)
        rows = observations.observed(
            session,
            model_id,
            since=None if since is None else moments.moment(since),
            until=None if until is None else moments.moment(until, end_of_day=True),
            signer_id=signer,
            with_upstream=source_field is not None,
        )
        return model_id, drifting.gathered(
            rows,
            period_of=drifting.week if by is By.WEEK else drifting.day,
            source=source,
            source_field=source_field,
            baseline=baseline,
            each_decision=signer is not None,
        )


def _period(text: str) -> Period:
    first, dots, last = text.partition("..")
    if not dots:
        raise CommandError(f"{text!r} is not a period such as 2026-09-01..2026-10-31.")
    found = moments.moment(first), moments.moment(last, end_of_day=True)
    if found[0] >= found[1]:
        raise CommandError("The baseline ends before it begins.")
    return found


def _tell(model_id: str, tracks: Mapping[str, Track], found: Sequence[Finding], tests: int) -> None:
    from worker import drift_words
    from worker.drift import ALL

    for line in drift_report.sentences(found, tests):
        show.say(line, style="yellow" if found else None)
    shown = [name for name in dict.fromkeys(each.source for each in found) if name != ALL]
    for name in (*shown, ALL):
        show.table(
            drift_report.COLUMNS, drift_report.rows(tracks[name]), title=f"{show.plain(name)}"
        )
        if ink := drift_report.ink_rows(tracks[name]):
            show.table(drift_report.INK_COLUMNS, ink, title=f"{show.plain(name)}, ink")
    for line in drift_words.remarks(tracks):
        show.say(line)
    _count(model_id, tracks, tests)


def _count(model_id: str, tracks: Mapping[str, Track], tests: int) -> None:
    from worker import moved

    few = moved.untested(tracks)
    sources = show.count(len(tracks) - 1, "source")
    show.say(f"Model {show.short(model_id)}, {sources}, {show.count(tests, 'comparison')}.")
    if few:
        names = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
        show.say(f"Too few signers for a claim: {names}.")
