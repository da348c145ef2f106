"""What cleaning takes off the ink of real scans, and what it leaves that was lost before.

    python -m bench.cleaning FOLDER... [--sheet FILE]

The folders have the CEDAR layout. The sheet shows the scans with lines first, then others that
changed most: what is taken off in red, what stays now and did not by `strokes/1` in green.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from model.arrays import Mask
from model.dataset import scan_dataset
from model.errors import ModelError
from model.files import write_atomically
from model.lines import without_lines
from model.preprocess import Grey, Preprocessing, decode_grey, ink_mask

BEFORE, NOW = Preprocessing(version=1), Preprocessing(version=2)
NOTICED = 0.002
"""Share of the ink that is lost or won, below which a scan counts as unchanged."""

TILE = (150, 300)
ACROSS, MOST = 5, 60
RED, GREEN = (0, 0, 255), (0, 160, 0)


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """One scan: its name, the ink before and now (H, W), and whether a line was in it."""

    name: str
    before: Mask
    now: Mask
    lined: bool

    def share(self, pixels: Mask) -> float:
        """Of the ink before."""
        return float(np.count_nonzero(pixels) / np.count_nonzero(self.before))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each folder and class."""
    parser = argparse.ArgumentParser(description="What cleaning takes off the ink of real scans.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--sheet", type=Path, help="a PNG of the scans that changed most")
    options = parser.parse_args(arguments)
    shown: list[Cleaned] = []
    for folder in options.folders:
        signers = scan_dataset(folder)
        for kind in ("genuine", "forged"):
            paths = [path for signer in signers for path in getattr(signer, kind)]
            found = list(changed(paths))
            print(line(f"{folder.name}, {kind}", len(paths), found))
            shown += found
    if options.sheet and shown:
        shown.sort(key=lambda one: (not one.lined, -one.share(one.before ^ one.now)))
        pixels = cv2.imencode(".png", sheet(shown[:MOST]))[1]
        write_atomically(options.sheet, pixels.tobytes())


def changed(paths: Sequence[Path]) -> Iterator[Cleaned]:
    """The scans whose ink is another now."""
    for path in paths:
        try:
            grey = decode_grey(path.read_bytes())
            before, now = (ink_mask(grey, how) for how in (BEFORE, NOW))
        except ModelError:
            continue
        lined = not np.array_equal(without_lines(before), before)
        one = Cleaned(name=path.stem, before=before, now=now, lined=lined)
        if lined or one.share(before ^ now) > NOTICED:
            yield one


def line(what: str, scans: int, found: Sequence[Cleaned]) -> str:
    """How many scans had a line, lost specks, or have strokes again."""
    lined = sum(one.lined for one in found)
    others = [one for one in found if not one.lined]
    lost = sum(one.share(one.before & ~one.now) > NOTICED for one in others)
    won = sum(one.share(one.now & ~one.before) > NOTICED for one in others)
    return f"{what}: {scans} scans; {lined} had lines; others: {lost} specks, {won} faint strokes"


def sheet(found: Sequence[Cleaned]) -> Grey:
    """Their pictures beside each other (H, W, 3)."""
    tiles = [_tile(one) for one in found]
    height, width = TILE
    tiles += [np.full((height, width, 3), 255, np.uint8)] * (-len(tiles) % ACROSS)
    rows = [np.concatenate(tiles[i : i + ACROSS], 1) for i in range(0, len(tiles), ACROSS)]
    return np.concatenate(rows)


def _tile(one: Cleaned) -> Grey:
    picture = np.full((*one.now.shape, 3), 255, np.uint8)
    picture[one.now] = 0
    picture[one.before & ~one.now] = RED
    picture[one.now & ~one.before] = GREEN
    height, width = TILE[0] - 24, TILE[1] - 8
    scale = min(height / picture.shape[0], width / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(190, 190, 190))
    tile = np.full((*TILE, 3), 255, np.uint8)
    cv2.putText(tile, one.name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
    tile[20 : 20 + small.shape[0], 3 : 3 + small.shape[1]] = small
    return tile


if __name__ == "__main__":
    main()
