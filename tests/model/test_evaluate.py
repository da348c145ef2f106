"""The protocols count what they say, and their figures are those of brute force."""

import itertools

import numpy as np
import pytest

from model import evaluate, metrics
from model.errors import ModelError
from model.evaluate import Scores, shares
from model.sampling import Writer
from model.scoring import Scoring, judge
from tests.model.writers import people

PLAIN = Scoring(thresholds={1: 0.8})
BANDED = Scoring(
    thresholds={1: 0.8, 3: 0.6},
    accept={"1%": {1: 0.3, 3: 0.25}, "5%": {1: 0.5, 3: 0.4}},
    reject={1: 0.9, 3: 0.3},
    spread_weight=0.5,
    population_spread=0.3,
)


def made(writers=11, genuine=6, forged=5, spread=0.35, seed=0):
    """Unit vectors round a centre of each writer, forgeries wider; and the writers' rows."""
    rng = np.random.default_rng(seed)
    vectors = []
    for _ in range(writers):
        centre = rng.normal(size=8)
        vectors += list(centre + rng.normal(0, spread, (genuine, 8)))
        vectors += list(centre + rng.normal(0, 2 * spread, (forged, 8)))
    array = np.array(vectors)
    unit = array / np.linalg.norm(array, axis=1, keepdims=True)
    return unit.astype(np.float32), tuple(people(writers, genuine, forged, "c"))


def rng():
    return np.random.default_rng(7)


def test_cedar_gives_276_pairs_of_each_kind_for_each_writer_in_folds_of_five():
    vectors, writers = made(writers=45, genuine=24, forged=24)
    pooled, folds = evaluate.folds_of_five(vectors, writers, rng())
    assert [len(pooled.of(kind)) for kind in evaluate.KINDS] == [45 * 276] * 3
    assert np.bincount(pooled.claimed["skilled"]).tolist() == [276] * 45
    assert len(folds) == 9


def test_the_pairs_are_those_of_loops_over_the_writers():
    vectors, writers = made(forged=40)
    pooled, _ = evaluate.folds_of_five(vectors, writers, rng())
    for number, writer in enumerate(writers):
        genuine = [
            np.linalg.norm(vectors[a].astype(float) - vectors[b])
            for a, b in itertools.combinations(writer.genuine, 2)
        ]
        mine = pooled.genuine[pooled.claimed["genuine"] == number]
        np.testing.assert_allclose(mine, genuine)
        possible = np.linalg.norm(
            vectors[writer.genuine][:, None].astype(float) - vectors[writer.forged], axis=2
        ).ravel()
        drawn = pooled.skilled[pooled.claimed["skilled"] == number]
        assert len(drawn) == len(genuine)
        assert np.isin(drawn.round(9), possible.round(9)).all()
        assert len(np.unique(drawn)) == len(drawn)


@pytest.mark.parametrize(("writers", "sizes"), [(5, [5]), (11, [4, 4, 3]), (2, [2]), (20, [5] * 4)])
def test_folds_hold_five_writers_or_evenly_fewer(writers, sizes, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate, "_fold_eer", lambda _, fold: seen.append(sorted(fold)) or 0.0)
    evaluate.folds_of_five(*made(writers=writers), rng())
    assert sorted(map(len, seen), reverse=True) == sizes
    assert sorted(itertools.chain(*seen)) == list(range(writers))


def test_the_eer_of_a_fold_is_that_of_its_own_writers():
    vectors, writers = made(writers=5)
    pooled, folds = evaluate.folds_of_five(vectors, writers, rng())
    assert folds == (pooled.eer("skilled"),)


