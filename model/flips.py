"""What a change of the model would have done to decisions that were made: which verdicts flip."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .metrics import roc_auc

STRICTNESS = {"accept": 0, "review": 1, "reject": 2, "error": 2}
"""How far a verdict is from acceptance."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One document with the verdict it had and the one it would have.

    `truth` is what people found out, `genuine` or `forged`, if they did; `score` is the new one,
    None for an error.
    """

    job_id: str
    before: str
    after: str
    truth: str | None = None
    score: float | None = None

    @property
    def flipped(self) -> bool:
        """Whether the verdict is another one."""
        return self.before != self.after

    @property
    def corrects(self) -> bool:
        """Whether the new verdict is nearer to what was found out.

        >>> Change(job_id="1", before="accept", after="review", truth="forged").corrects
        True
        """
        return self._towards_the_truth > 0

    @property
    def contradicts(self) -> bool:
        """Whether the new verdict is farther from what was found out.

        >>> Change(job_id="1", before="accept", after="review", truth="genuine").contradicts
        True
        """
        return self._towards_the_truth < 0

    @property
    def _towards_the_truth(self) -> int:
        """By how much the verdict comes nearer to it; 0 where nobody knows it."""
        stricter = STRICTNESS[self.after] - STRICTNESS[self.before]
        return {"forged": stricter, "genuine": -stricter}.get(self.truth or "", 0)


@dataclass(frozen=True, kw_only=True)
class Flips:
    """All decisions that were looked at again, the newest first.

    `gone` counts, by reason, those that could not be: their document or a reference is no more.
    """

    changes: tuple[Change, ...] = ()
    gone: Mapping[str, int]

    @property
    def flipped(self) -> tuple[Change, ...]:
        """Those with another verdict."""
        return tuple(change for change in self.changes if change.flipped)

    @property
    def corrected(self) -> tuple[Change, ...]:
        """Those with another verdict that is nearer to the truth, as far as somebody knows it."""
        return tuple(change for change in self.flipped if change.corrects)

    @property
    def contradicted(self) -> tuple[Change, ...]:
        """Those with another verdict that is farther from it."""
        return tuple(change for change in self.flipped if change.contradicts)

    @property
    def doubtful(self) -> float:
        """Share, 0 to 1, that flips and is not known to be corrected; 0 where nothing was seen."""
        if not self.changes:
            return 0.0
        return (len(self.flipped) - len(self.corrected)) / len(self.changes)

    def told_apart(self) -> tuple[float, int, int]:
        """How well the new scores tell documents called forged from those called genuine.

        The area under the ROC, nan without both, and how many there are of the genuine and of the
        forged.
        """
        genuine, forged = (
            [one.score for one in self.changes if one.truth == truth and one.score is not None]
            for truth in ("genuine", "forged")
        )
        area = roc_auc(genuine, forged) if genuine and forged else float("nan")
        return area, len(genuine), len(forged)

    @property
    def asked(self) -> int:
        """How many decisions there were, seen again or not."""
        return len(self.changes) + sum(self.gone.values())

    def table(self) -> list[tuple[str, str, int, int]]:
        """From which verdict to which, how often, and how often that corrects; the most first."""
        counts = Counter((change.before, change.after) for change in self.flipped)
        corrected = Counter((change.before, change.after) for change in self.corrected)
        rows = [(*pair, count, corrected[pair]) for pair, count in counts.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the documents, those that flip."""
        return {
            "seen": len(self.changes),
            "gone": dict(self.gone),
            "flipped": len(self.flipped),
            "corrected": len(self.corrected),
            "contradicted": len(self.contradicted),
            "table": [
                dict(zip(("from", "to", "count", "corrected"), row, strict=True))
                for row in self.table()
            ],
            "flips": [asdict(change) for change in self.flipped],
        }


def flips_of(changes: Sequence[Mapping[str, Any]], gone: Mapping[str, int]) -> Flips:
    """The flips whose changes were kept as plain values."""
    return Flips(changes=tuple(Change(**change) for change in changes), gone=dict(gone))
