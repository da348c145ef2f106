"""A candidate beside the active model: the same held-out writers, the same draws, the gates.

Both are measured by the protocols of `evaluate`. The draws depend on the seed and the writers
alone, so both models meet the same pairs and the same references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import evaluate, leakage
from .arrays import Vectors
from .checkpoint import Checkpoint
from .evaluate import Measured
from .lineage import ENROLLED
from .paired import Difference, difference_from, difference_interval
from .sampling import Writer, by_corpus

Pair = tuple[Measured, Measured]
"""By one protocol, of the active model and of the candidate."""

FORGERIES = ("skilled", "random")
MEAN = "all numbers of references"
"""The protocol that a candidate must be better by: the mean of those with references, for signers
of a service have some five or some ten, and one row by itself is moved by its draws."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What both models came to on the writers who are held out.

    `leaks` are the sentences of the gates that the candidate failed, `rows` the full figures of
    both by protocol.
    """

    writers: tuple[str, ...]
    differences: tuple[Difference, ...]
    leaks: tuple[str, ...]
    active_rows: tuple[dict[str, Any], ...]
    candidate_rows: tuple[dict[str, Any], ...]

    @property
    def deciding(self) -> tuple[Difference, ...]:
        """Those that the candidate has to be better by, one for each kind of forgery."""
        return tuple(found for found in self.differences if found.protocol == MEAN)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "writers": list(self.writers),
            "differences": [found.as_dict() for found in self.differences],
            "leaks": list(self.leaks),
            "active": list(self.active_rows),
            "candidate": list(self.candidate_rows),
        }


def compare(
    writers: Sequence[Writer],
    *,
    active: Checkpoint,
    active_vectors: Vectors,
    candidate: Checkpoint,
    candidate_vectors: Vectors,
    seed: int,
) -> Comparison:
    """Measure both on the same writers; vectors are (N, D), row by row of the same images."""
    before, after = (
        evaluate.measure(
            vectors,
            writers,
            threshold=checkpoint.threshold,
            scoring=checkpoint.scoring,
            seed=seed,
        )
        for checkpoint, vectors in ((active, active_vectors), (candidate, candidate_vectors))
    )
    differences = _differences(list(zip(before, after, strict=True)), len(writers), seed)
    return Comparison(
        writers=tuple(writer.name for writer in writers),
        differences=tuple(differences),
        leaks=tuple(_leaks(candidate_vectors, writers, seed)),
        active_rows=tuple(one.row for one in before),
        candidate_rows=tuple(one.row for one in after),
    )


def _differences(pairs: Sequence[Pair], writers: int, seed: int) -> list[Difference]:
    """By each protocol, and by the mean of those with references as far as they were measured."""
    rows = [(pair, _difference(pair, kind, writers, seed)) for pair in pairs for kind in FORGERIES]
    able = [(pair, one) for pair, one in rows if one.references and one.measured]
    kinds = [[(pair, one) for pair, one in able if one.kind == kind] for kind in FORGERIES]
    return [one for _, one in rows] + [_mean(some, writers, seed) for some in kinds if some]


def _difference(pair: Pair, kind: str, writers: int, seed: int) -> Difference:
    before, after = pair
    # No protocol shares its draws with another, so that chance strikes each by itself.
    low, high = _interval([pair], kind, writers, (seed, before.references or 0))
    return Difference(
        protocol=before.protocol,
        references=before.references,
        kind=kind,
        active=before.scores.eer(kind),
        candidate=after.scores.eer(kind),
        low=low,
        high=high,
    )


def _mean(rows: Sequence[tuple[Pair, Difference]], writers: int, seed: int) -> Difference:
    """The mean of rows of one kind; its interval draws the writers for all of them at once."""
    pairs, found = [pair for pair, _ in rows], [one for _, one in rows]
    low, high = _interval(pairs, found[0].kind, writers, (seed, len(MEAN)))
    return Difference(
        protocol=MEAN,
        references=None,
        kind=found[0].kind,
        active=float(np.mean([one.active for one in found])),
        candidate=float(np.mean([one.candidate for one in found])),
        low=low,
        high=high,
    )


def _interval(
    pairs: Sequence[Pair], kind: str, writers: int, draws: tuple[int, int]
) -> tuple[float, float]:
    scores = [
        (before.scores.by_writer(kind, writers), after.scores.by_writer(kind, writers))
        for before, after in pairs
    ]
    rng = np.random.default_rng((*draws, FORGERIES.index(kind)))
    return difference_interval(scores, rng=rng)


def _leaks(vectors: Vectors, writers: Sequence[Writer], seed: int) -> list[str]:
    """A sentence for each gate that fails, corpus by corpus.

    Enrolled signers are left out: their forgeries came as documents and most of their genuine
    signatures as specimens, and that difference is no fault of the model.
    """
    corpora = by_corpus(writers)
    if len(corpora) > 1:
        corpora.pop(ENROLLED, None)
    found = []
    for corpus, members in corpora.items():
        pairs, _ = evaluate.folds_of_five(vectors, members, np.random.default_rng(seed))
        gates = leakage.check(
            vectors,
            members,
            skilled_eer=pairs.eer("skilled"),
            random_eer=pairs.eer("random"),
            seed=seed,
        )
        found += [f"{corpus}: {sentence}" for sentence in gates.failures]
    return found


def comparison_from(values: Mapping[str, Any]) -> Comparison:
    """What `as_dict` was made of."""
    return Comparison(
        writers=tuple(values["writers"]),
        differences=tuple(map(difference_from, values["differences"])),
        leaks=tuple(values["leaks"]),
        active_rows=tuple(values["active"]),
        candidate_rows=tuple(values["candidate"]),
    )
