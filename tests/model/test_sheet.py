"""A sheet shows every specimen and the distances between them."""

import cv2
import numpy as np
import pytest

from model.plots import PlotError
from model.sheet import MOST, Tile, specimen_sheet


def tiles(count):
    picture = np.full((40, 90), 255, np.uint8)
    picture[15:25, 20:70] = 0
    return [Tile(name=str(n), picture=picture) for n in range(count)]


def distances(count):
    return np.random.default_rng(0).uniform(0.3, 0.9, (count, count))


@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_sheet_is_a_picture_that_grows_with_its_specimens(tmp_path, count):
    specimen_sheet("ada $1", tiles(count), distances(count), tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[0] > 150 + 60 * count
    black = cv2.connectedComponentsWithStats((sheet < 20).astype(np.uint8))[2][1:]
    bars = [s for s in black if s[cv2.CC_STAT_WIDTH] > 50 and s[cv2.CC_STAT_HEIGHT] > 8]
    assert len(bars) == count


def test_a_specimen_without_picture_or_distances_keeps_its_place(tmp_path):
    table = distances(2)
    table[1] = table[:, 1] = np.nan
    shown = [*tiles(1), Tile(name="gone", picture=None, remark="its image is gone")]
    specimen_sheet("ada", shown, table, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(("count", "table"), [(0, 0), (MOST + 1, MOST + 1), (2, 3)])
def test_what_cannot_be_drawn_is_said(tmp_path, count, table):
    with pytest.raises(PlotError):
        specimen_sheet("ada", tiles(count), distances(table), tmp_path / "sheet.png")
