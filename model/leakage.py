"""Gates against a model that tells one scan from another instead of one hand from another.

In CEDAR the forgeries were scanned in another session than the genuine signatures: the grey of
the paper alone separates them, with no reference at all. A model that saw the grey looks perfect
there and knows nothing about hands. Three gates show it, on writers the model has not seen:

probe    a random forest (Breiman, Machine Learning 45, 2001) sees one embedding at a time and
         says forged or genuine; without a reference nobody can honestly do that well
session  two different writers are always different, so it must not matter for their distance
         whether the second signature is genuine or forged
random   a stranger's signature is easier to refuse than a skilled forgery; if it is the other
         way round, something else than the hand is looked at

`probe_inputs` puts the probe before the model: what the preprocessed pixels betray on their own.
Measure each corpus by itself: a leak in one is diluted by the others.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from . import metrics
from .arrays import Floats, Rows, Vectors
from .cache import CachedImages
from .dataset import Signer
from .distance import of_pairs, vectors_of
from .preprocess import Preprocessing
from .rates import percent
from .sampling import Writer, by_corpus, writers_of

PROBE_WARNS, PROBE_FAILS = 0.75, 0.85
"""Above these AUCs; slow and shaky strokes are a fair cue, so 0.5 is not to be expected."""

SESSION_RANGE = (0.45, 0.60)
"""An AUC within passes."""

RANDOM_FLOOR, SKILLED_SHARE = 0.02, 0.5
"""The skilled EER is suspect below this share of a random EER that is above the floor."""

FEWEST_WRITERS = 3  # with two, one fold learns from a single hand and is asked about another
TREES, LEAF = 200, 5
"""Of the forest. With leaves of one image a lone cue of AUC 0.78 is found at 0.66, not 0.70."""

SESSION_PAIRS = 20_000  # drawn of each kind; the AUC then varies by 0.003 from the draw alone
GRID = (16, 8)  # columns and rows; with 32 x 16 they drown the greys, and the probe sees less
BINS = 64  # of the grey, four levels each
LEVELS = (0, 1, 2, 5, 10, 25, 50, 75, 90, 95, 98, 99, 100)  # percentiles of the grey

Gate = Literal["probe", "session", "random"]
Verdict = Literal["passed", "warning", "failed", "not measurable"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one gate says: its name, its verdict, and a sentence with the figure and the limit."""

    gate: Gate
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The figures of the three gates, in 0 to 1; nan where they could not be measured.

    `passed` claims that all three were measured and none failed. A gate that cannot be measured
    is neither a pass nor a failure: `passed` is then false, and `failures` may be empty.
    """

    probe_auc: float
    probe_eer: float
    session_auc: float
    skilled_eer: float
    random_eer: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        """One for each gate, in the order of the module's docstring."""
        return _probe_finding(self), _session_finding(self), _random_finding(self)

    @property
    def passed(self) -> bool:
        """Every gate was measured and none failed; warnings are allowed."""
        return all(finding.verdict in ("passed", "warning") for finding in self.findings)

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each gate that failed."""
        return tuple(each.sentence for each in self.findings if each.verdict == "failed")

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each gate that is close to failing or could not be measured."""
        doubtful = ("warning", "not measurable")
        return tuple(each.sentence for each in self.findings if each.verdict in doubtful)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and the checkpoint; None for what could not be measured."""
        figures = {k: None if math.isnan(v) else float(v) for k, v in asdict(self).items()}
        return {
            **figures,
            "passed": self.passed,
            "failures": list(self.failures),
            "warnings": list(self.warnings),
        }


def check(
    vectors: Vectors,
    writers: Sequence[Writer],
    *,
    skilled_eer: float,
    random_eer: float,
    seed: int,
) -> Gates:
    """The gates for embeddings (N, D) of held-out writers, whose rows `writers` name.

    `skilled_eer` and `random_eer` (0 to 1, nan if unknown) are those of the same writers in the
    1:1 protocol. The same seed gives the same figures.
    """
    probe_auc, probe_eer = _probe_writers(np.asarray(vectors), writers, seed)
    return Gates(
        probe_auc=probe_auc,
        probe_eer=probe_eer,
        session_auc=session_test(vectors, writers, np.random.default_rng(seed)),
        skilled_eer=skilled_eer,
        random_eer=random_eer,
    )


def single_image_probe(
    features: NDArray[Any],
    genuine: NDArray[np.bool_],
    writer: NDArray[np.integer[Any]],
    *,
    seed: int,
    folds: int = 5,
) -> tuple[float, float]:
    """How well a forest calls single images forged, on writers it has not seen: (AUC, EER).

    `features` is (N, F), `genuine` and the number of the `writer` are (N,). The writers are dealt
    into `folds`; the votes for "forged" on each fold, by a forest that learnt from the others,
    are pooled. Writers who lack one of the classes are left out: they would turn the hand into a
    cue. An AUC below 0.5 stays below. (nan, nan) with fewer than three writers left, and for
    features that are constant or not finite.
    """
    kept = np.isin(writer, np.intersect1d(writer[genuine], writer[~genuine]))
    features, genuine, writer = features[kept], genuine[kept], writer[kept]
    names = np.random.default_rng(seed).permutation(np.unique(writer))
    if len(names) < FEWEST_WRITERS or not _varies(features):
        return math.nan, math.nan
    forged = np.zeros(len(features))
    for fold in np.array_split(names, min(folds, len(names))):
        held_out = np.isin(writer, fold)
        # Balanced: writers with unequal classes would shift the votes from fold to fold.
        forest = RandomForestClassifier(
            TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed
        )
        forest.fit(features[~held_out], ~genuine[~held_out])
        forged[held_out] = forest.predict_proba(features[held_out])[:, 1]
    votes = forged[genuine], forged[~genuine]
    return metrics.roc_auc(*votes), metrics.eer(*votes)[0]


def session_test(
    vectors: NDArray[Any], writers: Sequence[Writer], rng: np.random.Generator
) -> float:
    """AUC by which genuine-genuine is closer than genuine-forged, two different writers each.

    Every writer's genuine signatures and forgeries are drawn alike and held against the same
    genuine signatures of other writers of that corpus; between corpora the scans differ anyway.
    0.5: it does not matter who wrote the second one; 1: signatures of one session find each
    other. nan with fewer than three writers who have both classes, and for embeddings (N, D)
    that are constant or not finite.
    """
    pairs = _session_pairs(_complete(writers), rng)
    if not len(pairs) or not _varies(vectors[np.unique(pairs)]):
        return math.nan
    first, genuine, forged = pairs.T
    return metrics.roc_auc(
        of_pairs(vectors, vectors, first, genuine), of_pairs(vectors, vectors, first, forged)
    )


def common_displacement(vectors: NDArray[Any], writers: Sequence[Writer]) -> float:
    """AUC by which one direction, that of the other writers' forgeries, tells forged from genuine.

    A signature is taken as it lies off the mean of its writer's genuine ones (of the others, if it
    is one), and measured along the direction in which the forgeries of the corpus' other writers
    lie off theirs, on average. 0.5: forgeries of different writers have nothing in common. nan
    where no corpus has three writers with forgeries and two genuine signatures each, and for
    embeddings (N, D) that are constant or not finite.
    """
    pooled: list[tuple[Floats, Floats]] = []
    for corpus in by_corpus(writers).values():
        found = [lies_off(vectors, writer) for writer in _complete(corpus)]
        apart = np.array([forged.mean(0) for _, forged in found])
        if len(found) >= FEWEST_WRITERS and _varies(np.concatenate([one for one, _ in found])):
            others = (apart.sum(0) - apart) / (len(apart) - 1)
            pooled += [
                (own @ to, forged @ to) for (own, forged), to in zip(found, others, strict=True)
            ]
    if not pooled:
        return math.nan
    genuine, forged = (np.concatenate(kind) for kind in zip(*pooled, strict=True))
    return metrics.roc_auc(genuine, forged)


def lies_off(vectors: NDArray[Any], writer: Writer) -> tuple[Floats, Floats]:
    """How the vectors of a writer's genuine signatures (n, D) and forgeries lie off the genuine.

    Off their mean; for a genuine one off the mean of the others, which takes two.
    """
    units = vectors_of(vectors)
    own, forged = (units[rows].astype(np.float64) for rows in (writer.genuine, writer.forged))
    mean = own.mean(0)
    return (own - mean) * len(own) / (len(own) - 1), forged - mean


def probe_inputs(images: CachedImages, writers: Sequence[Writer], seed: int) -> tuple[float, float]:
    """What the preprocessed pixels betray without any model: (AUC, EER) of the single-image probe.

    The probe sees each canvas averaged down to 8 x 16, the histogram of its grey, and percentiles
    of the grey over all pixels and over the ink alone.
    """
    features = np.stack([_look(canvas) for canvas in images.pixels])
    return _probe_writers(features, writers, seed)


def input_rows(
    signers: Sequence[Signer], inputs: Sequence[Preprocessing], *, cache: Path, seed: int
) -> list[dict[str, str | int | float]]:
    """A table of what the input alone betrays: one row for each preprocessing of these signers.

    A row has `corpus`, `input`, `writers`, `images`, and the probe's `auc` and `eer` in 0 to 1,
    nan where they cannot be measured. Counted are writers with both classes only.
    """
    rows: list[dict[str, str | int | float]] = []
    for how in inputs:
        images = CachedImages(signers, how, cache)
        writers = _complete(writers_of(signers, images))
        auc, eer = probe_inputs(images, writers, seed)
        rows.append(
            {
                "corpus": ", ".join(sorted({signer.corpus for signer in signers})),
                "input": how.label,
                "writers": len(writers),
                "images": sum(len(each.genuine) + len(each.forged) for each in writers),
                "auc": auc,
                "eer": eer,
            }
        )
    return rows


def _complete(writers: Sequence[Writer]) -> tuple[Writer, ...]:
    return tuple(writer for writer in writers if len(writer.genuine) and len(writer.forged))


def _varies(features: NDArray[Any]) -> bool:
    finite = bool(np.isfinite(features).all())
    return finite and not np.allclose(features, features[:1])


def _probe_writers(
    features: NDArray[Any], writers: Sequence[Writer], seed: int
) -> tuple[float, float]:
    kinds = [
        (rows, is_genuine, number)
        for number, writer in enumerate(_complete(writers))
        for rows, is_genuine in ((writer.genuine, True), (writer.forged, False))
    ]
    if not kinds:
        return math.nan, math.nan
    sizes = [len(rows) for rows, _, _ in kinds]
    return single_image_probe(
        features[np.concatenate([rows for rows, _, _ in kinds])],
        np.repeat([is_genuine for _, is_genuine, _ in kinds], sizes),
        np.repeat([number for _, _, number in kinds], sizes),
        seed=seed,
    )


def _session_pairs(writers: Sequence[Writer], rng: np.random.Generator) -> Rows:
    """(n, 3) rows: a genuine signature, and another writer's genuine and forged one."""
    if len(writers) < FEWEST_WRITERS:
        return np.zeros((0, 3), np.intp)
    each = math.ceil(SESSION_PAIRS / len(writers))
    drawn = [np.zeros((0, 3), np.intp)]
    for second in writers:
        others = [w for w in writers if w.corpus == second.corpus and w is not second]
        if others:
            strangers = np.concatenate([other.genuine for other in others])
            kinds = (strangers, second.genuine, second.forged)
            drawn.append(np.stack([rng.choice(rows, each) for rows in kinds], axis=1))
    return np.concatenate(drawn)


