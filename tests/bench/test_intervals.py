"""Intervals of a mean: those of the binomial where that is known, wider for groups, sound at the ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from naturelm.bench.intervals import bootstrap_interval


def test_of_independent_rows_it_is_that_of_the_binomial() -> None:
    found = bootstrap_interval([1.0] * 60 + [0.0] * 140)
    low, high = binom.ppf([0.025, 0.975], 200, 0.3) / 200
    assert (found.value, found.n) == (pytest.approx(0.3), 200)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.011), pytest.approx(high, abs=0.011))


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [bootstrap_interval(rng.random(100) < 0.4, resamples=300, seed=n) for n in range(300)]
    assert 0.9 <= np.mean([of.low <= 0.4 <= of.high for of in found]) <= 0.99


def test_groups_widen_it_as_if_each_were_one_row() -> None:
    # Twelve recordings of ten crops each, all right or all wrong together.
    values, groups = np.repeat([1.0] * 6 + [0.0] * 6, 10), np.repeat(np.arange(12), 10)
    alone, joined = bootstrap_interval(values), bootstrap_interval(values, groups=list(groups))
    twelve = bootstrap_interval(values[::10])
    assert joined.value == alone.value and joined.n == alone.n == 120
    assert joined.high - joined.low > 2.5 * (alone.high - alone.low)
    assert (joined.low, joined.high) == (pytest.approx(twelve.low), pytest.approx(twelve.high))


def test_groups_of_one_row_each_change_nothing() -> None:
    values = np.random.default_rng(0).random(30)
    assert bootstrap_interval(values, groups=[f"g{n}" for n in range(30)]) == bootstrap_interval(values)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_all_alike_is_not_certain(right: float) -> None:
    found = bootstrap_interval([right] * 100)
    assert abs(found.low - found.high) == pytest.approx(0.03, abs=0.001)  # the rule of three
    assert right in {found.low, found.high} and found.value == right
    # Ten groups say less than a hundred rows.
    grouped = bootstrap_interval([right] * 100, groups=[n // 10 for n in range(100)])
    assert abs(grouped.low - grouped.high) == pytest.approx(0.259, abs=0.001)


def test_differences_that_are_all_nought_have_no_share_to_bound() -> None:
    found = bootstrap_interval([0.0] * 10, shares=False)
    assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    level=st.sampled_from([0.5, 0.8, 0.95]),
    seed=st.integers(0, 5),
)
def test_it_is_within_the_values_and_the_same_for_the_same_seed(
    values: list[float], level: float, seed: int
) -> None:
    found = bootstrap_interval(values, level=level, resamples=200, seed=seed)
    assert 0 <= found.low <= found.high <= 1
    assert found.value == pytest.approx(np.mean(values))
    assert found == bootstrap_interval(values, level=level, resamples=200, seed=seed)
    wider = bootstrap_interval(values, level=0.99, resamples=200, seed=seed)
    assert wider.low <= found.low and wider.high >= found.high


def test_what_has_no_interval_is_refused() -> None:
    for values, changes in (([], {}), ([1.0], {"groups": ["a", "b"]}), ([1.0], {"level": 1.0})):
        with pytest.raises(ValueError, match=r"value|level"):
            bootstrap_interval(values, **changes)
