"""A candidate beside the active model: the same held-out writers, the same draws, the gates.

Both are measured by the protocols of `evaluate`. The draws depend on the seed and the writers
alone, so both models meet the same pairs and the same references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import evaluate, leakage
from .checkpoint import Checkpoint
from .evaluate import Measured
from .lineage import ENROLLED
from .paired import Difference, difference_from, difference_interval
from .sampling import Writer

Vectors = NDArray[np.float32]

FORGERIES = ("skilled", "random")
SERVICE = 5
"""References of a signer in the service; a candidate must be better at this number, or at the
largest below it that the held-out writers have enough signatures for."""


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
        """Those that the candidate has to be better by: as near to the service as can be."""
        counts = [found.references or 0 for found in self.differences]
        most = max((count for count in counts if count <= SERVICE), default=0)
        return tuple(
            found for found, count in zip(self.differences, counts, strict=True) if count == most
        )

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
    differences = [
        _difference(*pair, kind, seed)
        for pair in zip(before, after, strict=True)
        for kind in FORGERIES
    ]
    return Comparison(
        writers=tuple(writer.name for writer in writers),
        differences=tuple(differences),
        leaks=tuple(_leaks(candidate_vectors, writers, seed)),
        active_rows=tuple(one.row for one in before),
        candidate_rows=tuple(one.row for one in after),
    )


def _difference(before: Measured, after: Measured, kind: str, seed: int) -> Difference:
    # No protocol shares its draws with another, so that chance strikes each by itself.
    rng = np.random.default_rng((seed, before.references or 0, FORGERIES.index(kind)))
    low, high = difference_interval(
        before.scores.by_writer(kind), after.scores.by_writer(kind), rng=rng
    )
    return Difference(
        protocol=before.protocol,
        references=before.references,
        kind=kind,
        active=before.scores.eer(kind),
        candidate=after.scores.eer(kind),
        low=low,
        high=high,
    )


def _leaks(vectors: Vectors, writers: Sequence[Writer], seed: int) -> list[str]:
    """A sentence for each gate that fails, corpus by corpus.

    Enrolled signers are left out: their forgeries came as documents and most of their genuine
    signatures as specimens, and that difference is no fault of the model.
    """
    corpora: dict[str, list[Writer]] = {}
    for writer in writers:
        corpora.setdefault(writer.corpus, []).append(writer)
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
