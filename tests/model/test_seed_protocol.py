"""The seed's protocol: its counts of writers and pairs, and a table that matches a plain count."""

from pathlib import Path

import numpy as np
import pytest

from model.dataset import Signer, split_by_signer
from model.metrics import EmptyClass, MetricsError
from model.recipes import SEED
from model.seed_protocol import FIGURES, seed_pairs, seed_table
from tests.model.writers import people

POLICIES = ("youden", "maxacc", "eer")
EACH = 24


def a_part(writers, forged=EACH, seed=0):
    """Writers with 24 genuine signatures about a place of their own, forgeries beside it."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(writers, 1, 8))
    genuine = centres + rng.normal(scale=0.2, size=(writers, EACH, 8))
    skilled = centres + rng.normal(scale=0.4, size=(writers, forged, 8))
    vectors = np.concatenate([genuine, skilled], axis=1)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    rows = people(writers, genuine=EACH, forged=forged, corpus="c")
    return vectors.reshape(-1, 8).astype(np.float32), tuple(rows)


@pytest.fixture(scope="module")
def parts():
    """Vectors and writers of eleven validation and six test writers."""
    made = {"validation": a_part(11, seed=1), "test": a_part(6, seed=2)}
    return tuple({part: pair[index] for part, pair in made.items()} for index in (0, 1))


@pytest.mark.parametrize(("writers", "counts"), [(55, (38, 11, 6)), (45, (31, 9, 5))])
def test_the_seeds_split_has_the_seeds_counts(writers, counts):
    signers = [
        Signer(name=f"cedar/{n}", genuine=(Path(f"g{n}"),), forged=(Path(f"f{n}"),))
        for n in range(writers)
    ]
    split = split_by_signer(signers, seed=SEED.seed)
    assert (len(split.train), len(split.validation), len(split.test)) == counts


def test_six_writers_with_24_and_24_give_3312_pairs(parts):
    rows = seed_table(*parts, policy="youden", seed=123)
    assert [(row["part"], row["writers"], row["pairs"]) for row in rows] == [
        ("validation", 11, 11 * 552),
        ("test", 6, 3312),
    ]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_threshold_is_that_of_validation_and_the_rates_are_plain_counts(parts, policy):
    validation, test = seed_table(*parts, policy=policy, seed=123)
    assert test["threshold"] == validation["threshold"]
    pairs = seed_pairs(*parts, seed=123)["test"]
    accepted = [sum(d < test["threshold"] for d in of) for of in (pairs.genuine, pairs.skilled)]
    right, wrong = accepted
    assert test["frr"] == pytest.approx(1 - right / 1656)
    assert test["far"] == pytest.approx(wrong / 1656)
    assert test["acc"] == pytest.approx((right + 1656 - wrong) / 3312)
    assert test["f1"] == pytest.approx(2 * right / (1656 + right + wrong))
    assert test["far_random"] == pytest.approx(np.mean(pairs.random < test["threshold"]))
    assert all(0 <= test[name] <= 1 for name in FIGURES)


def test_no_threshold_does_better_on_validation_than_the_one_that_was_fitted(parts):
    youden, maxacc, eer = (seed_table(*parts, policy=p, seed=123)[0] for p in POLICIES)
    assert youden["far"] + youden["frr"] <= eer["far"] + eer["frr"]
    assert maxacc["acc"] >= max(youden["acc"], eer["acc"])
    assert abs(eer["far"] - eer["frr"]) < 1 / 1000


def test_all_genuine_pairs_count_and_no_skilled_pair_twice(parts):
    vectors, (writer, *_) = (part["test"] for part in parts)
    pairs = seed_pairs({"test": vectors}, {"test": (writer,)}, seed=123)["test"]
    mine = vectors[writer.genuine].astype(np.float64)
    expected = [np.linalg.norm(a - b) for i, a in enumerate(mine) for b in mine[i + 1 :]]
    np.testing.assert_allclose(np.sort(pairs.genuine), np.sort(expected), atol=1e-6)
    assert len(np.unique(pairs.skilled)) == len(expected) == 276


def test_the_table_repeats_itself_and_another_seed_draws_other_pairs(parts):
    first, again, other = (seed_table(*parts, policy="eer", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[1]["far"] != other[1]["far"]


def test_a_part_without_writers_is_left_out_and_one_writer_has_no_strangers(parts):
    vectors, writers = parts
    rows = seed_table(vectors, {**writers, "test": ()}, policy="eer", seed=1)
    assert [row["part"] for row in rows] == ["validation"]
    rows = seed_table(vectors, {**writers, "test": writers["test"][:1]}, policy="eer", seed=1)
    assert np.isnan(rows[1]["far_random"])


def test_parts_without_forgeries_and_the_far_policy_are_refused(parts):
    vectors, writers = a_part(3, forged=0)
    with pytest.raises(EmptyClass):
        seed_table({"validation": vectors}, {"validation": writers}, policy="eer", seed=1)
    with pytest.raises(MetricsError, match="far"):
        seed_table(*parts, policy="far", seed=1)
