"""What to expect of a signer's references: how well they agree, and how often the model errs.

The rates are those that the checkpoint was measured with, on writers it had not seen. A checkpoint
that says nothing of them gets no sentence here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .arrays import Vectors
from .scoring import Scoring, spread

VARIED, STEADY = 1.25, 0.75
"""Of the usual spread. In three corpora 1 signer in 300 with five specimens is above the first."""
ENOUGH = 5
"""References to ask for where the checkpoint says nothing."""
GAIN = 0.9
"""More references are worth asking for when they leave less than this share of the errors."""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Rates in 0..1, measured with `measured` references, and at `point` if there is one.

    `skilled_eer` and `random_eer` are the equal error rates against imitations and against other
    people's signatures. `forged` and `genuine` are the shares that the operating point accepts.
    """

    measured: int
    skilled_eer: float
    random_eer: float
    point: str | None = None
    forged: float | None = None
    genuine: float | None = None


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """The mean distance of a signer's references to their nearest fellow; `usual` is others'."""

    spread: float
    usual: float | None

    @property
    def inconsistent(self) -> bool:
        """Whether the references differ more than those of nearly everybody."""
        return self.usual is not None and self.spread > VARIED * self.usual

    @property
    def word(self) -> str | None:
        """How the references agree, None where the checkpoint does not know what is usual."""
        if self.usual is None:
            return None
        if self.inconsistent:
            return "more varied than usual"
        return "steadier than usual" if self.spread < STEADY * self.usual else "as usual"


def consistency(references: Vectors, scoring: Scoring) -> Consistency | None:
    """Of references (N, D); one alone has none."""
    if len(references) < 2:
        return None
    return Consistency(spread=spread(references)[0], usual=scoring.population_spread or None)


def expectation(
    provenance: Mapping[str, Any], references: int, point: str | None = None
) -> Expectation | None:
    """What the checkpoint was measured to do with the largest number that is not above this."""
    measured = _measured(provenance)
    counts = [count for count in measured if count <= references]
    if not counts:
        return None
    count = max(counts)
    row = measured[count]
    shares = row.get("operating_points", {}).get(point, {})
    known = {"skilled", "genuine"} <= shares.keys()
    return Expectation(
        measured=count,
        skilled_eer=float(row["skilled_eer"]),
        random_eer=float(row["random_eer"]),
        point=point if known else None,
        forged=float(shares["skilled"]["accepted"]) if known else None,
        genuine=float(shares["genuine"]["accepted"]) if known else None,
    )


def wanted(provenance: Mapping[str, Any], references: int) -> int | None:
    """How many references the signer should have, None when there are enough.

    The fewest with which the errors against imitations were hardly more than the fewest measured.
    """
    measured = _measured(provenance)
    errors = {count: float(row["skilled_eer"]) for count, row in measured.items()}
    good = [count for count, error in errors.items() if GAIN * error <= min(errors.values())]
    number = min(good, default=ENOUGH)
    return number if references < number else None


def _measured(provenance: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """The rows of the checkpoint's test by their number of references."""
    rows = provenance.get("test")
    found: dict[int, Mapping[str, Any]] = {}
    for row in rows if isinstance(rows, list) else ():
        number, _, word = str(row.get("protocol", "")).partition(" ")
        whole = {"skilled_eer", "random_eer"} <= row.keys()
        if number.isdigit() and word in ("reference", "references") and whole:
            found[int(number)] = row
    return found
