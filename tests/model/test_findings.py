"""What is left out of a corpus, and what stands in it twice, is said in sentences."""

import shutil

import pytest

from model.cache import CachedImages
from model.dataset import scan_dataset
from model.findings import duplicates, findings
from model.preprocess import Preprocessing

STROKES = Preprocessing(height=32, width=64)


@pytest.fixture
def copied(corpus, tmp_path):
    """The corpus, to be spoilt."""
    return shutil.copytree(corpus, tmp_path / "set")


def read(folder, tmp_path, signers=slice(None)):
    return CachedImages(scan_dataset(folder)[signers], STROKES, tmp_path / "cache")


def test_a_clean_corpus_has_nothing_to_tell(corpus, tmp_path):
    assert findings(read(corpus, tmp_path)) == ()
    assert duplicates(read(corpus, tmp_path)) == ()


@pytest.mark.parametrize(
    ("source", "copies", "kind", "words"),
    [
        ("full_org/original_1_1", ["full_org/original_1_9"], "genuine", "genuine signatures of"),
        ("full_forg/forgeries_1_1", ["full_forg/forgeries_1_9"], "forged", "forgeries of one"),
        ("full_org/original_1_1", ["full_forg/forgeries_1_9"], "genuine and forged", "of them"),
        ("full_org/original_1_1", ["full_org/original_2_9"], "across writers", "across writers"),
        (
            "full_org/original_1_1",
            ["full_org/original_1_9", "full_forg/forgeries_3_9"],
            "across writers",
            "across writers: 3 files in 1 sets",
        ),
    ],
)  # fmt: skip
def test_pixel_duplicates_are_found_and_told_by_kind(copied, tmp_path, source, copies, kind, words):
    for name in copies:
        shutil.copy(copied / f"{source}.png", copied / f"{name}.png")
    images = read(copied, tmp_path)
    (found,) = duplicates(images)
    assert found.kind == kind
    assert {path.relative_to(copied).with_suffix("").as_posix() for path in found.files} == {
        source,
        *copies,
    }
    (sentence,) = findings(images)
    assert sentence.startswith("Pixel duplicates ")
    assert words in sentence
    assert str(found.files[0]) in sentence


def test_the_same_pixels_in_another_file_format_are_duplicates(copied, tmp_path):
    from PIL import Image

    with Image.open(copied / "full_org" / "original_1_1.png") as image:
        image.save(copied / "full_org" / "original_1_9.bmp")
    assert len(duplicates(read(copied, tmp_path))) == 1


def test_duplicates_in_two_parts_are_found_when_both_are_given(copied, tmp_path):
    shutil.copy(copied / "full_org/original_1_1.png", copied / "full_org/original_6_9.png")
    parts = [read(copied, tmp_path, slice(0, 3)), read(copied, tmp_path, slice(3, 6))]
    assert [duplicates(part) for part in parts] == [(), ()]
    assert [found.kind for found in duplicates(*parts)] == ["across writers"]


def test_a_signer_with_one_usable_image_is_named(copied, tmp_path):
    for n in (2, 3, 4):
        (copied / f"full_org/original_3_{n}.png").unlink()
    for n in (1, 2, 3):
        (copied / f"full_org/original_5_{n}.png").write_bytes(b"no image")
    sentences = findings(read(copied, tmp_path))
    assert len(sentences) == 4
    assert all("original_5_" in sentence and "not a PNG" in sentence for sentence in sentences[:3])
    assert sentences[3] == (
        "Left out 2 of the signers, with fewer than two usable genuine signatures: set/3, set/5."
    )


def test_many_unusable_files_are_not_listed_one_by_one(copied, tmp_path):
    for signer in (1, 2):
        for n in range(1, 5):
            (copied / f"full_forg/forgeries_{signer}_{n}.png").write_bytes(b"no image")
    sentences = findings(read(copied, tmp_path))
    assert len(sentences) == 6
    assert sentences[-1] == "Left out 3 more images that cannot be used."