def test_a_writer_level_interval_is_the_percentiles_of_eers_of_whole_writers_drawn_anew():
    generator = np.random.default_rng(3)
    genuine = [generator.integers(0, 9, n) / 8 for n in (4, 0, 7, 5)]
    forged = [generator.integers(4, 14, n) / 8 for n in (6, 3, 0, 2)]
    found = metrics.bootstrap_eer(genuine, forged, rng=np.random.default_rng(5), resamples=300)
    rates = []
    for counts in np.random.default_rng(5).multinomial(4, [0.25] * 4, size=300):
        drawn = np.repeat(np.arange(4), counts)
        same, other = (np.concatenate([kind[w] for w in drawn]) for kind in (genuine, forged))
        rates.append(metrics.eer(same, other)[0] if len(same) and len(other) else np.nan)
    assert found == pytest.approx(tuple(np.nanpercentile(rates, [2.5, 97.5])), abs=1e-12)


def test_the_interval_holds_the_pooled_rate_and_is_wider_than_single_pairs_would_say():
    vectors, writers = made(writers=12, genuine=10, forged=10)
    pooled, _ = evaluate.folds_of_five(vectors, writers, rng())
    low, high = pooled.interval("skilled", rng())
    assert low < pooled.eer("skilled") < high
    singles = [[[d] for d in kind] for kind in (pooled.genuine, pooled.skilled)]
    narrow = metrics.bootstrap_eer(
        [*singles[0], *[[]] * len(singles[1])], [*[[]] * len(singles[0]), *singles[1]], rng=rng()
    )
    assert narrow[1] - narrow[0] < high - low


def test_an_interval_of_one_writer_or_without_forgeries_is_not_a_number():
    assert np.isnan(metrics.bootstrap_eer([[0.1]], [[0.2]], rng=rng())).all()
    assert np.isnan(metrics.bootstrap_eer([[0.1], [0.2]], [[], []], rng=rng())).all()
    with pytest.raises(metrics.NonFiniteDistance):
        metrics.bootstrap_eer([[0.1], [np.nan]], [[0.3], [0.4]], rng=rng())


def test_scores_with_references_are_those_of_single_judgements():
    vectors, writers = made(writers=3)
    found = evaluate.with_references(
        vectors, writers, references=3, scoring=BANDED, rng=rng(), draws=1
    )
    order = rng().permutation(writers[0].genuine)
    enrolled = vectors[order[:3]]
    for kind, rows in (("genuine", order[3:]), ("skilled", writers[0].forged)):
        mine = found.of(kind)[found.claimed[kind] == 0]
        expected = [judge(vectors[row], enrolled, BANDED).score for row in rows]
        np.testing.assert_allclose(mine, expected)


def test_the_protocol_with_references_counts_what_it_says():
    vectors, writers = made(writers=4)
    found = evaluate.with_references(
        vectors, writers, references=4, scoring=PLAIN, rng=rng(), draws=2
    )
    assert [len(found.of(kind)) for kind in evaluate.KINDS] == [2 * 4 * 2, 2 * 4 * 5, 2 * 4 * 3]
    assert {kind: len(rows) for kind, rows in found.claimed.items()} == {
        kind: len(found.of(kind)) for kind in evaluate.KINDS
    }


def test_of_very_many_writers_a_hundred_are_the_strangers(monkeypatch):
    monkeypatch.setattr(evaluate, "STRANGERS", 3)
    vectors, writers = made(writers=6)
    found = evaluate.with_references(
        vectors, writers, references=1, scoring=PLAIN, rng=rng(), draws=1
    )
    assert len(found.random) == 6 * 3


def rows(vectors, writers, scoring=BANDED):
    return evaluate.summary(vectors, writers, threshold=0.7, scoring=scoring, seed=1)


def test_the_summary_has_1_to_1_and_each_number_of_references_that_there_are():
    found = rows(*made(genuine=6))
    assert [row["protocol"] for row in found] == [
        "1:1", "1 reference", "3 references", "5 references",
    ]  # fmt: skip
    for row in found:
        assert row["skilled_low"] <= row["skilled_eer"] <= row["skilled_high"]


