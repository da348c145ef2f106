"""Who teaches, tunes and tests the successor of a model, generation after generation."""

from pathlib import Path

import numpy as np
import pytest

from model.dataset import Signer, scan_dataset
from model.errors import DatasetError
from model.lineage import (
    KEPT,
    Lineage,
    carried_on,
    divide,
    enrolled_name,
    is_kept,
    lineage_of,
)


def writers(corpus, numbers, forged=True):
    return tuple(
        Signer(
            name=f"{corpus}/{number}",
            genuine=(Path(f"{corpus}/g{number}.png"),),
            forged=(Path(f"{corpus}/f{number}.png"),) if forged else (),
        )
        for number in numbers
    )


def names(signers):
    return {signer.name for signer in signers}


def enrolled(count):
    return tuple(
        Signer(name=enrolled_name(f"signer-{n}"), genuine=(Path(f"e{n}.npy"),), forged=())
        for n in range(count)
    )


def test_every_writer_keeps_the_part_he_had_and_new_ones_teach():
    known = lineage_of(
        {"train_writers": ["a/1", "a/2"], "development_writers": ["a/3"], "test_writers": ["a/4"]}
    )
    split = divide([writers("a", range(1, 7))], [], known, seed=0)
    assert names(split.train) == {"a/1", "a/2", "a/5", "a/6"}
    assert names(split.validation) == {"a/3"}
    assert names(split.test) == {"a/4"}


def test_a_corpus_that_the_model_does_not_know_is_split_by_the_seed():
    corpora = [writers("b", range(20))]
    split = divide(corpora, [], Lineage(), seed=1)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [14, 4, 2]
    assert divide(corpora, [], Lineage(), seed=1) == split
    assert divide(corpora, [], Lineage(), seed=2) != split


def test_one_signer_in_five_is_kept_from_teaching_for_ever():
    people = enrolled(400)
    split = divide([writers("a", range(10))], people, Lineage(), seed=0)
    kept = {signer.name for signer in people if is_kept(signer.name)}
    assert abs(len(kept) - 400 / KEPT) < 30
    assert kept <= names(split.test)
    later = divide([writers("a", range(10))], people[:7], Lineage(), seed=5)
    assert names(later.train) & kept == set()


def test_the_names_of_enrolled_signers_do_not_tell_their_ids():
    assert "ACC-0042" not in enrolled_name("ACC-0042")
    assert enrolled_name("ACC-0042") == enrolled_name("ACC-0042") != enrolled_name("ACC-0043")


def test_nobody_whom_an_earlier_model_was_taught_by_ever_tests():
    """Ten generations with corpora and signers that come and go: no test writer was ever taught."""
    rng = np.random.default_rng(3)
    people, provenance, taught = enrolled(60), {}, set()
    for generation in range(10):
        known = lineage_of(provenance)
        corpora = [writers("home", rng.permutation(30)[: 20 + generation])]
        corpora += [writers(f"corpus{generation}", range(8))]
        some = [people[n] for n in np.sort(rng.permutation(60)[: 20 + 4 * generation])]
        split = divide(corpora, some, known, seed=generation)
        assert names(split.test) & taught == set()
        taught |= names(split.train) | names(split.validation)
        provenance = carried_on(split, known)
        assert set(provenance["taught_writers"]) == taught


def test_a_writer_who_taught_a_grandparent_does_not_test_though_the_parent_says_so():
    known = lineage_of({"test_writers": ["a/1", "a/2"], "taught_writers": ["a/1"]})
    split = divide([writers("a", range(1, 5)), writers("b", range(9))], [], known, seed=0)
    assert "a/1" in names(split.train)
    assert "a/2" in names(split.test)


def test_without_anybody_left_to_test_there_is_a_sentence():
    known = lineage_of({"train_writers": ["a/1", "a/2"], "development_writers": ["a/3"]})
    with pytest.raises(DatasetError, match="No writer is left to compare the models on"):
        divide([writers("a", range(1, 4))], [], known, seed=0)
    with pytest.raises(DatasetError, match="No writer of the corpora is left to fit"):
        divide([writers("c", range(2))], enrolled(3), known, seed=0)


def test_a_corpus_called_like_the_enrolled_signers_is_refused():
    with pytest.raises(DatasetError, match="are called enrolled"):
        divide([writers("enrolled", range(9))], enrolled(3), Lineage(), seed=0)


def test_the_lineage_of_a_real_run_is_read_back(corpus):
    split = divide([scan_dataset(corpus)], [], Lineage(), seed=0)
    known = lineage_of(carried_on(split, Lineage()))
    assert divide([scan_dataset(corpus)], [], known, seed=7) == split
