"""What enrolment says of a writer's specimens beside each other, and of a stranger's among them.

    python -m bench.strangers FOLDER... [--checkpoint FILE]

The folders have the CEDAR layout. First the first five genuine signatures of each writer are
offered together, everybody else of the corpus being enrolled with five; then, to each writer with
four, the fifth of the next one, everybody being enrolled with four.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from rich.progress import track

from bench.documents import folders_and_embedder, signer_id
from model.arrays import Vector
from model.dataset import scan_dataset
from model.errors import ModelError
from model.inference import Embedder
from model.scoring import Scoring
from model.specimen import Measures, Specimen, Weight
from worker.inspection import Fellow, Inspection
from worker.register import Register

OFFERED, ENROLLED = 5, 4
CODES = ("far_from_own", "near_another", "near_duplicate")
REFUSED = "refused as another's"
STRANGE = ("far_from_own", REFUSED)


@dataclass(frozen=True, kw_only=True, eq=False)
class Writer:
    """A writer with the first specimens of theirs, as enrolment sees them, and their measures."""

    name: str
    specimens: Sequence[tuple[Fellow, Measures]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print two lines for each folder."""
    folders, embedder = folders_and_embedder("What enrolment says of strangers.", arguments)
    for folder in folders:
        found = list(writers(folder, embedder))
        own = of_their_own(found, embedder.scoring)
        shares = ", ".join(f"{code} {own[code] / OFFERED / len(found):.2%}" for code in CODES)
        print(f"{folder.name}: of {OFFERED * len(found)} of {len(found)} writers' own {shares}")
        strangers = of_strangers(found, embedder.scoring)
        shares = ", ".join(f"{what} {strangers[what] / len(found):.1%}" for what in STRANGE)
        print(f"  of {len(found)} strangers' {shares}")


def writers(folder: Path, embedder: Embedder) -> Iterator[Writer]:
    """The writers of a corpus of whom there are as many usable signatures as are offered."""
    for signer in track(scan_dataset(folder), folder.name, transient=True):
        pages = list(islice(_usable(signer.genuine, embedder), OFFERED))
        if len(pages) < OFFERED:
            continue
        vectors = embedder.embed([page.canvas for _, page in pages], exact=True)
        specimens = [
            (_fellow(path, page, vector), page.measures)
            for (path, page), vector in zip(pages, vectors, strict=True)
        ]
        yield Writer(name=signer_id(signer), specimens=specimens)


def _usable(paths: Sequence[Path], embedder: Embedder) -> Iterator[tuple[Path, Specimen]]:
    for path in paths:
        with suppress(ModelError):
            yield path, embedder.examine(path.read_bytes())


def _fellow(path: Path, page: Specimen, vector: Vector) -> Fellow:
    return Fellow(name=path.name, sha256=str(path), vector=vector, canvas=lambda: page.canvas)


def of_their_own(found: Sequence[Writer], scoring: Scoring) -> Counter[str]:
    """How many specimens of each remark, each writer's offered together."""
    register = enrolled(found, OFFERED)
    counts: Counter[str] = Counter()
    for writer in found:
        inspection = Inspection(writer.name, (), scoring, register)
        vectors = [fellow.vector for fellow, _ in writer.specimens]
        neighbours = inspection.neighbours(vectors)
        for (fellow, measures), neighbour in zip(writer.specimens, neighbours, strict=True):
            beside = [vector for vector in vectors if vector is not fellow.vector]
            remarks = inspection.judge(fellow, measures, neighbour, beside)
            counts.update(remark.code for remark in remarks)
            inspection.accept(fellow)
        far = [inspection.far(fellow.sha256) for fellow, _ in writer.specimens]
        counts.update(remark.code for remark in far if remark is not None)
    return counts


def of_strangers(found: Sequence[Writer], scoring: Scoring) -> Counter[str]:
    """The same for the last specimen of the next writer among the others of each."""
    register = enrolled(found, ENROLLED)
    counts: Counter[str] = Counter()
    for writer, other in zip(found, (*found[1:], *found[:1]), strict=True):
        fellows = [fellow for fellow, _ in writer.specimens[:ENROLLED]]
        inspection = Inspection(writer.name, fellows, scoring, register)
        stranger, measures = other.specimens[ENROLLED]
        [neighbour] = inspection.neighbours([stranger.vector])
        remarks = inspection.judge(stranger, measures, neighbour, ())
        inspection.accept(stranger)
        far = inspection.far(stranger.sha256)
        counts[REFUSED] += any(
            remark.code == "near_another" and remark.weight is Weight.REFUSAL for remark in remarks
        )
        counts["far_from_own"] += far is not None
    return counts


def enrolled(found: Sequence[Writer], specimens: int) -> Register:
    """Everybody, with so many specimens each."""
    register = Register("")
    numbers = count(1)
    for writer in found:
        for fellow, _ in writer.specimens[:specimens]:
            register.learn(next(numbers), writer.name, fellow.sha256, fellow.vector)
    return register


if __name__ == "__main__":
    main()
