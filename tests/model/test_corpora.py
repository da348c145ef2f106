"""Which writers of which corpora come into which part of a run."""

import shutil

import pytest

from model.corpora import choose_writers, load_parts
from model.errors import DatasetError
from model.preprocess import Preprocessing

STROKES = Preprocessing(height=32, width=64)


@pytest.fixture
def more(tmp_path):
    """A corpus of files without content: twelve forged signers, three without forgeries."""
    for number in range(1, 16):
        for kind, name in (("full_org", "original"), ("full_forg", "forgeries")):
            if kind == "full_org" or number <= 12:
                (tmp_path / "more" / kind).mkdir(parents=True, exist_ok=True)
                (tmp_path / "more" / kind / f"{name}_{number}_1.png").touch()
    return tmp_path / "more"


def names(signers):
    return {signer.name for signer in signers}


def test_signers_without_forgeries_are_left_out(corpus, more):
    split = choose_writers(corpus, also=[more], seed=1, validation=0, test=0.34)
    chosen = names(split.train) | names(split.validation)
    assert {name for name in chosen if name.startswith("more/")} == {
        f"more/{n}" for n in range(1, 13)
    }
    assert len(split.validation) == 1


def test_corpora_of_one_name_are_refused(corpus, more, tmp_path):
    alike = shutil.copytree(more, tmp_path / "elsewhere" / "more")
    for others in ([more, more], [more, alike]):
        with pytest.raises(DatasetError, match="2 of the corpora are called more"):
            choose_writers(corpus, also=others, seed=1)


def test_a_further_corpus_of_too_few_writers_is_named(corpus, more):
    for number in range(3, 13):
        (more / "full_forg" / f"forgeries_{number}_1.png").unlink()
    with pytest.raises(DatasetError, match=r"2 signers are too few \(in more\)"):
        choose_writers(corpus, also=[more], seed=1)


def test_a_part_without_enough_usable_signatures_is_refused(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "set")
    for number in range(1, 7):
        for n in (2, 3, 4):
            (folder / "full_org" / f"original_{number}_{n}.png").unlink()
    split = choose_writers(folder, seed=1, validation=0.34, test=0.17)
    with pytest.raises(DatasetError, match="Only 0 of 3 signers for training have two usable"):
        load_parts(split, STROKES, tmp_path / "cache")


def test_another_seed_of_the_split_preprocesses_nothing_again(corpus, tmp_path):
    def never(*_):
        raise AssertionError("decoded again")

    for seed, progress in ((1, None), (2, never)):
        split = choose_writers(corpus, seed=seed, validation=0.34, test=0.17)
        parts = load_parts(split, STROKES, tmp_path, progress)
        assert [len(part.writers) for part in (parts.train, parts.validation, parts.test)] == [
            3,
            2,
            1,
        ]
