"""Folders become signers, and no writer crosses from one part to another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.cache import CachedImages
from model.dataset import Signer, check_disjoint, partition_summary, scan_dataset, split_by_signer
from model.errors import DatasetError
from model.preprocess import Preprocessing
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


@pytest.mark.parametrize(
    ("there", "lacking"), [("full_org", "forged"), ("full_forg", "genuine"), ("", "genuine and f")]
)
def test_a_missing_class_is_named_with_the_places_searched(tmp_path, there, lacking):
    touch(tmp_path / "set" / there, "original_1_1.png")
    with pytest.raises(
        DatasetError, match=rf"No folder of {lacking}.* signatures in .*set .*cedar_dataset"
    ):
        scan_dataset(tmp_path / "set")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"There is no folder .*nowhere"):
        scan_dataset(tmp_path / "nowhere")


def test_a_class_without_a_file_is_named_with_the_names_expected(tmp_path):
    touch(tmp_path / "a" / "full_org", "scan.png", "original_1_1.txt")
    touch(tmp_path / "a" / "full_forg", "forgeries_1_1.png")
    with pytest.raises(DatasetError, match=r"no signature named like .*/a/full_org/original_<sig"):
        scan_dataset(tmp_path / "a")
    touch(tmp_path / "b" / "full_org", "original_1_1.png")
    touch(tmp_path / "b" / "full_forg")
    with pytest.raises(DatasetError, match=r"no forgery named like .*/b/full_forg/forgeries_<sig"):
        scan_dataset(tmp_path / "b")


def test_orphaned_forgeries_are_refused(tmp_path):
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


@pytest.mark.parametrize(("count", "sizes"), [(55, (38, 11, 6)), (45, (31, 9, 5))])
def test_the_seeds_split_of_cedar_is_70_20_10(count, sizes):
    split = split_by_signer(signers(count), seed=123)
    assert tuple(map(len, (split.train, split.validation, split.test))) == sizes


def test_a_seed_gives_one_split():
    split = split_by_signer(signers(55), seed=123)
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


def test_too_few_writers_are_refused_with_their_corpus_and_the_need():
    with pytest.raises(
        DatasetError, match=r"3 signers are too few \(in c\): .* at least 2 beside 1 for validation"
    ):
        split_by_signer(signers(3), seed=1)
    with pytest.raises(DatasetError, match="20 signers are too few"):
        split_by_signer(signers(20), seed=1, validation=0.6, test=0.5)


def test_the_summary_counts_the_pairs():
    rows = partition_summary(split_by_signer(signers(20), seed=1))
    assert rows[0]["genuine pairs"] == rows[0]["signers"] == 14
    assert rows[0]["skilled pairs"] == 28


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
        writers, steps=3, per_batch=3, images_each=2, rng=np.random.default_rng(0)
    )
    for batch in batches:
        assert len(batch.rows) == 3 * 2 * 2
        for number in np.unique(batch.writers):
            mine = batch.writers == number
            assert set(batch.rows[mine & batch.genuine]) <= set(writers[number].genuine)
            assert set(batch.rows[mine & ~batch.genuine]) <= set(writers[number].forged)


def test_either_half_of_a_batch_comes_from_one_corpus_and_no_writer_comes_twice(writers):
    pooled = [replace(w, corpus="home" if n < 3 else "away") for n, w in enumerate(writers)]
    batches = writer_batches(
        pooled, steps=20, per_batch=4, images_each=1, rng=np.random.default_rng(0)
    )
    drawn = [sorted(number < 3 for number in np.unique(batch.writers)) for batch in batches]
    mixed, of_home, of_away = [False, False, True, True], [True] * 3, [False] * 3
    assert all(one in (mixed, of_home, of_away) for one in drawn)
    assert mixed in drawn
    assert of_home in drawn
    assert of_away in drawn


def test_a_writer_without_forgeries_gives_genuine_signatures_to_a_batch(writers):
    unforged = [replace(w, forged=w.forged[:0]) for w in writers]
    (batch,) = writer_batches(
        unforged, steps=1, per_batch=3, images_each=2, rng=np.random.default_rng(0)
    )
    assert batch.genuine.all()
    assert len(batch.rows) == 3 * 2
