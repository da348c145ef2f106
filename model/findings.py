"""What a person should know of a corpus: what is left out of it, and copies among its images."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import CachedImages
from .sampling import writers_of

SHOWN = 5  # files or signers named in one sentence


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Files whose pixels are the same on the model's canvas; `kind` is one of `KINDS`."""

    files: tuple[Path, ...]
    kind: str


KINDS = {
    "genuine": "among the genuine signatures of one writer",
    "forged": "among the forgeries of one writer",
    "genuine and forged": "between the genuine signatures of a writer and the forgeries of them",
    "across writers": "across writers",
}
"""Each kind of copies, and where they are found. Copies across writers may join two parts."""


def duplicates(*images: CachedImages) -> tuple[Copies, ...]:
    """All sets of two or more images that are pixel-identical after preprocessing.

    Given the parts of a split, it also finds copies that stand in two of them.
    """
    same: dict[bytes, list[tuple[Path, str, str]]] = defaultdict(list)
    for part in images:
        for signer in part.signers:
            for path in signer.files:
                if path in part.index:
                    digest = hashlib.sha256(part.pixels[part.index[path]].tobytes()).digest()
                    kind = "genuine" if path in signer.genuine else "forged"
                    same[digest].append((path, signer.name, kind))
    return tuple(
        Copies(files=tuple(path for path, _, _ in found), kind=_kind(found))
        for found in same.values()
        if len(found) > 1
    )


def _kind(found: Sequence[tuple[Path, str, str]]) -> str:
    if len({writer for _, writer, _ in found}) > 1:
        return "across writers"
    kinds = {kind for _, _, kind in found}
    return kinds.pop() if len(kinds) == 1 else "genuine and forged"


def findings(*images: CachedImages, copies: Sequence[Copies] | None = None) -> tuple[str, ...]:
    """Sentences for a person: files left out, signers left out, pixel duplicates. None may apply.

    `copies` are what `duplicates` found in the same images, where it has been asked before.
    Nothing here stops a run: what is unusable is left out, and copies are left in.
    """
    found = duplicates(*images) if copies is None else copies
    return (*_unusable(images), *_alone(images), *_copied(found))


def _unusable(images: Iterable[CachedImages]) -> Iterator[str]:
    skipped = {path: reason for part in images for path, reason in part.skipped.items()}
    for path, reason in list(skipped.items())[:SHOWN]:
        yield f"Left out {path}: {reason}"
    if len(skipped) > SHOWN:
        yield f"Left out {len(skipped) - SHOWN} more images that cannot be used."


def _alone(images: Iterable[CachedImages]) -> Iterator[str]:
    names = []
    for part in images:
        kept = {writer.name for writer in writers_of(part.signers, part)}
        names += [signer.name for signer in part.signers if signer.name not in kept]
    if names:
        shown = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
        yield (
            f"Left out {len(names)} of the signers, with fewer than two usable genuine "
            f"signatures: {shown}."
        )


def _copied(found: Sequence[Copies]) -> Iterator[str]:
    for kind, where in KINDS.items():
        sets = [copies.files for copies in found if copies.kind == kind]
        if sets:
            yield (
                f"Pixel duplicates {where}: {sum(map(len, sets))} files in {len(sets)} sets, "
                f"such as {sets[0][0]} and {sets[0][1]}."
            )
