"""The error rates against brute force, against scikit-learn and against what must always hold."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from model import metrics
from model.metrics import EmptyClass, MetricsError, NonFiniteDistance

tied = st.lists(st.integers(0, 12).map(lambda n: n / 8), min_size=1, max_size=25)
spread = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=25)
distances = st.one_of(tied, spread)


def table(genuine, forged):
    """Every decision there is: (threshold, false acceptances, false rejections), by loops."""
    levels = sorted(set(genuine) | set(forged))
    cuts = [levels[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(levels))]
    rows = []
    for cut in [*cuts, levels[-1] + 1]:
        accepted = sum(1 for d in forged if d < cut)
        rejected = sum(1 for d in genuine if not d < cut)
        rows.append((cut, accepted, rejected))
    return rows


def crossing(genuine, forged):
    """Where FAR equals FRR on straight lines between the points of the table."""
    points = [(fa / len(forged), fr / len(genuine)) for _, fa, fr in table(genuine, forged)]
    for (fa, fr), (next_fa, next_fr) in itertools.pairwise(points):
        if fa <= fr and next_fa >= next_fr:
            before, after = fr - fa, next_fa - next_fr
            return fa + (next_fa - fa) * before / (before + after)
    raise AssertionError("the curve never crosses")


def labels(genuine, forged):
    truth = np.r_[np.ones(len(genuine)), np.zeros(len(forged))]
    return truth, np.r_[genuine, forged]


def decisions(values, threshold):
    return [value < threshold for value in values]


@given(tied, tied)
def test_the_curve_is_the_brute_force_table_also_under_ties(genuine, forged):
    curve = metrics.error_curve(genuine, forged)
    rows = table(genuine, forged)
    assert curve.far.tolist() == [fa / len(forged) for _, fa, _ in rows]
    assert curve.frr.tolist() == [fr / len(genuine) for _, _, fr in rows]
    assert curve.thresholds[1:-1].tolist() == [cut for cut, _, _ in rows[1:-1]]


@given(tied, tied)
def test_the_eer_is_the_crossing_of_the_brute_force_table(genuine, forged):
    rate, _ = metrics.eer(genuine, forged)
    assert rate == pytest.approx(crossing(genuine, forged), abs=1e-12)


@given(tied, tied)
def test_no_threshold_has_a_smaller_gap_than_that_of_the_eer(genuine, forged):
    _, at = metrics.eer(genuine, forged)
    gap = abs(metrics.far(forged, at) - metrics.frr(genuine, at))
    gaps = [abs(fa / len(forged) - fr / len(genuine)) for _, fa, fr in table(genuine, forged)]
    assert gap == pytest.approx(min(gaps), abs=1e-12)


@given(tied, tied)
def test_maxacc_makes_the_fewest_errors_of_all_thresholds(genuine, forged):
    at = metrics.threshold(genuine, forged, "maxacc")
    errors = sum(decisions(forged, at)) + len(genuine) - sum(decisions(genuine, at))
    assert errors == min(fa + fr for _, fa, fr in table(genuine, forged))


@given(tied, tied)
def test_youden_has_the_smallest_sum_of_rates_and_of_equals_the_lowest_far(genuine, forged):
    at = metrics.threshold(genuine, forged, "youden")
    n, m = len(genuine), len(forged)
    best = min((fa * n + fr * m, fa) for _, fa, fr in table(genuine, forged))
    accepted, rejected = sum(decisions(forged, at)), n - sum(decisions(genuine, at))
    assert (accepted * n + rejected * m, accepted) == best


@given(tied, tied, st.floats(0, 1))
def test_the_far_policy_keeps_its_target_and_rejects_as_little_as_it_can(genuine, forged, target):
    at = metrics.threshold(genuine, forged, "far", far=target)
    assert metrics.far(forged, at) <= target
    allowed = [fr for _, fa, fr in table(genuine, forged) if fa / len(forged) <= target]
    assert metrics.frr(genuine, at) == pytest.approx(min(allowed) / len(genuine))


@pytest.mark.parametrize("policy", ["youden", "maxacc", "eer", "far"])
def test_every_policy_separates_classes_that_can_be_separated(policy):
    target = {"far": 0.0} if policy == "far" else {}
    assert metrics.threshold([0.1, 0.3], [0.7, 0.9], policy, **target) == pytest.approx(0.5)


@settings(max_examples=60)
@given(distances, distances)
def test_auc_and_average_precision_agree_with_scikit_learn(genuine, forged):
    truth, values = labels(genuine, forged)
    assert metrics.roc_auc(genuine, forged) == pytest.approx(roc_auc_score(truth, -values))
    expected = average_precision_score(truth, -values)
    assert metrics.average_precision(genuine, forged) == pytest.approx(expected)


@settings(max_examples=60)
@given(tied, tied, st.integers(0, 12).map(lambda n: n / 8))
def test_accuracy_and_f1_agree_with_scikit_learn(genuine, forged, at):
    truth, values = labels(genuine, forged)
    result = metrics.summary(genuine, forged, at)
    assert result.acc == pytest.approx(accuracy_score(truth, values < at))
    assert result.f1 == pytest.approx(f1_score(truth, values < at, zero_division=0))


@given(distances, distances)
def test_far_never_falls_and_frr_never_rises_with_the_threshold(genuine, forged):
    curve = metrics.error_curve(genuine, forged)
    assert (np.diff(curve.thresholds) > 0).all()
    assert (np.diff(curve.far) >= 0).all()
    assert (np.diff(curve.frr) <= 0).all()
    assert (curve.far[0], curve.frr[0], curve.far[-1], curve.frr[-1]) == (0, 1, 1, 0)


@given(distances, distances)
def test_no_threshold_of_the_curve_equals_a_distance(genuine, forged):
    curve = metrics.error_curve(genuine, forged)
    gaps = np.diff(np.unique([*genuine, *forged]))
    if (gaps > 1e-9).all():  # neighbouring floats have nothing between them
        assert not np.isin(curve.thresholds, [*genuine, *forged]).any()


@given(tied, tied)
def test_a_rising_map_of_the_distances_changes_no_rate_and_no_decision(genuine, forged):
    def rising(values):
        return np.exp(3 * np.asarray(values)) - 2

    assert metrics.eer(genuine, forged)[0] == metrics.eer(rising(genuine), rising(forged))[0]
    assert metrics.roc_auc(genuine, forged) == metrics.roc_auc(rising(genuine), rising(forged))
    for policy in ("youden", "maxacc", "eer"):
        plain = metrics.threshold(genuine, forged, policy)
        mapped = metrics.threshold(rising(genuine), rising(forged), policy)
        assert decisions(genuine, plain) == decisions(rising(genuine), mapped)
        assert decisions(forged, plain) == decisions(rising(forged), mapped)


@given(distances, distances)
def test_swapping_the_classes_and_the_direction_keeps_the_eer(genuine, forged):
    mirrored = metrics.eer([-d for d in forged], [-d for d in genuine])[0]
    assert metrics.eer(genuine, forged)[0] == pytest.approx(mirrored, abs=1e-12)


def test_the_order_of_the_distances_does_not_matter():
    genuine, forged = [0.6, 0.1, 0.3, 0.3], [0.9, 0.3, 0.5]
    expected = metrics.summary(sorted(genuine), sorted(forged), 0.4)
    assert metrics.summary(genuine, forged, 0.4) == expected


def test_a_distance_equal_to_the_threshold_is_rejected():
    assert metrics.far([0.5], 0.5) == 0
    assert metrics.frr([0.5], 0.5) == 1


def test_neighbouring_floats_are_still_told_apart():
    low, high = 1.0, float(np.nextafter(1.0, 2.0))
    assert metrics.eer([low], [high])[0] == 0
    at = metrics.threshold([low], [high], "maxacc")
    assert low < at
    assert not high < at


@pytest.mark.parametrize("level", [0.0, 1e-300, 1e200])
def test_one_single_distance_has_a_threshold_on_either_side(level):
    curve = metrics.error_curve([level], [level])
    assert curve.thresholds[0] < level < curve.thresholds[1]


def test_single_precision_distances_give_the_same_rates_as_their_double_values():
    rng = np.random.default_rng(4)
    genuine, forged = rng.random(50).astype(np.float32), rng.random(70).astype(np.float32)
    doubles = metrics.eer(genuine.astype(float), forged.astype(float))
    assert metrics.eer(genuine, forged) == doubles


def test_the_summary_carries_counts_threshold_and_rates_by_name():
    found = metrics.summary([0.1, 0.2], [0.9], 0.5).as_dict()
    assert found == {
        "acc": 1, "f1": 1, "far": 0, "frr": 0, "eer": 0, "roc_auc": 1, "pr_auc": 1,
        "threshold": 0.5, "n_genuine": 2, "n_forged": 1,
    }  # fmt: skip


two_class = [
    metrics.error_curve,
    metrics.eer,
    metrics.roc_auc,
    metrics.average_precision,
    lambda genuine, forged: metrics.threshold(genuine, forged, "youden"),
    lambda genuine, forged: metrics.threshold(genuine, forged, "eer"),
    lambda genuine, forged: metrics.summary(genuine, forged, 0.5),
]


@pytest.mark.parametrize("measure", two_class)
def test_an_empty_class_is_refused_by_name(measure):
    with pytest.raises(EmptyClass, match="no genuine distances"):
        measure([], [0.5])
    with pytest.raises(EmptyClass, match="no forged distances"):
        measure([0.5], [])


@pytest.mark.parametrize("measure", two_class)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_distance_that_is_not_a_number_is_refused(measure, bad):
    with pytest.raises(NonFiniteDistance, match="forged"):
        measure([0.5], [0.2, bad])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_threshold_that_is_not_a_number_is_refused(bad):
    for measure in (metrics.far, metrics.frr, lambda d, t: metrics.summary(d, d, t)):
        with pytest.raises(NonFiniteDistance, match="threshold"):
            measure([0.5], bad)


def test_distances_in_a_matrix_are_refused():
    with pytest.raises(MetricsError, match=r"shape \(2, 1\)"):
        metrics.eer([[0.5], [0.6]], [0.7])


@pytest.mark.parametrize(
    ("policy", "target", "sentence"),
    [
        ("best", None, "unknown threshold policy 'best'"),
        ("far", None, "within 0..1, not None"),
        ("far", 1.5, "within 0..1, not 1.5"),
        ("far", np.nan, "within 0..1, not nan"),
        ("eer", 0.1, "belongs to policy 'far'"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy, target, sentence):
    with pytest.raises(MetricsError, match=sentence):
        metrics.threshold([0.1], [0.9], policy, far=target)


def test_every_metrics_error_has_its_code():
    codes = [MetricsError.code, EmptyClass.code, NonFiniteDistance.code]
    assert codes == ["metrics_error", "empty_class", "non_finite_distance"]


def test_an_interval_takes_two_writers_who_have_something_to_draw():
    rng = np.random.default_rng(0)
    nobody, ada, bo = [], [0.1, 0.4], [0.2, 0.3]
    assert np.isfinite(metrics.bootstrap_eer([ada, bo], [[0.3], [0.5]], rng=rng)).all()
    assert np.isnan(metrics.bootstrap_eer([nobody, ada], [nobody, [0.3]], rng=rng)).all()
    assert np.isnan(metrics.bootstrap_eer([ada, bo], [nobody, nobody], rng=rng)).all()
