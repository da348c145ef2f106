"""A specimen beside others: copies, strangers among the signer's own, and somebody else's hand.

Limits are the checkpoint's own where it has some: a specimen is far from its fellows when the rule
would reject it, and near another signer's when the rule would accept it as theirs.
"""

from collections.abc import Callable

import cv2
import numpy as np

from .arrays import Canvas, Vectors
from .scoring import Places, Scoring, scores, scores_at_least
from .specimen import Remark, Weight

CLOSE = 0.5
"""Of the usual distance between a signer's specimens: one scan made again stays below it."""
COPY, ALIKE = 0.6, 0.45
"""Overlap of two canvases from which close ones are a copy, and from which they may be."""

LAID = (64, 128)
"""Height and width in pixels at which canvases are laid upon each other, if they are finer."""

POINT = "1%"


def usual_distance(scoring: Scoring) -> float:
    """How far a signer's specimens usually lie apart, as well as the checkpoint knows it."""
    return scoring.population_spread or scoring.threshold_for(1)


def close(distance: float, scoring: Scoring) -> bool:
    """Whether two specimens are so close that their canvases are worth comparing."""
    return distance < CLOSE * usual_distance(scoring)


def overlap(first: Canvas, second: Canvas) -> float:
    """The ink that two canvases (1, H, W) share, as a share of the ink of either, 0 to 1.

    Compared where strokes are two pixels wide: on a finer canvas a scan made again misses itself.
    """
    a, b = ((1.0 - _coarse(canvas)) / 2 for canvas in (first, second))  # ink 1, paper 0
    either = float(np.maximum(a, b).sum())
    return float(np.minimum(a, b).sum()) / either if either else 1.0


def _coarse(canvas: Canvas) -> Canvas:
    height, width = LAID
    if canvas.shape[1] <= height:
        return canvas
    small = cv2.resize(canvas[0], (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)[None]


def copied(shared: float, other: str) -> Remark | None:
    """What the overlap with a close specimen, called `other`, means."""
    if shared < ALIKE:
        return None
    sure = shared >= COPY
    return Remark(
        code="near_duplicate",
        weight=Weight.REFUSAL if sure else Weight.WARNING,
        sentence=f"it {'is' if sure else 'may be'} the same signature as {other}, scanned or"
        " saved again",
    )


def far(
    vector: Vectors, fellows: Vectors, scoring: Scoring, by_place: Places | None = None
) -> Remark | None:
    """Whether a specimen (D,) would be rejected as the signer's, by its fellows (N, D).

    `by_place` is what `scoring.places` finds for them, where that is known.
    """
    if not len(fellows):
        return None
    score = float(scores(vector[None], fellows, scoring, by_place)[0])
    _, reject = scoring.band(len(fellows), _point(scoring))
    if score < reject:
        return None
    return Remark(
        code="far_from_own",
        weight=Weight.WARNING,
        sentence="it is so unlike the signer's other specimens that the model would reject it",
    )


def near(
    vector: Vectors,
    theirs: Vectors,
    signer_id: str,
    scoring: Scoring,
    *,
    is_far: Callable[[], bool],
) -> Remark | None:
    """Whether a specimen (D,) would be accepted as another signer's, by their references (N, D).

    One that is far from the signer's own, too, is refused; `is_far` says so, and is asked only of
    a specimen that is near. A checkpoint without operating points has no threshold strict enough to
    ask thousands of signers.
    """
    point = _point(scoring)
    if point is None:
        return None
    accept, _ = scoring.band(len(theirs), point)
    for asked in (scores_at_least, scores):  # nearly all are far off by the first
        if float(asked(vector[None], theirs, scoring)[0]) >= accept:
            return None
    far_as_well = is_far()
    return Remark(
        code="near_another",
        weight=Weight.REFUSAL if far_as_well else Weight.WARNING,
        sentence=f"the model would accept it as the signature of {signer_id}"
        + (", and reject it as this signer's" if far_as_well else ""),
    )


def _point(scoring: Scoring) -> str | None:
    return POINT if POINT in scoring.accept else next(iter(scoring.accept), None)
