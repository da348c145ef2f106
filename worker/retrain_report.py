"""The report of a retraining: one HTML page that needs nothing but itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model import page as html
from model.plots import training_plot
from model.rates import percent

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from worker.retrain import Retrained
    from worker.retrain_run import Asked

READING = (
    "Both models are measured on the same writers, whom no model of the line has been trained or "
    "tuned on, with the same draws. Beyond either end of the interval lie 5 % of 1000 resamples in "
    "which the writers are drawn anew for both models at once: where it lies below zero, the "
    "candidate is better, above zero it is worse, and otherwise the difference may be chance."
)
_RATES = ("skilled_eer", "random_eer", "frr", "far_skilled", "far_random")


def page(found: Retrained, asked: Asked, candidate: Checkpoint, folder: Path) -> str:
    """The whole page; pictures are read from the folder of the run."""
    sections = {
        "rule": ("The rule", list(_rule(found))),
        "writers": ("Writers who are held out", list(_differences(found))),
        "replay": ("Decisions made again", list(_replay(found, folder))),
        "training": ("The training", list(_training(found, asked, candidate, folder))),
    }
    links = html.contents({name: title for name, (title, _) in sections.items()})
    parts = (html.section(name, title, *body) for name, (title, body) in sections.items())
    return html.page(f"Retraining: candidate {found.candidate[:12]}", links, *parts)


def _rule(found: Retrained) -> Iterator[str]:
    if found.promoted:
        yield html.note("The candidate is better by the rule and decides from now on.", "good")
    elif found.ruling.promotes:
        reasons = " ".join(found.reasons) or "Nobody asked for more."
        yield html.note(f"The candidate is better by the rule. {reasons}", "good")
    else:
        yield html.note("The candidate is not promoted.", "bad")
    rows = [
        [
            condition.name.replace("_", " "),
            "met" if condition.met else "not met",
            condition.sentence,
        ]
        for condition in found.ruling.conditions
    ]
    yield html.table("All conditions must be met", ["condition", "", "why"], rows, words=True)


def _differences(found: Retrained) -> Iterator[str]:
    yield html.paragraph(READING)
    rows = [
        [
            one.protocol,
            one.kind,
            percent(one.active),
            percent(one.candidate),
            f"{100 * one.low:+.1f} to {100 * one.high:+.1f}",
            "better" if one.better else "worse" if one.worse else "",
        ]
        for one in found.comparison.differences
    ]
    head = ["protocol", "forgeries", "active", "candidate", "difference, points", ""]
    yield html.table(f"Equal error rates on {len(found.comparison.writers)} writers", head, rows)
    for name, figures in (
        ("active", found.comparison.active_rows),
        ("candidate", found.comparison.candidate_rows),
    ):
        rows = [[row["protocol"], *(percent(row[rate]) for rate in _RATES)] for row in figures]
        head = ["protocol", "EER skilled", "EER random", "FRR", "FAR skilled", "FAR random"]
        yield html.table(f"The {name} model at its own balanced thresholds", head, rows)


def _replay(found: Retrained, folder: Path) -> Iterator[str]:
    flips = found.flips
    if flips is None:
        yield html.paragraph("No replay was asked for.")
        return
    gone = ", ".join(f"{count} {reason}" for reason, count in flips.gone.items())
    yield html.paragraph(
        f"{len(flips.changes)} decisions of the active model were made again by the candidate, from"
        f" the same documents and references; {len(flips.flipped)} verdicts flip."
        + (f" Not to be had: {gone}." if gone else "")
    )
    if not flips.flipped:
        return
    rows = [[f"{before} -> {after}", str(count), str(corrected)]
            for before, after, count, corrected in flips.table()]  # fmt: skip
    yield html.table("Verdicts that flip", ["from -> to", "how many", "towards a label"], rows)
    picture = folder / "flips.png"
    if picture.exists():
        caption = "The first of them, with what both models said (score, and threshold)"
        yield html.figures(
            html.figure(picture.read_bytes(), alt="Documents that flip", caption=caption)
        )
    yield html.listing(
        "All of them", [f"{c.job_id}: {c.before} -> {c.after}" for c in flips.flipped]
    )


def _training(found: Retrained, asked: Asked, candidate: Checkpoint, folder: Path) -> Iterator[str]:
    told: Mapping[str, Any] = candidate.provenance
    yield html.facts(
        {
            "Candidate": found.candidate,
            "Active model": found.parent,
            "Begins with": "random weights" if told["start"] is None else told["start"],
            "Recipe": told["recipe"]["name"],
            "Corpora": ", ".join(told["corpora"]),
            "Writers who teach": len(told["train_writers"]),
            "Writers who tune": len(told["development_writers"]),
            "Writers who test": len(told["test_writers"]),
            "Asked for by": asked.by,
            "Seed": asked.seed,
        }
    )
    log = folder / "train" / "log.csv"
    if log.exists():
        training_plot(list(csv.DictReader(io.StringIO(log.read_text()))), folder / "training.png")
        picture = (folder / "training.png").read_bytes()
        yield html.figures(
            html.figure(picture, alt="Loss and error by epoch", caption="Development writers")
        )
    if found.left_out:
        items = [f"{what}: {reason}" for what, reason in found.left_out]
        yield html.listing(f"{len(items)} images were left out", items)
