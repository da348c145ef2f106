"""From folders to the parts of a run: which writers teach, which tune, which only test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import CachedImages, Progress
from .dataset import Signer, Split, check_disjoint, scan_dataset, split_by_signer
from .errors import DatasetError
from .objectives import Part
from .preprocess import Preprocessing
from .sampling import writers_of

ALSO_DEVELOPMENT = 0.1
"""Share of an additional corpus whose writers are kept for development."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The three parts, their images preprocessed."""

    train: Part
    validation: Part
    test: Part


def choose_writers(
    folder: Path,
    *,
    also: Sequence[Path] = (),
    seed: int,
    validation: float = 0.2,
    test: float = 0.1,
) -> Split:
    """Split `folder` by writer, and add the writers of further corpora to training.

    Of each further corpus a tenth of the writers goes to development, none to the test, and
    writers without skilled forgeries are left out. Raises DatasetError, also when no development
    writer is left to fit a threshold on.
    """
    home = split_by_signer(scan_dataset(folder), seed=seed, validation=validation, test=test)
    train, development = list(home.train), list(home.validation)
    for other in also:
        forged = tuple(signer for signer in scan_dataset(other) if signer.forged)
        split = split_by_signer(forged, seed=seed, validation=ALSO_DEVELOPMENT, test=0)
        train += split.train
        development += split.validation
    if not development:
        raise DatasetError("No writer is left for development, so no threshold can be fitted.")
    whole = Split(train=tuple(train), validation=tuple(development), test=home.test)
    check_disjoint(whole)
    return whole


def load_parts(
    split: Split, how: Preprocessing, cache: Path, progress: Progress | None = None
) -> Parts:
    """Preprocess what the cache does not hold, one cache file for each part."""

    def part(signers: tuple[Signer, ...]) -> Part:
        images = CachedImages(signers, how, cache, progress=progress)
        return Part(writers=writers_of(signers, images), images=images)

    return Parts(train=part(split.train), validation=part(split.validation), test=part(split.test))
