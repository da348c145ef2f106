"""Distances and scores of held-out writers, by the protocols whose figures we report.

1:1           every genuine pair of a writer against every genuine-forged pair, and against pairs
              of two writers' genuine signatures (random forgeries)
N references  N genuine signatures of a writer are drawn as references; the questioned signatures
              are the writer's other genuine ones, all skilled forgeries, and one genuine
              signature of every other writer; drawn again several times
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from . import metrics
from .cache import CachedImages
from .sampling import Writer, genuine_pairs, random_pairs, skilled_pairs
from .scoring import Scoring, distances_to, offset, spread
from .siamese import SiameseNet

REFERENCE_COUNTS = (1, 3, 5, 10)
DRAWS = 5
BATCH = 64
SPREAD_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores (distances, for 1:1) by the kind of questioned signature; lower is closer."""

    genuine: Floats
    skilled: Floats
    random: Floats

    def eer(self, kind: str) -> float:
        """Equal error rate in 0 to 1 against `skilled` or `random` forgeries; nan without any."""
        forged = self.skilled if kind == "skilled" else self.random
        return metrics.eer(self.genuine, forged)[0] if len(forged) else float("nan")

    @property
    def selection_error(self) -> float:
        """What the best epoch is chosen by: the mean of the skilled and the random EER."""
        return float(np.nanmean([self.eer("skilled"), self.eer("random")]))


@torch.no_grad()
def embed_rows(
    model: SiameseNet,
    images: CachedImages,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Vectors:
    """Embed every image of a cache: float32 (N, 512), in the order of its rows."""
    model.eval()
    total = len(images.pixels)
    vectors = []
    for start in range(0, total, BATCH):
        rows = np.arange(start, min(start + BATCH, total))
        batch = torch.from_numpy(images.images(rows)).to(device)
        vectors.append(model.embed(batch).cpu().numpy())
        if progress:
            progress(int(rows[-1]) + 1, total)
    return np.concatenate(vectors)


def one_to_one(vectors: Vectors, writers: Sequence[Writer], rng: np.random.Generator) -> Scores:
    """Distances of the 1:1 protocol; as many random pairs as genuine ones."""

    def distances(pairs: NDArray[np.intp]) -> Floats:
        difference = vectors[pairs[:, 0]].astype(np.float64) - vectors[pairs[:, 1]]
        return np.asarray(np.linalg.norm(difference, axis=1))

    genuine = np.concatenate([genuine_pairs(writer) for writer in writers])
    skilled = np.concatenate([skilled_pairs(writer) for writer in writers])
    strangers = random_pairs(writers, len(genuine), rng=rng)
    return Scores(
        genuine=distances(genuine), skilled=distances(skilled), random=distances(strangers)
    )


def with_references(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    references: int,
    scoring: Scoring,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Scores:
    """Scores of the N-references protocol, pooled over writers and draws.

    Writers without a genuine signature beyond their references are left out.
    """
    kinds: dict[str, list[Floats]] = {"genuine": [], "skilled": [], "random": []}
    able = [writer for writer in writers if len(writer.genuine) > references]
    for _ in range(draws):
        for writer in able:
            order = rng.permutation(writer.genuine)
            enrolled = vectors[order[:references]]
            strangers = [rng.choice(other.genuine) for other in able if other is not writer]
            taken_off = offset(enrolled, scoring)
            for kind, rows in (
                ("genuine", order[references:]),
                ("skilled", writer.forged),
                ("random", np.array(strangers, dtype=np.intp)),
            ):
                nearest = [distances_to(vectors[row], enrolled).min() for row in rows]
                kinds[kind].append(np.array(nearest, dtype=np.float64) - taken_off)
    return Scores(**{kind: np.concatenate([*found, []]) for kind, found in kinds.items()})


def fit_scoring(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    policy: metrics.Policy,
    rng: np.random.Generator,
) -> Scoring:
    """Fit the rule for several references on development writers.

    The population's spread is measured at five references; its weight is the one of a small grid
    with the lowest selection error there; the thresholds follow `policy`, skilled and random
    forgeries weighing alike, at each number of references that the writers can give.
    """
    most = max(len(writer.genuine) for writer in writers) - 1
    counts = [count for count in REFERENCE_COUNTS if count <= most]
    middle = min(5, max(counts))
    able = [writer for writer in writers if len(writer.genuine) > middle]
    spreads = [spread(vectors[rng.permutation(writer.genuine)[:middle]])[0] for writer in able]
    rule = Scoring(thresholds={1: 1.0}, population_spread=float(np.mean(spreads)), prior=2.0)
    seed = int(rng.integers(2**31))

    def scores(candidate: Scoring, count: int) -> Scores:
        same_draws = np.random.default_rng(seed)
        return with_references(
            vectors, writers, references=count, scoring=candidate, rng=same_draws
        )

    candidates = [replace(rule, spread_weight=weight) for weight in SPREAD_WEIGHTS]
    best = min(candidates, key=lambda candidate: scores(candidate, middle).selection_error)
    thresholds = {count: fit_threshold(scores(best, count), policy) for count in counts}
    return replace(best, thresholds=thresholds)


def summary(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    threshold: float,
    scoring: Scoring,
    seed: int,
) -> list[dict[str, float | int | str]]:
    """One row for 1:1 and for each number of references the writers can give, rates in 0 to 1.

    FAR and FRR are those at the checkpoint's own threshold, fitted on other writers.
    """
    rows = []
    pairs = one_to_one(vectors, writers, np.random.default_rng(seed))
    rows.append(_row("1:1", pairs, threshold))
    for count in REFERENCE_COUNTS:
        if any(len(writer.genuine) > count for writer in writers):
            scores = with_references(
                vectors,
                writers,
                references=count,
                scoring=scoring,
                rng=np.random.default_rng((seed, count)),
            )
            label = f"{count} reference{'s' if count > 1 else ''}"
            rows.append(_row(label, scores, scoring.threshold_for(count)))
    return rows


def _row(protocol: str, scores: Scores, threshold: float) -> dict[str, float | int | str]:
    def far(forged: Floats) -> float:
        return metrics.far(forged, threshold) if len(forged) else float("nan")

    return {
        "protocol": protocol,
        "skilled_eer": scores.eer("skilled"),
        "random_eer": scores.eer("random"),
        "threshold": threshold,
        "frr": metrics.frr(scores.genuine, threshold),
        "far_skilled": far(scores.skilled),
        "far_random": far(scores.random),
        "genuine": len(scores.genuine),
        "skilled": len(scores.skilled),
        "random": len(scores.random),
    }


def fit_threshold(scores: Scores, policy: metrics.Policy) -> float:
    """The threshold by `policy`, with skilled and random forgeries in equal parts."""
    skilled, random = scores.skilled, scores.random
    size = max(len(skilled), len(random))
    forged = [np.resize(kind, size) for kind in (skilled, random) if len(kind)]
    return metrics.threshold(scores.genuine, np.concatenate(forged), policy)
