"""The tests for drift, against scipy and by counting; wrong alarms stay as rare as is said."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from model import shifts


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 100), (41, 300), (200, 150), (458, 500)])
def test_the_p_value_of_a_difference_is_never_below_the_exact_one(n, m):
    rng = np.random.default_rng(n * m)
    for shift in np.linspace(0, 1.2, 13):
        one, other = rng.normal(size=n), rng.normal(shift, size=m)
        exact = stats.ks_2samp(one, other, method="exact")
        places = {v: i for i, v in enumerate(sorted([*one, *other]))}
        found = shifts.kolmogorov(
            Counter(places[v] for v in one), Counter(places[v] for v in other)
        )
        assert found[0] == pytest.approx(exact.statistic)
        assert found[1] >= exact.pvalue


def test_ties_make_the_difference_of_histograms_that_of_the_samples():
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 6, 50), rng.integers(1, 7, 80)
    found, _ = shifts.kolmogorov(Counter(one.tolist()), Counter(other.tolist()))
    assert found == pytest.approx(stats.ks_2samp(one, other).statistic)


def test_two_shares_are_compared_exactly():
    rng = np.random.default_rng(2)
    for _ in range(300):
        total, other = (int(n) for n in rng.integers(1, 90, 2))
        hits, more = int(rng.integers(0, total + 1)), int(rng.integers(0, other + 1))
        wanted = stats.fisher_exact([[hits, total - hits], [more, other - more]]).pvalue
        assert shifts.fisher(hits, total, more, other) == pytest.approx(wanted, rel=1e-6)


def test_two_shares_of_many_are_compared_as_well():
    wanted = stats.fisher_exact([[900, 99_100], [12_000, 988_000]]).pvalue
    assert shifts.fisher(900, 100_000, 12_000, 1_000_000) == pytest.approx(wanted, rel=1e-4)


def test_the_interval_of_a_share_is_wilsons():
    for hits, total in ((0, 30), (3, 40), (500, 900), (30, 30)):
        interval = stats.binomtest(hits, total).proportion_ci(method="wilson")
        assert shifts.wilson(hits, total) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert shifts.wilson(0, 0) == (0.0, 1.0)


def test_a_quantile_of_a_histogram_is_that_of_its_sample():
    rng = np.random.default_rng(3)
    sample = rng.integers(0, 40, 333)
    for share in (0.1, 0.5, 0.9):
        wanted = np.quantile(sample, share, method="inverted_cdf")
        assert shifts.quantile(Counter(sample.tolist()), share) == wanted
    assert shifts.quantile({}, 0.5) is None


def test_corrected_p_values_call_out_what_holms_rule_does():
    rng = np.random.default_rng(4)
    for _ in range(200):
        p_values = (rng.random(8) ** 4).tolist()
        adjusted = shifts.holm(p_values)
        rejected = set()
        for rank, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (8 - rank):
                break
            rejected.add(int(index))
        assert {i for i, p in enumerate(adjusted) if p <= 0.05} == rejected
    assert shifts.holm([]) == []
