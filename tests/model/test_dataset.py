"""Folders become signers, and no writer crosses from one part to another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.cache import CachedImages
from model.dataset import Signer, check_disjoint, partition_summary, scan_dataset, split_by_signer
from model.errors import DatasetError
from model.preprocess import Preprocessing, preprocess
from model.sampling import (
    balanced_pairs,
    genuine_pairs,
    skilled_pairs,
    writer_batches,
    writers_of,
)

STROKES = Preprocessing(height=32, width=64)


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("genuine", "forged"),
    [
        ("full_org", "full_forg"),
        ("ful_org", "forg"),
        ("Originals", "forgeries"),
        ("genuine", "forged"),
        ("genuines", "impostors"),
        ("original", "forgery"),
    ],
)
@pytest.mark.parametrize("place", ["", "cedar_dataset", "data/cedar"])
def test_the_usual_names_and_places_are_found(tmp_path, genuine, forged, place):
    touch(tmp_path / place / genuine, "original_10_2.png", "original_10_1.png", "original_9_1.png")
    touch(tmp_path / place / forged, "forgeries_9_1.PNG", "notes.txt")
    signers = scan_dataset(tmp_path)
    assert [signer.name.rsplit("/")[-1] for signer in signers] == ["9", "10"]
    assert [path.name for path in signers[1].genuine] == ["original_10_1.png", "original_10_2.png"]
    assert [path.name for path in signers[0].forged] == ["forgeries_9_1.PNG"]


def test_a_missing_class_is_named_with_the_places_searched(tmp_path):
    touch(tmp_path / "full_org", "original_1_1.png")
    with pytest.raises(DatasetError, match=r"No folder of forged signatures .*cedar_dataset"):
        scan_dataset(tmp_path)
    with pytest.raises(DatasetError, match="There is no folder"):
        scan_dataset(tmp_path / "nowhere")


def test_an_empty_genuine_folder_and_orphaned_forgeries_are_refused(tmp_path):
    touch(tmp_path / "a" / "full_org")
    touch(tmp_path / "a" / "full_forg")
    with pytest.raises(DatasetError, match="holds no signature named like"):
        scan_dataset(tmp_path / "a")
    touch(tmp_path / "b" / "full_org", "original_1_1.png")
    touch(tmp_path / "b" / "full_forg", "forgeries_2_1.png")
    with pytest.raises(DatasetError, match="without genuine signatures: 2"):
        scan_dataset(tmp_path / "b")


def signers(count, corpus="c"):
    return [
        Signer(
            name=f"{corpus}/{n}",
            genuine=(Path(f"{corpus}/o{n}_1"), Path(f"{corpus}/o{n}_2")),
            forged=(Path(f"{corpus}/f{n}"),),
        )
        for n in range(count)
    ]


def test_the_seeds_split_of_cedar_is_38_11_6():
    split = split_by_signer(signers(55), seed=123)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [38, 11, 6]
    again = split_by_signer(signers(55), seed=123)
    assert split == again != split_by_signer(signers(55), seed=124)


def test_no_writer_is_in_two_parts():
    split = split_by_signer(signers(20), seed=1)
    names = [s.name for part in (split.train, split.validation, split.test) for s in part]
    assert len(names) == len(set(names)) == 20


def test_a_leak_between_parts_is_found():
    split = split_by_signer(signers(20), seed=1)
    with pytest.raises(DatasetError, match="is in both train and test"):
        check_disjoint(replace(split, test=(split.train[0],)))
    stranger = Signer(name="c/99", genuine=split.train[0].genuine, forged=())
    with pytest.raises(DatasetError, match="is in both train and test"):
        check_disjoint(replace(split, test=(stranger,)))


def test_too_few_writers_are_refused():
    with pytest.raises(DatasetError, match="3 signers are too few"):
        split_by_signer(signers(3), seed=1)


def test_the_summary_counts_the_pairs():
    rows = partition_summary(split_by_signer(signers(20), seed=1))
    assert rows[0]["genuine pairs"] == rows[0]["signers"] == 14
    assert rows[0]["skilled pairs"] == 28


def test_the_cache_gives_what_preprocess_gives_and_never_decodes_twice(corpus, tmp_path):
    found = scan_dataset(corpus)
    steps = []
    first = CachedImages(found, STROKES, tmp_path, progress=lambda *at: steps.append(at))
    assert steps[-1] == (48, 48)
    path = found[1].forged[0]
    expected = preprocess(path.read_bytes(), STROKES)
    np.testing.assert_allclose(first.images(first.rows([path]))[0], expected, atol=1 / 127)

    def fail(*_):
        raise AssertionError("decoded again")

    again = CachedImages(found, STROKES, tmp_path, progress=fail)
    assert np.array_equal(again.pixels, first.pixels)
    assert not list(tmp_path.glob("*.part"))


def test_an_unreadable_file_is_left_out_with_its_reason(corpus, tmp_path):
    found = scan_dataset(corpus)
    broken = tmp_path / "original_1_99.png"
    broken.write_bytes(b"no image")
    mended = [replace(found[0], genuine=(*found[0].genuine, broken)), *found[1:]]
    images = CachedImages(mended, STROKES, tmp_path / "cache")
    assert list(images.skipped) == [broken]
    assert "not a PNG" in images.skipped[broken]
    assert len(writers_of(mended, images)[0].genuine) == len(found[0].genuine)


@pytest.fixture
def writers(corpus, tmp_path):
    found = scan_dataset(corpus)
    return writers_of(found, CachedImages(found, STROKES, tmp_path))


def test_pairs_are_balanced_and_labelled_right(writers):
    pairs = balanced_pairs(writers, rng=np.random.default_rng(0))
    owner = {row: w.name for w in writers for row in (*w.genuine, *w.forged)}
    genuine = {row for w in writers for row in w.genuine}
    assert pairs.same.mean() == 0.5
    for first, second, same in zip(pairs.first, pairs.second, pairs.same, strict=True):
        assert first in genuine
        both_genuine_of_one = second in genuine and owner[first] == owner[second]
        assert both_genuine_of_one == bool(same)
        assert first != second


def test_pairs_are_all_of_them(writers):
    assert len(genuine_pairs(writers[0])) == 4 * 3 // 2
    assert len(skilled_pairs(writers[0])) == 4 * 4


def test_a_batch_holds_its_writers_genuine_and_own_forgeries(writers):
    batches = writer_batches(
        writers, steps=3, per_batch=3, images_each=2, focus=None, rng=np.random.default_rng(0)
    )
    for batch in batches:
        assert len(batch.rows) == 3 * 2 * 2
        for number in np.unique(batch.writers):
            mine = batch.writers == number
            assert set(batch.rows[mine & batch.genuine]) <= set(writers[number].genuine)
            assert set(batch.rows[mine & ~batch.genuine]) <= set(writers[number].forged)


def test_half_of_a_batch_comes_from_the_corpus_in_focus(writers):
    home = [replace(w, corpus="home") for w in writers[:3]]
    away = [replace(w, corpus="away") for w in writers[3:]]
    batches = writer_batches(
        [*home, *away],
        steps=5,
        per_batch=4,
        images_each=1,
        focus="home",
        rng=np.random.default_rng(0),
    )
    for batch in batches:
        assert sorted(number < 3 for number in np.unique(batch.writers)) == [
            False,
            False,
            True,
            True,
        ]
