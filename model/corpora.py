"""From folders to the parts of a run: which writers teach, which tune, which only test."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .cache import CachedImages, Progress
from .dataset import Signer, Split, check_disjoint, scan_dataset, split_by_signer
from .errors import DatasetError
from .objectives import Part
from .preprocess import Preprocessing
from .sampling import writers_of
from .synthetic_corpus import synthetic_corpus

ALSO_DEVELOPMENT = 0.1
"""Share of an additional corpus whose writers are kept for development."""

GENERATED_EACH = 6
"""Specimens of a made-up signer, and as many imitations: more hands beat more of each."""
GENERATED_SEED = 2026


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

    Of each further corpus a tenth of the writers goes to development and none to the test. Its
    writers without skilled forgeries are left out: more hands of that kind won nothing. Raises
    DatasetError, also when no development writer is left to fit a threshold on.
    """
    corpora = [scan_dataset(corpus) for corpus in (folder, *also)]
    check_names(corpora)
    home = split_by_signer(corpora[0], seed=seed, validation=validation, test=test)
    train, development = list(home.train), list(home.validation)
    for signers in corpora[1:]:
        forged = tuple(signer for signer in signers if signer.forged)
        split = split_by_signer(forged, seed=seed, validation=ALSO_DEVELOPMENT, test=0)
        train += split.train
        development += split.validation
    if not development:
        raise DatasetError("No writer is left for development, so no threshold can be fitted.")
    whole = Split(train=tuple(train), validation=tuple(development), test=home.test)
    check_disjoint(whole)
    return whole


def with_generated(
    split: Split, folder: Path, signers: int, progress: Progress | None = None
) -> Split:
    """The same split with made-up signers, drawn within `folder`, added to training alone."""
    corpus = folder / f"generated-{signers}"
    synthetic_corpus(
        corpus,
        signers=signers,
        seed=GENERATED_SEED,
        genuine=GENERATED_EACH,
        forgeries=GENERATED_EACH,
        progress=progress,
    )
    return replace(split, train=(*split.train, *scan_dataset(corpus)))


def check_unseen(split: Split, taught: Collection[str]) -> None:
    """Raise DatasetError when a development or test writer has taught the weights to begin with."""
    held_out, teachers = (*split.validation, *split.test), set(taught)
    known = [signer.name for signer in held_out if signer.name in teachers]
    if known:
        raise DatasetError(
            f"{len(known)} of {len(held_out)} development and test writers, such as {known[0]}, "
            "have taught the network that this run begins with; split as that run did."
        )


def check_names(corpora: Sequence[Sequence[Signer]]) -> None:
    """Writers are called by the name of their corpus, which must be one corpus only.

    Raises DatasetError.
    """
    [(name, count)] = Counter(signers[0].corpus for signers in corpora).most_common(1)
    if count > 1:
        raise DatasetError(
            f"{count} of the corpora are called {name}, so their writers cannot be told apart; "
            "name each folder once, and rename one of two that are called alike."
        )


def load_parts(
    split: Split, how: Preprocessing, cache: Path, progress: Progress | None = None
) -> Parts:
    """Preprocess what the cache does not hold.

    Raises DatasetError when too few writers have images that can be used.
    """

    def part(name: str, signers: tuple[Signer, ...], needed: int) -> Part:
        images = CachedImages(signers, how, cache, progress=progress)
        writers = writers_of(signers, images)
        if len(writers) < needed:
            raise DatasetError(
                f"Only {len(writers)} of {len(signers)} signers for {name} have two usable "
                f"genuine signatures; at least {needed} must."
            )
        return Part(writers=writers, images=images)

    return Parts(
        train=part("training", split.train, 2),
        validation=part("development", split.validation, 1),
        test=part("the test", split.test, 1 if split.test else 0),
    )
