"""A chapter of the report: what one model came to on one corpus, in tables and pictures."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import curves, page
from .curves import Line, Outcome
from .evaluate import KINDS, Measured
from .examination import DEVELOPMENT, LEAKY, Examination
from .leakage import PROBE_FAILS, PROBE_WARNS
from .rates import percent, rate


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """An examination with its place in the page; `name` also begins the names of its pictures."""

    name: str
    title: str
    found: Examination


def chapter(number: int, found: Examination) -> Chapter:
    """The chapter of that number, its title made from what was examined."""
    slug = re.sub(r"[^a-z0-9]+", "-", found.corpus.lower()).strip("-")
    known = f" ({found.known})" if found.known else ""
    return Chapter(
        name=f"{number}-{slug}-{found.track}",
        title=f"{found.corpus}, {found.track}{known}",
        found=found,
    )


def verdict(found: Examination) -> str:
    """What the gates come to, in a word or two."""
    if found.refused:
        return "REFUSED"
    if not found.gates.passed:
        return "not measurable"
    return "passed, with a warning" if found.gates.warnings else "passed"


def pieces(part: Chapter, folder: Path) -> list[str]:
    """The chapter's HTML; its pictures are written into `folder` and shown in it."""
    found = part.found
    head = {
        "writers": f"{len(found.writers)}"
        + (f"; {found.left_out} left out, the model knows them" if found.left_out else ""),
        "input": found.input + (" (keeps the grey: leaky)" if found.leaky else ""),
        "model": f"{found.backbone}, sha256 {found.model_id[:12]}",
        "gates": verdict(found),
    }
    warning = [page.note(f"Leaky: {LEAKY}", "doubt")] if found.leaky else []
    if found.known == DEVELOPMENT:
        warning.append(page.note("The thresholds were fitted on these very writers.", "doubt"))
    return [
        *warning,
        page.facts(head),
        page.heading("Error rates"),
        _rates(found.rows),
        _areas(found.rows),
        page.heading("Gates against leaks"),
        _gates(found),
        *_operating_points(found.rows),
        page.heading("1:1 decisions"),
        _decisions(found),
        _folds(found.measured[0]),
        page.heading("Curves and distances"),
        page.figures(*_figures(part, folder)),
        page.heading("Files"),
        *_files(found),
    ]


def _rates(rows: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "protocol", "EER skilled", "95 % interval", "EER random", "95 % interval", "threshold",
        "FRR", "FAR skilled", "FAR random",
    )  # fmt: skip
    return page.table(
        "FRR and FAR at the checkpoint's own thresholds, fitted on development writers",
        head,
        [
            [
                row["protocol"],
                percent(row["skilled_eer"]),
                interval(row, "skilled"),
                percent(row["random_eer"]),
                interval(row, "random"),
                number(row["threshold"]),
                *(percent(row[key]) for key in ("frr", "far_skilled", "far_random")),
            ]
            for row in rows
        ],
    )


