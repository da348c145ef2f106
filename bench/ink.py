"""What measuring the ink of documents costs beside the preprocessing that finds it.

    python -m bench.ink FILE-OR-FOLDER...

Both are timed by turns, so that whatever else runs on the machine slows both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import cv2

from model.errors import ModelError
from model.ink import measure_ink
from model.preprocess import Preprocessing, decode_grey, ink_mask, preprocess

HOW = Preprocessing(height=64, width=128)
ROUNDS = 7
MOST = 20
"""Documents of one folder, spread over it."""


def main() -> None:
    """Print a line for each file or folder."""
    cv2.setNumThreads(1)  # as a decoder has it
    for name in sys.argv[1:]:
        print(line(Path(name)))


def line(place: Path) -> str:
    """The median and the highest share of preprocessing, and the median times."""
    found = list(measured(place))
    if not found:
        return f"{place.name}: no document with ink"
    shares = [100 * measuring / preparing for preparing, measuring in found]
    preparing, measuring = (1000 * median(times) for times in zip(*found, strict=True))
    return (
        f"{place.name}: {len(found)} documents; {measuring:.2f} of {preparing:.1f} ms;"
        f" {median(shares):.1f} % in the median, {max(shares):.1f} % at most"
    )


def measured(place: Path) -> Iterator[tuple[float, float]]:
    """Seconds of preprocessing and of measuring, for each document that has ink."""
    paths = sorted(place.iterdir()) if place.is_dir() else [place]
    for path in islice(paths[:: max(1, len(paths) // MOST)], MOST):
        data = path.read_bytes()
        try:
            yield _by_turns(data)
        except ModelError:
            continue


def _by_turns(data: bytes) -> tuple[float, float]:
    mask = ink_mask(decode_grey(data), HOW)
    preparing, measuring = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        preprocess(data, HOW)
        middle = time.perf_counter()
        measure_ink(mask)
        measuring.append(time.perf_counter() - middle)
        preparing.append(middle - begin)
    return median(preparing), median(measuring)


if __name__ == "__main__":
    main()