def _look(canvas: NDArray[np.uint8]) -> Floats:
    """A canvas (H, W) as the input probe sees it, (218,)."""
    small = cv2.resize(canvas, GRID, interpolation=cv2.INTER_AREA)
    ink = canvas[canvas <= (int(canvas.min()) + int(canvas.max())) / 2]
    greys = [np.percentile(pixels, LEVELS) for pixels in (canvas, ink)]
    shares = np.histogram(canvas, bins=BINS, range=(0, 256))[0] / canvas.size
    return np.concatenate([small.ravel().astype(np.float64), *greys, shares])


_CLASSES = (
    f"needs at least {FEWEST_WRITERS} writers with genuine and forged signatures, and vectors that "
    "differ"
)


def _probe_finding(gates: Gates) -> Finding:
    auc, eer = gates.probe_auc, gates.probe_eer
    if math.isnan(auc):
        return _not_measurable("probe", f"The single-image probe {_CLASSES}")
    verdict: Verdict = (
        "failed" if auc > PROBE_FAILS else "warning" if auc > PROBE_WARNS else "passed"
    )
    return Finding(
        gate="probe",
        verdict=verdict,
        sentence=f"One embedding without a reference tells forged from genuine with AUC {auc:.3f} "
        f"(EER {percent(eer)}); at most {PROBE_WARNS:.2f} passes, above {PROBE_FAILS:.2f}"
        " fails.",
    )


