"""The rule is fitted on development writers: weights from a grid, thresholds by their meaning."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from model import calibration, metrics
from model.calibration import WEIGHTS, fit_scoring, fit_threshold, with_thresholds
from model.evaluate import Scores, with_references
from model.sampling import Writer
from model.scoring import OPERATING_POINTS, Scoring

PLAIN = Scoring(thresholds={1: 1.0})
NONE = np.zeros(0)


def some_scores(rng, genuine=200, skilled=300, random=300):
    return Scores(
        genuine=rng.normal(0.4, 0.1, genuine),
        skilled=rng.normal(0.7, 0.1, skilled),
        random=rng.normal(1.1, 0.1, random),
    )


def writers_around(centres, rng, *, genuine=12, forged=12, noise=0.05):
    """Unit vectors: genuine ones near the writer's centre, forgeries a little farther off."""
    vectors, writers = [], []
    for number, centre in enumerate(centres):
        rows = len(vectors) * (genuine + forged) + np.arange(genuine + forged)
        away = np.concatenate([np.full(genuine, noise), np.full(forged, 2.5 * noise)])[:, None]
        own = centre + away * rng.normal(size=(genuine + forged, len(centre)))
        vectors.append(own / np.linalg.norm(own, axis=1, keepdims=True))
        name = f"w{number}"
        writers.append(Writer(name=name, corpus="c", genuine=rows[:genuine], forged=rows[genuine:]))
    return np.concatenate(vectors).astype(np.float32), tuple(writers)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(calibration, "DRAWS", 4)


@pytest.fixture(scope="module")
def development():
    rng = np.random.default_rng(5)
    return writers_around(rng.normal(size=(6, 16)) / 4, rng)


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(6)
    found = rng.normal(size=(30, 16))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("point", OPERATING_POINTS)
@pytest.mark.parametrize("skilled", [5, 100, 1000, 5000])
def test_acceptance_takes_the_largest_threshold_within_its_share_of_forgeries(point, skilled):
    share = {"0.1%": 0.001, "1%": 0.01, "5%": 0.05}[point]
    found = some_scores(np.random.default_rng(skilled), skilled=skilled)
    threshold = with_thresholds(PLAIN, {5: found}, "eer").accept[point][5]

    def accepted(at):
        return sum(score < at for score in found.skilled)

    assert accepted(threshold) / skilled <= share
    higher = min(score for score in found.skilled if score >= threshold)
    assert accepted(np.nextafter(higher, np.inf)) / skilled > share


def test_with_few_forgeries_a_small_share_means_none_of_them():
    found = some_scores(np.random.default_rng(1), skilled=30)
    rule = with_thresholds(PLAIN, {1: found}, "eer")
    assert rule.accept["0.1%"][1] < found.skilled.min()
    assert rule.accept["1%"][1] < found.skilled.min()


def test_forgeries_closer_than_all_genuine_signatures_leave_nothing_to_accept():
    found = Scores(genuine=np.array([0.5, 0.6]), skilled=np.array([0.1]), random=NONE)
    assert with_thresholds(PLAIN, {1: found}, "eer").accept["5%"][1] < 0.1


def test_of_a_hundred_genuine_scores_one_is_rejected():
    found = some_scores(np.random.default_rng(2), genuine=1000)
    reject = with_thresholds(PLAIN, {1: found}, "eer").reject[1]
    assert sum(score >= reject for score in found.genuine) == 10


def test_without_skilled_forgeries_there_is_no_operating_point():
    rng = np.random.default_rng(3)
    rule = with_thresholds(PLAIN, {1: some_scores(rng, skilled=0)}, "eer")
    assert rule.accept == {}
    assert rule.band(1, "1%") == (rule.thresholds[1],) * 2


def test_skilled_and_random_forgeries_weigh_alike_in_the_balanced_threshold():
    found = some_scores(np.random.default_rng(4), skilled=200, random=600)
    repeated = np.concatenate([np.tile(found.skilled, 3), found.random])
    assert fit_threshold(found, "youden") == metrics.threshold(found.genuine, repeated, "youden")
    with pytest.raises(metrics.EmptyClass):
        fit_threshold(Scores(genuine=found.genuine, skilled=NONE, random=NONE), "eer")


