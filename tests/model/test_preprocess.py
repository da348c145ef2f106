"""Every kind of scan comes out as the same signature, and what holds none is refused."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from model import preprocess as module
from model import synthetic
from model.errors import (
    BlankImage,
    ImageTooLarge,
    PageNotFound,
    PreprocessingError,
    RegionOutside,
    UnreadableImage,
)
from model.preprocess import Preprocessing, decode_grey, preprocess

STROKES = Preprocessing(height=64, width=128)


@pytest.fixture(scope="module")
def grey():
    rng = np.random.default_rng(3)
    return synthetic.genuine(synthetic.make_signer(rng), rng)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(array):
    return encoded(Image.fromarray(array))


def agreement(a, b):
    """Share of the ink that two canvases have in common."""
    a, b = (1 - a) / 2, (1 - b) / 2
    return np.minimum(a, b).sum() / np.maximum(a, b).sum()


def variants(grey):
    image = Image.fromarray(grey)
    paper = Image.fromarray(np.full_like(grey, 255))
    transparent = Image.merge("LA", (Image.new("L", image.size, 0), Image.fromarray(255 - grey)))
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    rotated = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    uneven = np.clip(grey * np.linspace(1.0, 0.55, grey.shape[1])[None], 0, 255).astype(np.uint8)
    return {
        "jpeg": encoded(image, "JPEG", quality=90),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
        "tiff-lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "one-bit-tiff-g4": encoded(
            image.point(lambda v: 255 * (v > 128)).convert("1"), "TIFF", compression="group4"
        ),
        "one-bit": encoded(image.point(lambda v: 255 * (v > 128)).convert("1")),
        "sixteen-bit": encoded(sixteen),
        "float-tiff": encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "palette": encoded(image.convert("P")),
        "rgb": encoded(image.convert("RGB")),
        "cmyk-jpeg": encoded(image.convert("CMYK"), "JPEG", quality=90),
        "rgba": encoded(Image.merge("RGBA", (*image.convert("RGB").split(), paper))),
        "transparent-is-paper": encoded(transparent),
        "light-on-dark": png(255 - grey),
        "exif-orientation": encoded(rotated, "JPEG", quality=90, exif=exif),
        "shadow": png(uneven),
        "wide-margin": png(np.pad(grey, 150, mode="edge")),
    }


KINDS = tuple(variants(np.full((20, 20), 200, np.uint8)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scan_gives_the_same_strokes(grey, kind):
    expected = preprocess(png(grey), STROKES)
    found = preprocess(variants(grey)[kind], STROKES)
    assert agreement(expected, found) > 0.8


def test_the_canvas_has_its_shape_range_and_a_free_border(grey):
    canvas = preprocess(png(grey), STROKES)
    assert canvas.shape == (1, 64, 128)
    assert canvas.dtype == np.float32
    assert canvas.min() == -1.0
    assert canvas.max() == 1.0
    assert (canvas[0, :2] == 1.0).all()
    assert (canvas[0, :, :4] == 1.0).all()


def test_brightness_contrast_and_place_on_the_page_do_not_reach_the_canvas(grey):
    expected = preprocess(png(grey), STROKES)
    faint = (grey.astype(float) * 0.4 + 130).astype(np.uint8)
    moved = np.pad(faint, ((300, 20), (10, 500)), mode="edge")
    assert agreement(expected, preprocess(png(moved), STROKES)) > 0.9


def test_separate_strokes_are_all_kept():
    page = np.full((200, 400), 240, np.uint8)
    cv2.line(page, (40, 100), (180, 60), 20, 4)
    cv2.line(page, (250, 60), (360, 140), 20, 4)
    columns = (preprocess(png(page), STROKES)[0] < 0).any(axis=0)
    assert columns[8:20].any()
    assert columns[108:120].any()


def test_a_hairline_scanned_finely_does_not_vanish():
    page = np.full((2000, 4000), 240, np.uint8)
    cv2.line(page, (300, 1500), (3700, 400), 20, 5)
    canvas = preprocess(png(page), STROKES)[0]
    assert (canvas.min(axis=0)[8:-8] < 0.4).all()


def test_a_region_cuts_one_signature_out_of_a_page(grey):
    height, width = grey.shape
    page = np.full((height * 2, width * 2), 235, np.uint8)
    page[:height, :width] = grey
    page[height:, width:] = np.minimum(grey[::-1], 235)
    found = preprocess(png(page), STROKES, region=(0, 0, width, height))
    assert agreement(preprocess(png(grey), STROKES), found) > 0.95
    with pytest.raises(RegionOutside, match="does not lie within the page"):
        preprocess(png(page), STROKES, region=(width, height, width + 1, height))


def test_pages_of_a_tiff_are_counted_from_one(grey):
    first, second = Image.fromarray(np.full_like(grey, 240)), Image.fromarray(grey)
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    assert agreement(preprocess(data, STROKES, page=2), preprocess(png(grey), STROKES)) > 0.99
    with pytest.raises(BlankImage):
        preprocess(data, STROKES)
    with pytest.raises(PageNotFound, match="The document has no page 3"):
        preprocess(data, STROKES, page=3)


def test_frames_of_an_animated_png_are_no_pages(grey):
    first, second = Image.fromarray(grey), Image.fromarray(grey).rotate(180)
    data = encoded(first, "PNG", save_all=True, append_images=[second])
    np.testing.assert_array_equal(preprocess(data, STROKES), preprocess(png(grey), STROKES))
    with pytest.raises(PageNotFound):
        preprocess(data, STROKES, page=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_way_to_hold_the_camera_gives_the_same_page(grey, orientation):
    as_seen = Image.fromarray(grey)
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions, undone by EXIF
    if orientation in back:
        as_seen = as_seen.transpose(Image.Transpose(back[orientation]))
    data = encoded(as_seen, "TIFF", exif=exif)
    np.testing.assert_array_equal(decode_grey(data), grey)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_in_many_bands_is_the_page_in_one(grey, monkeypatch, kind):
    data = variants(grey)[kind]
    expected = decode_grey(data)
    monkeypatch.setattr(module, "BAND", 3_000)
    np.testing.assert_array_equal(decode_grey(data), expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_blank_page_is_refused(seed):
    with pytest.raises(BlankImage):
        preprocess(png(synthetic.blank(np.random.default_rng(seed))), STROKES)


def test_a_few_specks_are_not_a_signature():
    page = np.full((300, 500), 240, np.uint8)
    page[50, 60] = page[200:202, 300:302] = 10
    with pytest.raises(BlankImage, match="too little ink"):
        preprocess(png(page), STROKES)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7\n", b"GIF89a" + b"\0" * 50]
)
def test_what_is_no_image_is_unreadable(data):
    with pytest.raises(UnreadableImage):
        preprocess(data, STROKES)


def test_a_truncated_image_is_unreadable(grey):
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        data = encoded(Image.fromarray(grey), kind)
        with pytest.raises(UnreadableImage):
            preprocess(data[: len(data) // 2], STROKES)


def test_too_many_pixels_are_refused_before_they_are_decoded(grey, monkeypatch):
    def fail(*_):
        raise AssertionError("decoded")

    data = png(grey)
    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(ImageTooLarge, match="450 x 250"):
        decode_grey(data, max_pixels=1000)


def test_a_bomb_beyond_pillows_own_limit_is_refused():
    bomb = encoded(Image.new("1", (30_000, 30_000)))
    with pytest.raises(ImageTooLarge):
        decode_grey(bomb)


def test_seed_grey_keeps_the_grey_and_squashes_the_aspect(grey):
    canvas = preprocess(png(grey), Preprocessing(name="seed_grey"))
    assert canvas.shape == (1, 224, 224)
    assert -1.0 <= canvas.min() < canvas.max() <= 1.0
    assert len(np.unique(canvas)) > 50


def test_without_opencv_seed_grey_falls_back_and_strokes_says_what_is_missing(grey, monkeypatch):
    monkeypatch.setattr(module, "cv2", None)
    assert preprocess(png(grey), Preprocessing(name="seed_grey")).shape == (1, 224, 224)
    with pytest.raises(PreprocessingError, match="opencv-python-headless"):
        preprocess(png(grey), STROKES)


def test_an_unknown_mode_or_version_is_refused_by_name():
    with pytest.raises(PreprocessingError, match="strokes/99"):
        Preprocessing(version=99)
    assert STROKES.label == "strokes/2 64x128"