def _areas(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = ("acc", "f1", "roc_auc", "pr_auc")
    return page.table(
        "Genuine against skilled forgeries, accuracy and F1 at the checkpoint's thresholds; and "
        "how many comparisons of each kind there were",
        ["protocol", "accuracy", "F1", "ROC-AUC", "PR-AUC", *KINDS],
        [
            [
                row["protocol"],
                *(percent(row[key]) for key in keys[:2]),
                *(number(row[key], 4) for key in keys[2:]),
                *(str(row[kind]) for kind in KINDS),
            ]
            for row in rows
        ],
    )


def findings_of(found: Examination) -> list[tuple[str, str, str]]:
    """Each gate, its verdict and its sentence; then what is no gate and good to know."""
    gates = [(each.gate, each.verdict, each.sentence) for each in found.gates.findings]
    sentences = {"input": _input_alone(*found.inputs), "displacement": _displacement(found)}
    return [*gates, *((name, "for information", text) for name, text in sentences.items())]


def _input_alone(auc: float, eer: float) -> str:
    if math.isnan(auc):
        return "Not measurable."
    return (
        f"The input alone, without any model, tells forged from genuine with AUC {auc:.3f} "
        f"(EER {percent(eer)}). Above {PROBE_WARNS:.2f} of the input a model can learn the "
        f"scan; above {PROBE_FAILS:.2f} it most likely does."
    )


def _displacement(found: Examination) -> str:
    if math.isnan(found.displacement):
        return "Not measurable."
    return (
        "How far a signature lies off the genuine ones in the one direction that the other "
        f"writers' forgeries share tells forged from genuine with AUC {found.displacement:.3f}. "
        "The pens, scans and habits of one corpus: another has another direction."
    )


def _gates(found: Examination) -> str:
    return page.table(
        "What tells one scan from another instead of one hand from another",
        ["gate", "verdict", "figures and limits"],
        [[*row] for row in findings_of(found)],
        words=True,
    )


def _operating_points(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        [
            f"{row['protocol']}, FAR {point}",
            *(
                percent(by_kind[kind][share])
                for kind in KINDS
                for share in ("accepted", "review", "rejected")
            ),
        ]
        for row in rows
        for point, by_kind in row["operating_points"].items()
    ]
    if not lines:
        return []
    table = page.table(
        "Accepted, left for a person to review, and rejected, at the checkpoint's operating points",
        ["operating point", *(3 * ["accepted", "review", "rejected"])],
        lines,
        groups=[("genuine", 3), ("skilled forgeries", 3), ("random forgeries", 3)],
    )
    return [page.heading("Operating points"), table]


def _decisions(found: Examination) -> str:
    fitted = {
        "development writers": "development writers (the checkpoint's)",
        "the tested pairs": "the tested pairs themselves: optimistic, as many papers report",
    }
    keys = ("acc", "f1", "far", "frr", "eer")
    return page.table(
        "Genuine against skilled pairs, by the writers that the threshold was fitted on",
        ["threshold fitted on", "threshold", "accuracy", "F1", "FAR", "FRR", "EER", "ROC-AUC",
         "PR-AUC"],
        [
            [
                fitted[row["threshold_of"]],
                number(row["threshold"]),
                *(percent(row[key]) for key in keys),
                *(number(row[key], 4) for key in ("roc_auc", "pr_auc")),
            ]
            for row in found.decisions()
        ],
    )  # fmt: skip


def _folds(pairs: Measured) -> str:
    rates = [eer for eer in pairs.folds if not math.isnan(eer)]
    if not rates:
        return ""
    return page.paragraph(
        f"Skilled EER of the {len(rates)} folds of at most five writers: "
        f"{', '.join(percent(eer) for eer in rates)}; mean "
        f"{percent(sum(rates) / len(rates))}, pooled {percent(pairs.row['skilled_eer'])}."
    )


def _figures(part: Chapter, folder: Path) -> list[str]:
    measured = part.found.measured
    pairs = measured[0]
    drawn = []

    def show(kind: str, draw: Any, *given: Any, alt: str, caption: str) -> None:
        path = folder / f"{part.name}-{kind}.png"
        draw(*given, path)
        drawn.append(page.figure(path.read_bytes(), alt=alt, caption=caption))

    lines = _lines(pairs)
    if lines:
        rates = ", ".join(
            f"{kind} {percent(pairs.row[f'{kind}_eer'])}"
            for kind in KINDS[1:]
            if len(pairs.scores.of(kind))
        )
        for kind, draw, what in (
            ("det", curves.det_plot, "DET curves, false rejection against false acceptance"),
            ("roc", curves.roc_plot, "ROC curves, true against false acceptance"),
            ("pr", curves.pr_plot, "Precision against recall of acceptance"),
        ):
            alt = f"{what}, of 1:1 comparisons; equal error rates: {rates}."
            show(kind, draw, lines, alt=alt, caption=f"1:1: {what}.")
    by_count = [
        Line(name=one.protocol, genuine=one.scores.genuine, forged=one.scores.skilled)
        for one in measured
        if len(one.scores.skilled)
    ]
    if len(by_count) > 1:
        rates = ", ".join(f"{one.protocol} {percent(one.row['skilled_eer'])}" for one in measured)
        caption = "DET curves by number of references, skilled forgeries."
        alt = f"{caption} Equal error rates: {rates}."
        show("references", curves.det_plot, by_count, alt=alt, caption=caption)
    for one in _first_and_most(measured):
        name = "distances" if one is pairs else "scores"
        found = one.scores
        caption = f"{one.protocol}: {name} of each kind, and the threshold."
        alt = (
            f"Histogram of {caption} {percent(one.row['frr'])} of the genuine lie above it, "
            f"{percent(one.row['far_skilled'])} of the skilled forgeries below."
        )
        kinds = (found.genuine, found.skilled, found.random, one.threshold)
        show(name, curves.histogram_plot, *kinds, alt=alt, caption=caption)
    caption = "Confusion matrices at the checkpoint's thresholds."
    alt = f"{caption} The shares are those of the tables above."
    show("confusion", curves.confusion_plot, _outcomes(measured), alt=alt, caption=caption)
    return drawn


def _lines(one: Measured) -> list[Line]:
    return [
        Line(
            name=f"{kind} forgeries",
            genuine=one.scores.genuine,
            forged=one.scores.of(kind),
            threshold=one.threshold,
        )
        for kind in KINDS[1:]
        if len(one.scores.of(kind))
    ]


def _first_and_most(measured: Sequence[Measured]) -> list[Measured]:
    return [measured[0], measured[-1]] if len(measured) > 1 else [measured[0]]


def _outcomes(measured: Sequence[Measured]) -> list[Outcome]:
    outcomes = []
    for one in measured:
        counts = {}
        for kind in KINDS:
            scores = one.scores.of(kind)
            accepted = int((scores < one.threshold).sum())
            counts[kind] = (accepted, len(scores) - accepted)
        outcomes.append(
            Outcome(title=one.protocol, verdicts=("accepted", "rejected"), counts=counts)
        )
    return outcomes


def _files(found: Examination) -> list[str]:
    sound = "Every file was usable, and no two show the same picture."
    unreadable = [f"{path}: {reason}" for path, reason in found.unreadable.items()]
    copies = [f"{', '.join(map(str, each.files))} ({each.kind})" for each in found.duplicates]
    lists = {"Files that were left out": unreadable, "Pixel duplicates": copies}
    return [
        *([] if unreadable or copies else [page.paragraph(sound)]),
        *map(page.paragraph, found.remarks),
        *(page.listing(f"{title}: {len(all_)}", all_) for title, all_ in lists.items() if all_),
    ]


def interval(row: Mapping[str, Any], kind: str) -> str:
    """The bounds of an EER in per cent; a dash where there are none."""
    low, high = row[f"{kind}_low"], row[f"{kind}_high"]
    return "-" if math.isnan(low) else f"{rate(low)} to {rate(high)}"


def number(value: float, digits: int = 3) -> str:
    """A distance, threshold or area; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
