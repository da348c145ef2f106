"""A report of an evaluation: one HTML page with its pictures, the same as files, JSON and CSV.

index.html     tables, curves and verdicts; needs no network and no other file
*.png          the pictures
metrics.json   every figure, null for what could not be measured
results.csv    one line for each track, corpus and protocol
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import page, plots
from .chapters import chapter, number, pieces
from .checkpoint import Checkpoint
from .dataset import corpus_of
from .examination import LEAKY, Examination, deciding, refused
from .files import write_atomically
from .rates import percent

TITLE = "Signature verification: evaluation"
READING = (
    "A distance or score says how far apart two signatures are: lower is closer, and below the "
    "threshold is accepted. FAR is the share of forgeries that are accepted, FRR the share of "
    "genuine signatures that are rejected. A skilled forgery imitates the signer, a random one is "
    "somebody else's own signature.",
    "The equal error rate (EER) describes the scores: it is where FAR and FRR cross, and no "
    "threshold is set by it. FAR, FRR, accuracy and F1 are those of thresholds that were fitted on "
    "development writers and are used unchanged, except in rows that say otherwise.",
    "1:1 compares single signatures: of each writer all genuine pairs and as many pairs with a "
    "skilled forgery, writers in folds of five, all pooled. N references compares a signature "
    "with N genuine ones, drawn five times. Intervals hold 95 % of 1000 resamples in which whole "
    "writers are drawn anew.",
)
_NAMED = 12  # writers named one by one; of more, the page counts those of each corpus
_FLAT = (
    "protocol", "skilled_eer", "skilled_low", "skilled_high", "random_eer", "random_low",
    "random_high", "threshold", "frr", "far_skilled", "far_random", "acc", "f1", "roc_auc",
    "pr_auc", "genuine", "skilled", "random",
)  # fmt: skip


def write_report(
    folder: Path,
    examinations: Sequence[Examination],
    checkpoints: Sequence[Checkpoint],
    *,
    facts: Mapping[str, object],
) -> Path:
    """Write all files into `folder`, the page last, each whole or not at all; returns the page.

    `facts` are what else is to be known of the run, such as its seed. Raises FileNotWritten.
    """
    parts = [chapter(number, found) for number, found in enumerate(examinations, start=1)]
    sections = [
        page.section("summary", "Both tracks", *_summary(examinations)),
        *(page.section(part.name, part.title, *pieces(part, folder)) for part in parts),
        page.section("model", "The model and how it came about", *_models(checkpoints, folder)),
        page.section("reading", "How to read this", *map(page.paragraph, READING)),
    ]
    links = {"summary": "Both tracks", **{part.name: part.title for part in parts}}
    links |= {"model": "The model", "reading": "How to read this"}
    titled = {_title(name): value for name, value in facts.items()}
    text = page.page(
        TITLE, verdict_note(examinations), page.facts(titled), page.contents(links), *sections
    )
    metrics = as_json(examinations, checkpoints, facts)
    files = {"metrics.json": metrics, "results.csv": _csv(examinations), "index.html": text}
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return folder / "index.html"


def verdict_note(examinations: Sequence[Examination]) -> str:
    """The head of the page: whether the leak-controlled model may be promoted."""
    failed = ", ".join(found.corpus for found in refused(examinations))
    if failed:
        return page.note(
            f"REFUSED: a gate against leaks failed on {failed}. The figures below are not to be "
            "believed, and the model is not to be promoted.",
            "bad",
        )
    if not all(found.gates.passed for found in deciding(examinations)):
        return page.note(
            "Not every gate against leaks could be measured: what could be, has not failed.",
            "doubt",
        )
    return page.note("All gates against leaks are passed.", "good")


def _summary(examinations: Sequence[Examination]) -> list[str]:
    names = list(dict.fromkeys(row["protocol"] for found in examinations for row in found.rows))
    ordered = sorted(examinations, key=lambda found: found.leaky)
    cells = [{row["protocol"]: row for row in found.rows} for found in ordered]
    rows = [
        [name, *(text for by_name in cells for text in _two_rates(by_name.get(name)))]
        for name in names
    ]
    table = page.table(
        "Equal error rates. The tracks stand beside each other and are never mixed.",
        ["protocol", *(kind for _ in ordered for kind in ("skilled", "random"))],
        rows,
        groups=[(_column_title(found), 2) for found in ordered],
    )
    if any(found.leaky for found in ordered):
        return [table, page.note(f"Leaky: {LEAKY}", "doubt")]
    absent = "The paper-comparable track, which keeps the grey and is leaky, was not measured."
    return [table, page.paragraph(absent)]


def _column_title(found: Examination) -> str:
    known = f", {found.known}" if found.known else ""
    return f"{found.corpus}{known}: {found.marked_track}, {len(found.writers)} writers"


def _two_rates(row: Mapping[str, Any] | None) -> tuple[str, str]:
    return ("-", "-") if row is None else (percent(row["skilled_eer"]), percent(row["random_eer"]))


def _models(checkpoints: Sequence[Checkpoint], folder: Path) -> list[str]:
    pieces = []
    for checkpoint in checkpoints:
        told = checkpoint.provenance
        scoring = checkpoint.scoring
        pieces += [
            page.heading(f"{checkpoint.backbone} on {checkpoint.preprocessing.label}"),
            page.facts(
                {
                    "sha256": checkpoint.sha256,
                    "1:1 threshold": number(checkpoint.threshold),
                    "rule": scoring.rule,
                    "thresholds by references": ", ".join(
                        f"{count}: {value:.3f}" for count, value in scoring.thresholds.items()
                    ),
                    **{_title(key): _told(value) for key, value in told.items() if _brief(key)},
                }
            ),
        ]
        if told.get("log"):
            path = folder / f"training-{checkpoint.sha256[:12]}.png"
            plots.training_plot(told["log"], path)
            caption = "Loss and error on development writers in each epoch of training."
            pieces.append(page.figure(path.read_bytes(), alt=caption, caption=caption))
        else:
            pieces.append(page.paragraph("The checkpoint carries no training log."))
    return pieces


def _brief(key: str) -> bool:
    return key not in ("log", "test", "gates")


def _title(key: str) -> str:
    return key.replace("_", " ")


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_title(str(key))} {_told(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > _NAMED and all(isinstance(name, str) and "/" in name for name in value):
            counts = Counter(map(corpus_of, value))
            return ", ".join(f"{count} of {corpus}" for corpus, count in counts.items())
        return ", ".join(map(_told, value))
    return str(value)


def as_dict(
    examinations: Sequence[Examination],
    checkpoints: Sequence[Checkpoint],
    facts: Mapping[str, object],
) -> dict[str, Any]:
    """What metrics.json holds: plain values, None for what could not be measured."""
    plain = _plain(
        {
            **facts,
            "refused": bool(refused(examinations)),
            "examinations": [found.as_dict() for found in examinations],
            "models": {one.sha256: dict(one.provenance) for one in checkpoints},
        }
    )
    return dict(plain)


def as_json(
    examinations: Sequence[Examination],
    checkpoints: Sequence[Checkpoint],
    facts: Mapping[str, object],
) -> str:
    """The text of metrics.json."""
    plain = as_dict(examinations, checkpoints, facts)
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _csv(examinations: Sequence[Examination]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("track", "corpus", "known", "writers", *_FLAT))
    for found in examinations:
        for row in found.rows:
            cells = ("" if row[key] != row[key] else row[key] for key in _FLAT)
            lines.writerow((found.track, found.corpus, found.known, len(found.writers), *cells))
    return text.getvalue()
