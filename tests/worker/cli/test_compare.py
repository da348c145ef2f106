"""`sigctl compare` tells whether two images are by the same hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import compare_images, load_model_for_infer
from tests.worker.cli.conftest import Sigctl
from worker.cli.exits import Exit


def test_an_image_is_the_same_as_itself(sigctl: Sigctl, specimens: Path) -> None:
    done = sigctl("compare", specimens / "1.png", specimens / "1.png")
    assert done.code == 0
    for words in ("same signer", "distance 0.000", "threshold 0.050 (the distance is below it)"):
        assert words in done.text


def test_the_distance_is_that_of_the_seed_helper(
    sigctl: Sigctl, specimens: Path, stranger: Path, tiny_checkpoint: Path
) -> None:
    done = sigctl("compare", specimens / "1.png", stranger, "--json")
    assert done.code == Exit.NOT_ACCEPTED
    model, threshold, size = load_model_for_infer(tiny_checkpoint)
    expected = compare_images(model, threshold, specimens / "1.png", stranger, size)
    assert done.json["distance"] == pytest.approx(expected["distance"], abs=1e-4)
    assert (done.json["threshold"], done.json["same"]) == (threshold, bool(expected["pred"]))


def test_both_are_drawn_side_by_side(sigctl: Sigctl, specimens: Path, here: Path) -> None:
    sigctl("compare", specimens / "1.png", specimens / "2.png", "--picture", "both.png")
    with Image.open(here / "both.png") as picture:
        assert picture.width > 300


def test_nothing_is_recorded(sigctl: Sigctl, specimens: Path, here: Path) -> None:
    sigctl("compare", specimens / "1.png", specimens / "2.png")
    assert [path.name for path in here.iterdir()] == ["specimens"]


@pytest.mark.parametrize(
    ("other", "words"),
    [("nowhere.png", "There is no file nowhere.png."), ("blank.png", "blank.png: "), (".", "")],
)
def test_an_image_that_cannot_be_used_is_named(
    sigctl: Sigctl, specimens: Path, blank: Path, other: str, words: str
) -> None:
    done = sigctl("compare", specimens / "1.png", other)
    assert done.code == Exit.USAGE
    assert words in done.err


def test_a_missing_checkpoint_and_a_bad_one_are_told_apart(
    sigctl: Sigctl, specimens: Path, here: Path
) -> None:
    (here / "bad.pt").write_text("no checkpoint")
    images = (specimens / "1.png", specimens / "2.png")
    missing = sigctl("compare", *images, "--checkpoint", "nowhere.pt")
    assert (missing.code, missing.err) == (Exit.SETUP, "There is no checkpoint nowhere.pt.\n")
    bad = sigctl("compare", *images, "--checkpoint", "bad.pt")
    assert bad.code == Exit.SETUP
    assert "bad.pt" in bad.err


def test_a_picture_that_cannot_be_written_is_said(sigctl: Sigctl, specimens: Path) -> None:
    image = specimens / "1.png"
    done = sigctl("compare", image, image, "--picture", image / "both.png")
    assert done.code == Exit.USAGE
    assert "1.png/both.png" in done.err


def test_the_strokes_that_moved_the_distance_are_painted(
    sigctl: Sigctl, specimens: Path, here: Path
) -> None:
    images = (specimens / "1.png", specimens / "2.png")
    plain = sigctl("compare", *images, "--json")
    done = sigctl("compare", *images, "--saliency", "strokes.png", "--json")
    assert done.json == plain.json | {"saliency": "strokes.png"}
    assert done.code == plain.code
    with Image.open(here / "strokes.png") as picture:
        red, _, blue = (np.asarray(band, int) for band in picture.convert("RGB").split())
    warm = (red - blue > 60).any(axis=0)
    assert warm[: warm.size // 2].any()
    assert warm[warm.size // 2 :].any()
    assert "strokes.png" in sigctl("compare", *images, "--saliency", "strokes.png").out