def _session_finding(gates: Gates) -> Finding:
    auc, (low, high) = gates.session_auc, SESSION_RANGE
    if math.isnan(auc):
        return _not_measurable("session", f"The session test {_CLASSES}")
    return Finding(
        gate="session",
        verdict="passed" if low <= auc <= high else "failed",
        sentence="Between two different writers, genuine-genuine is told from genuine-forged with "
        f"AUC {auc:.3f}; {low:.2f} to {high:.2f} passes.",
    )


def _random_finding(gates: Gates) -> Finding:
    skilled, random = gates.skilled_eer, gates.random_eer
    if math.isnan(skilled) or math.isnan(random):
        return _not_measurable(
            "random", "The skilled beside the random EER needs forgeries of both kinds"
        )
    leaks = random > RANDOM_FLOOR and skilled < SKILLED_SHARE * random
    return Finding(
        gate="random",
        verdict="failed" if leaks else "passed",
        sentence=f"EER {percent(skilled)} against skilled and {percent(random)} against "
        f"random forgeries; skilled below half of a random EER above {100 * RANDOM_FLOOR:.0f} %"
        " fails.",
    )


def _not_measurable(gate: Gate, needs: str) -> Finding:
    return Finding(gate=gate, verdict="not measurable", sentence=f"Not measurable: {needs}.")