def test_the_rates_are_those_of_the_thresholds_given_and_none_is_fitted_on_the_scores():
    vectors, writers = made()
    measured = evaluate.measure(vectors, writers, threshold=0.7, scoring=BANDED, seed=1)
    assert [one.threshold for one in measured] == [0.7, 0.8, 0.6, 0.6]
    for one in measured:
        found, row = one.scores, one.row
        assert row["frr"] == np.mean([not d < one.threshold for d in found.genuine])
        assert row["far_skilled"] == np.mean([d < one.threshold for d in found.skilled])
        assert row["far_random"] == np.mean([d < one.threshold for d in found.random])
        right = sum(d < one.threshold for d in found.genuine)
        right += sum(not d < one.threshold for d in found.skilled)
        assert row["acc"] == right / (len(found.genuine) + len(found.skilled))


def test_the_shares_of_an_operating_point_are_the_verdicts_of_the_judge():
    vectors, writers = made(writers=3)
    measured = evaluate.measure(vectors, writers, threshold=0.7, scoring=BANDED, seed=1)
    three = next(one for one in measured if one.references == 3)
    generator = np.random.default_rng((1, 3))
    found = {kind: [] for kind in evaluate.KINDS}
    for _ in range(evaluate.DRAWS):
        for writer in writers:
            order = generator.permutation(writer.genuine)
            strangers = [generator.choice(w.genuine) for w in writers if w is not writer]
            for kind, drawn in zip(
                evaluate.KINDS, (order[3:], writer.forged, strangers), strict=True
            ):
                found[kind] += [
                    judge(vectors[row], vectors[order[:3]], BANDED, far="1%").verdict
                    for row in drawn
                ]
    for kind, verdicts in found.items():
        told = three.row["operating_points"]["1%"][kind]
        for verdict, share in (
            ("accept", "accepted"), ("review", "review"), ("reject", "rejected"),
        ):  # fmt: skip
            assert told[share] == pytest.approx(verdicts.count(verdict) / len(verdicts))


def test_what_was_not_there_is_not_a_number():
    vectors, writers = made(forged=0)
    for row in rows(vectors, writers):
        for name in ("skilled_eer", "skilled_low", "far_skilled", "acc", "roc_auc"):
            assert np.isnan(row[name]), name
        assert np.isfinite(row["random_eer"])
        assert row["skilled"] == 0
    alone = rows(*made(writers=1))[0]
    assert np.isnan(alone["random_eer"])
    assert np.isfinite(alone["skilled_eer"])
    assert np.isnan(alone["skilled_low"])
    assert np.isnan(shares(np.array([]), 0.1, 0.2)["review"])


def test_a_writer_without_forgeries_among_others_is_pooled_too():
    vectors, writers = made(writers=6)
    bare = Writer(name="c/9", corpus="c", genuine=writers[0].genuine, forged=np.zeros(0, np.intp))
    pooled, _ = evaluate.folds_of_five(vectors, (bare, *writers[1:]), rng())
    assert len(pooled.genuine) == 6 * 15
    assert len(pooled.skilled) == 5 * 15
    low, high = pooled.interval("skilled", rng())
    assert low <= pooled.eer("skilled") <= high


def test_the_same_seed_gives_the_same_rows_and_another_other_draws():
    vectors, writers = made()
    assert rows(vectors, writers) == rows(vectors, writers)
    other = evaluate.summary(vectors, writers, threshold=0.7, scoring=BANDED, seed=2)
    assert other[0]["skilled_eer"] != rows(vectors, writers)[0]["skilled_eer"]


def test_embeddings_that_are_not_numbers_are_an_error_in_a_sentence():
    vectors, writers = made()
    vectors[3, 2] = np.nan
    with pytest.raises(ModelError, match="embeddings that are not numbers"):
        rows(vectors, writers)


def test_scores_without_their_writers_still_have_rates():
    found = Scores(genuine=np.array([0.1]), skilled=np.array([0.9]), random=np.array([]))
    assert found.eer("skilled") == 0
    assert np.isnan(found.eer("random"))
    assert found.selection_error == 0
