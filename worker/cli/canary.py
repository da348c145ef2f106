"""`sigctl models compare`: what a model in the shadow would have said, beside what was decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.rates import percent
from worker.cli import opening, show
from worker.cli.exits import CommandError
from worker.cli.options import Json

if TYPE_CHECKING:
    from storage.shadows import Flip

COUNTS = (
    show.Column(title="decided", styled=True),
    show.Column(title="it would have said", styled=True),
    show.Column(title="jobs", right=True),
    show.Column(title="share", right=True),
)
FLIPS = (
    show.Column(title="job", whole=True),
    show.Column(title="signer"),
    show.Column(title="decided", styled=True),
    show.Column(title="score", right=True),
    show.Column(title="it says", styled=True),
    show.Column(title="score", right=True),
)
RIGHT = {("genuine", "accept"), ("forged", "reject")}
WRONG = {("genuine", "reject"), ("forged", "accept")}


def compare(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The one in the shadow, unless given.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Show at most so many different verdicts.")
    ] = 20,
    json: Json = False,
) -> None:
    """Report how a model in the shadow would have decided, and where people know the truth."""
    from storage import labels, models, shadows

    with opening.transaction() as session:
        chosen = models.lineup(session).shadow if model is None else models.find(session, model).id
        if chosen is None:
            raise CommandError("No model is in the shadow; name one that was.")
        counts = shadows.counts(session, chosen)
        flips = shadows.flips(session, chosen, limit)
        truth = {label.job_id: label.finding for label in labels.listed(session)}
        said = shadows.of_jobs(session, chosen, sorted(truth))
        decided = {d.job_id: d.verdict for d, _ in labels.labelled(session) if d.job_id in said}
    known = {"decided": _judged(truth, decided), "shadow": _judged(truth, said)}
    total = sum(counts.values())
    if json:
        rows = [{"decided": a, "shadow": b, "jobs": n} for (a, b), n in sorted(counts.items())]
        report = {"model": chosen, "jobs": total, "counts": rows, "labelled": known}
        show.as_json(report | {"different": [asdict(flip) for flip in flips]})
        return
    if not total:
        show.say(f"Model {show.short(chosen)} has not been shown a job yet.")
        return
    show.table(COUNTS, [(*pair, n, percent(n / total)) for pair, n in sorted(counts.items())])
    if flips:
        show.table(
            FLIPS,
            map(_line, flips),
            title="Newest jobs that it sees differently",
        )
    different = sum(n for (a, b), n in counts.items() if a != b)
    show.say(f"It sees {different} of {show.count(total, 'job')} differently.")
    for who, words in (("decided", "The record"), ("shadow", f"Model {show.short(chosen)}")):
        found = known[who]
        if sum(found.values()):
            show.say(
                f"{words}, where people know the truth: {found['right']} right, {found['wrong']}"
                f" wrong, {found['open']} left open."
            )


def _line(flip: Flip) -> tuple[object, ...]:
    decided = flip.verdict, show.number(flip.score)
    said = flip.shadow_verdict, show.number(flip.shadow_score)
    return (flip.job_id, flip.signer_id, *decided, *said)


def _judged(truth: Mapping[str, str], said: Mapping[str, str]) -> dict[str, Any]:
    """How many verdicts agree with what people found out."""
    pairs = Counter((truth[job_id], verdict) for job_id, verdict in said.items())
    right, wrong = (sum(pairs[pair] for pair in some) for some in (RIGHT, WRONG))
    return {"right": right, "wrong": wrong, "open": pairs.total() - right - wrong}
