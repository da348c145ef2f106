"""How often a scan made again is found to be a copy, and two signatures of one hand are not.

    python -m bench.copies FOLDER... [--checkpoint FILE]

The folders have the CEDAR layout. The first four genuine signatures of the first fifteen writers
are turned by up to 1.5 degrees, made 0.8 to 1.25 times as large, blurred, given noise and saved as
JPEG, and laid beside themselves as enrolment does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from bench.documents import folders_and_embedder
from model.arrays import Canvas, Vector
from model.dataset import scan_dataset
from model.inference import Embedder
from model.likeness import close, copied, overlap
from model.preprocess import as_grey
from model.scoring import distances_to
from model.specimen import Weight

WRITERS, EACH = 15, 4
Looked = tuple[Canvas, Vector]
"""A canvas and its embedding."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each folder."""
    folders, embedder = folders_and_embedder("How often scans made again are found.", arguments)
    for folder in folders:
        again, others = _measured(folder, embedder, np.random.default_rng(0))
        print(f"{folder.name}: scanned again {_told(again)}; two of one hand {_told(others)}")


def _measured(
    folder: Path, embedder: Embedder, rng: np.random.Generator
) -> tuple[list[Weight | None], list[Weight | None]]:
    again: list[Weight | None] = []
    others: list[Weight | None] = []
    for signer in scan_dataset(folder)[:WRITERS]:
        files = [path.read_bytes() for path in signer.genuine[:EACH]]
        own = _looked(files, embedder)
        copies = _looked([scanned_again(data, rng) for data in files], embedder)
        again += [_weight(*pair, embedder) for pair in zip(own, copies, strict=True)]
        others += [_weight(*pair, embedder) for pair in combinations(own, 2)]
    return again, others


def _looked(files: Sequence[bytes], embedder: Embedder) -> list[Looked]:
    canvases = [embedder.prepare(data) for data in files]
    return list(zip(canvases, embedder.embed(canvases, exact=True), strict=True))


def _weight(first: Looked, second: Looked, embedder: Embedder) -> Weight | None:
    """What enrolment would say of the second beside the first."""
    if not close(float(distances_to(first[1], second[1][None])[0]), embedder.scoring):
        return None
    remark = copied(overlap(first[0], second[0]), "the other")
    return None if remark is None else remark.weight


def scanned_again(data: bytes, rng: np.random.Generator) -> bytes:
    """The same signature as another scanner might bring it, a JPEG."""
    page = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    scale, angle = rng.uniform(0.8, 1.25), rng.uniform(-1.5, 1.5)
    height, width = page.shape
    size = (round(width * scale * 1.15) + 40, round(height * scale * 1.15) + 40)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turn[:, 2] += ((size[0] - width) / 2, (size[1] - height) / 2)
    page = cv2.warpAffine(as_grey(page), turn, size, borderValue=255)
    page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.4, 0.9))
    grey = np.clip(page * 0.85 + 20 + rng.normal(0, 6, page.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 70])[1])


def _told(weights: Sequence[Weight | None]) -> str:
    refused, warned = (
        sum(weight is kind for weight in weights) / len(weights)
        for kind in (Weight.REFUSAL, Weight.WARNING)
    )
    return f"{refused:.1%} refused and {warned:.1%} warned of, of {len(weights)}"


if __name__ == "__main__":
    main()
