"""Folders of signatures in the CEDAR layout: which files are whose, and who is held out.

root/full_org/original_<signer>_<n>.png      genuine
root/full_forg/forgeries_<signer>_<n>.png    skilled forgeries
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import DatasetError

GENUINE_FOLDER = re.compile(r"full_org|ful_org|originals?|genuines?", re.IGNORECASE)
FORGED_FOLDER = re.compile(r"full_forg|forg|forger(y|ies)|forged|impostors?", re.IGNORECASE)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
USUAL_PLACES = ("", "cedar_dataset", "cedar", "signatures", "data/cedar", "data", "dataset")
_NUMBERS = re.compile(r"(\d+)\D+(\d+)\D*$")


def corpus_of(name: str) -> str:
    """The corpus in the name of a writer, `corpus/number`."""
    return name.rsplit("/", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Signer:
    """One writer's files; `name` is unique over pooled corpora (`corpus/number`)."""

    name: str
    genuine: tuple[Path, ...]
    forged: tuple[Path, ...]

    @property
    def corpus(self) -> str:
        """The folder that the writer comes from."""
        return corpus_of(self.name)

    @property
    def files(self) -> tuple[Path, ...]:
        """The genuine signatures, then the forgeries."""
        return (*self.genuine, *self.forged)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Signers of a run, disjoint by writer."""

    train: tuple[Signer, ...]
    validation: tuple[Signer, ...]
    test: tuple[Signer, ...]


def scan_dataset(folder: Path) -> tuple[Signer, ...]:
    """Find the signers below `folder`, in the order of their numbers.

    The genuine folder may be called full_org, ful_org, original(s) or genuine(s); the forged one
    full_forg, forg, forgery, forgeries, forged or impostor(s), in any case; both are looked for
    in `folder` and in the usual places below it. A corpus without skilled forgeries for some of
    its signers is accepted; one without either folder, or with nothing in it, is a DatasetError
    that says where it looked.
    """
    genuine_folder, forged_folder = _find_folders(folder)
    genuine, forged = _by_signer(genuine_folder), _by_signer(forged_folder)
    for images, kind, place in (
        (genuine, "signature", f"{genuine_folder}/original"),
        (forged, "forgery", f"{forged_folder}/forgeries"),
    ):
        if not images:
            raise DatasetError(f"There is no {kind} named like {place}_<signer>_<n>.png.")
    orphans = sorted(forged.keys() - genuine.keys())
    if orphans:
        raise DatasetError(
            f"{forged_folder} holds forgeries of signers without genuine signatures: "
            f"{', '.join(map(str, orphans[:5]))}{' ...' if len(orphans) > 5 else ''}."
        )
    corpus = genuine_folder.parent.resolve().name
    return tuple(
        Signer(name=f"{corpus}/{number}", genuine=files, forged=forged.get(number, ()))
        for number, files in sorted(genuine.items())
    )


def _find_folders(folder: Path) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}.")
    found: list[Path | None] = [None, None]
    for place in USUAL_PLACES:
        base = folder / place
        below = sorted(base.iterdir()) if base.is_dir() else []
        for index, pattern in enumerate((GENUINE_FOLDER, FORGED_FOLDER)):
            named = [path for path in below if path.is_dir() and pattern.fullmatch(path.name)]
            found[index] = found[index] or (named[0] if named else None)
    if found[0] is None or found[1] is None:
        lacking = " and ".join(
            kind for kind, path in zip(("genuine", "forged"), found, strict=True) if path is None
        )
        raise DatasetError(
            f"No folder of {lacking} signatures in {folder} or the usual places below it "
            f"({', '.join(place for place in USUAL_PLACES if place)}). Expected full_org/ "
            f"(or original, genuine) and full_forg/ (or forgeries, forged, impostors)."
        )
    return found[0], found[1]


def _by_signer(folder: Path) -> dict[int, tuple[Path, ...]]:
    numbered: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for path in folder.iterdir():
        numbers = _NUMBERS.search(path.stem)
        if path.suffix.lower() in IMAGE_SUFFIXES and numbers:
            numbered[int(numbers[1])].append((int(numbers[2]), path))
    return {signer: tuple(path for _, path in sorted(files)) for signer, files in numbered.items()}


def split_by_signer(
    signers: Sequence[Signer],
    *,
    seed: int,
    validation: float = 0.2,
    test: float = 0.1,
) -> Split:
    """Split at random by writer, the seed's 70/20/10 by default (38/11/6 of CEDAR's 55).

    Each part gets at least one writer, unless its share is 0. Raises DatasetError when there are
    too few writers.
    """
    order = np.random.default_rng(seed).permutation(len(signers))
    n_test, n_validation = _share(len(signers), test), _share(len(signers), validation)
    if len(signers) - n_test - n_validation < 2:
        corpora = ", ".join(sorted({signer.corpus for signer in signers}))
        raise DatasetError(
            f"{len(signers)} signers are too few (in {corpora}): training needs at least 2 "
            f"beside {n_validation} for validation and {n_test} for the test."
        )
    shuffled = [signers[i] for i in order]
    parts = (
        shuffled[n_test + n_validation :],
        shuffled[n_test : n_test + n_validation],
        shuffled[:n_test],
    )
    split = Split(**dict(zip(("train", "validation", "test"), map(_ordered, parts), strict=True)))
    check_disjoint(split)
    return split


def _share(count: int, share: float) -> int:
    """Halves are rounded up: CEDAR's 45 public writers are then split 31/9/5 as its 55 38/11/6."""
    return max(math.floor(count * share + 0.5), 1) if share else 0


def _ordered(signers: Iterable[Signer]) -> tuple[Signer, ...]:
    return tuple(sorted(signers, key=lambda signer: (signer.corpus, _number(signer))))


def _number(signer: Signer) -> int:
    return int(signer.name.rsplit("/", 1)[1])


def check_disjoint(split: Split) -> None:
    """Raise DatasetError when a writer or a file stands in two parts of the split."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    seen: dict[str, str] = {}
    for part, signers in parts.items():
        for signer in signers:
            for thing in (signer.name, *map(str, signer.files)):
                if seen.setdefault(thing, part) != part:
                    raise DatasetError(f"{thing} is in both {seen[thing]} and {part}.")


def partition_summary(split: Split) -> list[dict[str, str | int]]:
    """One row per part: signers, genuine signatures, skilled forgeries, pairs of each kind."""
    return [
        {
            "part": part,
            "signers": len(signers),
            "genuine": sum(len(s.genuine) for s in signers),
            "forged": sum(len(s.forged) for s in signers),
            "genuine pairs": sum(len(s.genuine) * (len(s.genuine) - 1) // 2 for s in signers),
            "skilled pairs": sum(len(s.genuine) * len(s.forged) for s in signers),
        }
        for part, signers in (
            ("train", split.train),
            ("validation", split.validation),
            ("test", split.test),
        )
    ]
