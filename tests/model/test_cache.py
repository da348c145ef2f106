"""Each signer is preprocessed once, whatever the split, and nothing half-made is ever kept."""

import os
from dataclasses import replace

import numpy as np
import pytest

from model.cache import CachedImages, write_canvas
from model.dataset import Signer, scan_dataset
from model.errors import DatasetError, FileNotWritten
from model.preprocess import Preprocessing, preprocess, to_pixels
from model.sampling import writers_of
from tests.model.test_files import largest_file

STROKES = Preprocessing(height=32, width=64)


@pytest.fixture
def signers(corpus):
    return scan_dataset(corpus)


def never(*_):
    raise AssertionError("decoded again")


def test_the_cache_gives_what_preprocess_gives_and_never_decodes_twice(signers, tmp_path):
    steps = []
    first = CachedImages(signers, STROKES, tmp_path, progress=lambda *at: steps.append(at))
    assert steps == [(8 * n, 48) for n in range(1, 7)]
    path = signers[1].forged[0]
    expected = preprocess(path.read_bytes(), STROKES)
    np.testing.assert_allclose(first.images(first.rows([path]))[0], expected, atol=1 / 127)
    again = CachedImages(signers, STROKES, tmp_path, progress=never)
    assert np.array_equal(again.pixels, first.pixels)
    assert again.index == first.index
    assert not list(tmp_path.rglob("*.part"))


def test_another_split_finds_its_signers_there(signers, tmp_path):
    whole = CachedImages(signers, STROKES, tmp_path)
    part = CachedImages([signers[4], signers[1]], STROKES, tmp_path, progress=never)
    assert len(part.pixels) == 16
    for path in (signers[4].genuine[2], signers[1].forged[3]):
        assert np.array_equal(part.pixels[part.index[path]], whole.pixels[whole.index[path]])


@pytest.mark.parametrize("told", ["coordinates", "detail"])
def test_what_the_spare_channels_say_does_not_change_the_pixels(signers, tmp_path, told):
    plain = CachedImages(signers, STROKES, tmp_path)
    how = replace(STROKES, **{told: True})
    seen = CachedImages(signers, how, tmp_path, progress=never)
    assert np.array_equal(seen.pixels, plain.pixels)
    assert seen.how == how
    assert how.label != STROKES.label


@pytest.mark.parametrize(
    "other",
    [Preprocessing(height=64, width=64), Preprocessing(name="seed_grey", height=32, width=64)],
)
def test_another_canvas_or_input_is_another_cache(signers, tmp_path, other):
    CachedImages(signers, STROKES, tmp_path)
    made = []
    CachedImages(signers, other, tmp_path, progress=lambda *at: made.append(at))
    assert made[-1] == (48, 48)


def test_a_changed_file_costs_its_signer_only(signers, tmp_path):
    before = CachedImages(signers, STROKES, tmp_path / "cache")
    changed = tmp_path / "original_1_1.png"
    changed.write_bytes(signers[1].genuine[0].read_bytes())
    signers = (replace(signers[0], genuine=(changed, *signers[0].genuine[1:])), *signers[1:])
    made = []
    for content in (signers[1].genuine[0], signers[1].genuine[1]):
        changed.write_bytes(content.read_bytes())
        os.utime(changed, ns=(len(made), len(made)))
        after = CachedImages(
            signers, STROKES, tmp_path / "cache", progress=lambda *at: made.append(at)
        )
        row = before.pixels[before.index[content]]
        assert np.array_equal(after.pixels[after.index[changed]], row)
    assert made == [(8, 8), (8, 8)]


def test_an_interrupted_build_goes_on_where_it_was(signers, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CachedImages(signers, STROKES, tmp_path / "cache", progress=interrupt)
    kept = len(list((tmp_path / "cache").rglob("*.npz")))
    assert kept >= 1
    assert not list((tmp_path / "cache").rglob("*.part"))
    totals = []
    images = CachedImages(
        signers, STROKES, tmp_path / "cache", progress=lambda _, total: totals.append(total)
    )
    assert set(totals) <= {48 - 8 * kept}
    assert np.array_equal(images.pixels, CachedImages(signers, STROKES, tmp_path / "b").pixels)


def test_a_full_disk_stops_the_build_with_a_sentence_and_leaves_no_part(signers, tmp_path):
    with largest_file(1000), pytest.raises(FileNotWritten, match="npz cannot be written: File too"):
        CachedImages(signers, STROKES, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(CachedImages(signers, STROKES, tmp_path).index) == 48


def test_a_damaged_cache_file_is_named(signers, tmp_path):
    CachedImages(signers[:1], STROKES, tmp_path)
    (file,) = tmp_path.rglob("*.npz")
    for damaged in (file.read_bytes()[:400], b"", b"no archive"):
        file.write_bytes(damaged)
        with pytest.raises(DatasetError, match=rf"{file.name} in the cache is damaged; remove it"):
            CachedImages(signers[:1], STROKES, tmp_path)


def test_an_unreadable_file_is_left_out_with_its_reason(signers, tmp_path):
    broken = tmp_path / "original_1_99.png"
    broken.write_bytes(b"no image")
    mended = [replace(signers[0], genuine=(*signers[0].genuine, broken)), *signers[1:]]
    for _ in ("made", "found there"):
        images = CachedImages(mended, STROKES, tmp_path / "cache")
        assert list(images.skipped) == [broken]
        assert "not a PNG" in images.skipped[broken]
        assert broken not in images.index
        assert len(writers_of(mended, images)[0].genuine) == len(signers[0].genuine)


def test_a_file_that_cannot_be_opened_stops_the_run_and_is_named(signers, tmp_path):
    folder, gone = tmp_path / "original_1_98.png", tmp_path / "original_1_99.png"
    folder.mkdir()
    for path, words in ((folder, "Is a directory"), (gone, "No such file")):
        with pytest.raises(DatasetError, match=rf"{path.name} cannot be read: {words}"):
            CachedImages([replace(signers[0], forged=(path,))], STROKES, tmp_path / "cache")


def test_a_corpus_without_a_usable_image_is_refused(signers, tmp_path):
    broken = tmp_path / "original_1_1.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"Not one of 1 images is usable; .*original_1_1.png: "):
        CachedImages([replace(signers[0], genuine=(broken,), forged=())], STROKES, tmp_path)


def test_no_signers_are_no_images(tmp_path):
    images = CachedImages((), STROKES, tmp_path)
    assert images.pixels.shape == (0, 32, 64)
    assert not images.index


def test_a_signer_of_whom_only_canvases_are_there_is_taken_as_it_is_and_not_cached(
    signers, tmp_path
):
    paths = [tmp_path / f"{number}.npy" for number in range(2)]
    canvases = [preprocess(path.read_bytes(), STROKES) for path in signers[0].genuine[:2]]
    for path, canvas in zip(paths, canvases, strict=True):
        write_canvas(path, canvas)
    signer = Signer(name="enrolled/1", genuine=tuple(paths), forged=())
    found = CachedImages([signer, signers[1]], STROKES, tmp_path / "cache")
    np.testing.assert_allclose(found.images(found.rows(paths)), canvases, atol=1 / 127)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
    coarse = CachedImages([signer], replace(STROKES, height=16, width=32), tmp_path / "cache")
    halved = to_pixels(canvases[0]).reshape(16, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse.pixels[0], halved, atol=0.51)
    with pytest.raises(DatasetError, match="is no canvas of strokes/2 32x32"):
        CachedImages([signer], replace(STROKES, width=32), tmp_path / "cache")
