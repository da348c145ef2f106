"""A decision as people and programs read it: the same fields in the table, in JSON and in CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from model.rates import percent
from worker.cli import show

if TYPE_CHECKING:
    from storage.tables import Decision
    from worker.pipeline import Outcome

TIMES = ("fetch_ms", "preprocess_ms", "embed_ms", "total_ms")
FIELDS = (
    "job_id",
    "signer_id",
    "document",
    "document_sha256",
    "verdict",
    "distance",
    "score",
    "threshold",
    "reject_threshold",
    "operating_point",
    "terms",
    "rule",
    "nearest_reference",
    "distances",
    "model_id",
    "preprocessing",
    "ink",
    "error_code",
    "error_message",
    *TIMES,
    "metadata",
    "decided_at",
)
"""The fields of a decision in their order; `metadata` is the upstream system's own."""

LIST = (
    show.Column(title="decided at", whole=True),
    show.Column(title="job", whole=True),
    show.Column(title="signer"),
    show.Column(title="document"),
    show.Column(title="verdict", whole=True, styled=True),
    show.Column(title="distance", right=True),
)

ADVICE = {
    "unknown_signer": "`sigctl enroll` enrols a signer, `sigctl signers list` lists them.",
    "signer_retired": "`sigctl signers restore` puts a retired signer back into use.",
    "signer_erased": "`sigctl signers restore --erased` gives the name back, to enrol anew.",
    "no_references": "`sigctl enroll` adds references.",
    "model_mismatch": "`sigctl enroll` with the same signer embeds the references anew.",
    "uri_not_allowed": "Documents may lie in the folders of SIGCTL_ROOTS (by default the current "
    "one) and in the buckets of SIGCTL_BUCKETS.",
    "document_too_large": "SIGCTL_MAX_BYTES sets the limit.",
    "image_too_large": "SIGCTL_MAX_PIXELS sets the limit.",
    "store_refused": "`sigctl doctor` checks the credentials.",
}
"""What to do about an error code, where a person can do something about it."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet compute a cell; in East Asian locales the wide forms do, too."""
FOR_REVIEW = "A person decides this one; `sigctl audit list --verdict review` lists all such."


def as_dict(decision: Decision | Outcome) -> dict[str, Any]:
    """Every field of a decision by name, with the numbers as they were computed."""
    renamed = {"metadata": "upstream"}
    found = {name: getattr(decision, renamed.get(name, name)) for name in FIELDS}
    found["verdict"] = str(found["verdict"])
    return found


def advice(decision: Decision | Outcome) -> str | None:
    """What a person can do about the decision, None where nothing is left to do."""
    return FOR_REVIEW if decision.verdict == "review" else ADVICE.get(decision.error_code or "")


def list_row(decision: Decision | Outcome) -> tuple[object, ...]:
    """The cells of a decision in the columns of `LIST`; an error shows its code for a verdict."""
    return (
        show.when(decision.decided_at),
        show.head(decision.job_id),
        show.head(decision.signer_id, 24),
        show.tail(decision.document, 20),
        decision.error_code or str(decision.verdict),
        show.number(decision.distance),
    )


def result(decision: Decision | Outcome, nearest: str | None) -> dict[str, object]:
    """What the person who asked wants to know; `nearest` says where that reference came from."""
    reference = decision.nearest_reference
    named = f"{reference} ({nearest})" if reference is not None and nearest else reference
    return {
        "verdict": str(decision.verdict),
        "signer": decision.signer_id,
        "document": decision.document,
        "distance": show.number(decision.distance),
        "score": score(decision),
        "threshold": thresholds(decision),
        "nearest reference": named,
        "reason": reason(decision),
        "job": decision.job_id,
    }


def everything(decision: Decision | Outcome, nearest: str | None) -> dict[str, object]:
    """`result` and all that an auditor may ask beyond it."""
    times = {name: getattr(decision, name) for name in TIMES}
    spent = [f"{name[:-3]} {ms:.0f} ms" for name, ms in times.items() if ms is not None]
    metadata = json.dumps(decision.upstream, ensure_ascii=False) if decision.upstream else None
    return result(decision, nearest) | {
        "decided at": show.when(decision.decided_at),
        "document sha256": decision.document_sha256,
        "model": show.short(decision.model_id),
        "preprocessing": decision.preprocessing,
        "rule": decision.rule,
        "ink": ink(decision),
        "time": ", ".join(spent) or None,
        "metadata": metadata,
    }


def score(decision: Decision | Outcome) -> str | None:
    """The score and, where it is not the nearest distance alone, what it is made of."""
    parts = {name: value for name, value in (decision.terms or {}).items() if value}
    if len(parts) < 2:
        return show.number(decision.score)
    made_of = ", ".join(f"{name} {value:+.3f}" for name, value in parts.items())
    return f"{show.number(decision.score)} ({made_of})"


def thresholds(decision: Decision | Outcome) -> str | None:
    """The threshold, or with a review band both of them and the operating point."""
    accept, reject = map(show.number, (decision.threshold, decision.reject_threshold))
    if reject is None:
        return accept
    return (
        f"accept below {accept}, reject from {reject} (operating point {decision.operating_point})"
    )


def ink(decision: Decision | Outcome) -> str | None:
    """What the document's ink measures, as `model.ink.Ink` has it."""
    if decision.ink is None:
        return None
    width, share, side = (decision.ink[name] for name in ("stroke_width", "ink_share", "long_side"))
    return f"strokes {width:.1f} px wide, {percent(share)} of a box {side:,} px long"


def reason(decision: Decision | Outcome) -> str | None:
    """Why there is no verdict: the code and its sentence."""
    if decision.error_code is None:
        return None
    message = decision.error_message or "No reason was recorded."
    return f"{decision.error_code}: {show.as_sentence(message)}"


def csv_lines(decisions: Iterable[Decision]) -> Iterator[str]:
    """The header and a line for each decision; lists and objects are JSON within their cell.

    Text that a spreadsheet would run as a formula begins with an apostrophe; numbers stay numbers.
    """
    line = _Line()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(FIELDS)
    yield line.text
    for decision in decisions:
        writer.writerow([_cell(value) for value in as_dict(decision).values()])
        yield line.text


def json_lines(decisions: Iterable[Decision]) -> Iterator[str]:
    """A JSON object on a line of its own for each decision."""
    for decision in decisions:
        yield json.dumps(show.jsonable(as_dict(decision)), ensure_ascii=False) + "\n"


def _cell(value: object) -> object:
    readable = show.jsonable(value)
    if isinstance(readable, list | dict):
        return json.dumps(readable, ensure_ascii=False)
    if isinstance(readable, str) and readable.startswith(FORMULA):
        return f"'{readable}"
    return readable


class _Line:
    """Stands for a file to csv.writer, and holds the line written last."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text