@pytest.mark.parametrize(
    "corpora", ["aaaaaa", "aaaaabbbbb", "aaaaabb", "aabbcc"], ids=["one", "two", "few", "fewest"]
)
def test_the_weights_are_those_of_the_grid_with_the_lowest_mean_error(corpora, cohort):
    """Of each corpus with five writers by itself, or else of all; with 3, 5 and 10 references."""
    rng = np.random.default_rng(5)
    vectors, writers = writers_around(rng.normal(size=(len(corpora), 16)) / 4, rng)
    writers = [replace(w, corpus=corpus) for w, corpus in zip(writers, corpora, strict=True)]
    rule = fit_scoring(vectors, writers, cohort=cohort, policy="eer", rng=np.random.default_rng(7))
    rng = np.random.default_rng(7)  # the same draws as in there: the spreads first, then a seed
    for writer in writers:
        rng.permutation(writer.genuine)
    seed = int(rng.integers(2**31))
    groups = [[w for w in writers if w.corpus == c] for c in "ab" if corpora.count(c) >= 5]

    def error(weights):
        centre_weight, spread_weight, cohort_weight = weights
        candidate = Scoring(
            thresholds={1: 1.0},
            population_spread=rule.population_spread,
            prior=rule.prior,
            centre_weight=centre_weight,
            spread_weight=spread_weight,
            cohort_weight=cohort_weight,
            cohort=cohort.astype(np.float16),
        )
        return np.mean(
            [
                with_references(
                    vectors,
                    some,
                    references=count,
                    scoring=candidate,
                    rng=np.random.default_rng(seed),
                    draws=calibration.DRAWS,
                ).selection_error
                for count in (3, 5, 10)
                for some in groups or [writers]
            ]
        )

    tried = list(product(WEIGHTS[::4], repeat=3))
    chosen = error((rule.centre_weight, rule.spread_weight, rule.cohort_weight))
    assert chosen <= min(map(error, tried)) + 1e-9
    assert chosen < error((0.0, 0.0, 0.0))


def test_every_threshold_is_fitted_at_each_number_of_references(development, cohort):
    vectors, writers = development
    rule = fit_scoring(vectors, writers, cohort=cohort, policy="eer", rng=np.random.default_rng(7))
    assert set(rule.thresholds) == set(rule.reject) == {1, 3, 5, 10}
    assert list(rule.accept) == list(OPERATING_POINTS)
    assert all(set(table) == {1, 3, 5, 10} for table in rule.accept.values())
    numbers = [*rule.thresholds.values(), *rule.reject.values()]
    assert {type(number) for number in numbers} == {float}


def test_a_cohort_is_rounded_before_anything_is_fitted_to_it_and_left_out_without_use(
    development, cohort
):
    vectors, writers = development
    rng = np.random.default_rng
    rounded = cohort.astype(np.float16)
    first, second = (
        fit_scoring(vectors, writers, cohort=given, policy="eer", rng=rng(7))
        for given in (cohort, rounded)
    )
    assert first == second
    none = fit_scoring(vectors, writers, cohort=None, policy="eer", rng=rng(7))
    assert (none.cohort, none.cohort_weight) == (None, 0.0)
    assert (first.cohort is None) == (first.cohort_weight == 0)
    useless = np.zeros((3, 16), np.float32)  # equally far from everything
    without = fit_scoring(vectors, writers, cohort=useless, policy="eer", rng=rng(7))
    assert without.cohort is None


def test_with_nothing_to_oppose_to_one_writer_it_says_so():
    rng = np.random.default_rng(1)
    vectors, writers = writers_around(rng.normal(size=(1, 16)), rng, forged=0)
    with pytest.raises(metrics.EmptyClass, match="no forged scores"):
        fit_scoring(vectors, writers, cohort=None, policy="eer", rng=rng)
