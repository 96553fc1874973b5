"""Log-normal durations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base.durations import Duration

medians = st.floats(0.1, 1e4)
sigmas = st.floats(0.0, 1.5)


def test_median_and_p99_are_what_was_stated() -> None:
    duration = Duration.from_median_p99(150.0, 420.0)
    assert duration.quantile(0.5) == pytest.approx(150.0)
    assert duration.quantile(0.99) == pytest.approx(420.0)


def test_a_p99_below_the_median_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be below the median"):
        Duration.from_median_p99(10.0, 9.0)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_duration_that_cannot_be_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="median"):
        Duration(bad)
    with pytest.raises(ValueError, match="sigma"):
        Duration(1.0, bad)


@given(medians, sigmas)
def test_moments_lead_back_to_the_same_duration(median_s: float, sigma: float) -> None:
    duration = Duration(median_s, sigma)
    again = Duration.from_moments(duration.mean_s, duration.variance_s2)
    assert again.median_s == pytest.approx(median_s, rel=1e-6)
    assert again.sigma == pytest.approx(sigma, abs=1e-6)


@given(st.lists(st.tuples(medians, sigmas), min_size=2, max_size=5))
def test_a_total_has_the_sum_of_means_and_variances(parts: list[tuple[float, float]]) -> None:
    durations = [Duration(m, s) for m, s in parts]
    total = Duration.total(durations)
    assert total.mean_s == pytest.approx(sum(d.mean_s for d in durations), rel=1e-6)
    assert total.variance_s2 == pytest.approx(sum(d.variance_s2 for d in durations), rel=1e-5, abs=1e-9)


@given(medians, st.floats(0.05, 1.5), st.floats(0.0, 1e4), st.floats(0.05, 0.95))
def test_what_remains_is_never_negative_and_grows_with_the_level(
    median_s: float, sigma: float, elapsed_s: float, level: float
) -> None:
    duration = Duration(median_s, sigma)
    assert 0.0 <= duration.remaining(elapsed_s, level * 0.9) <= duration.remaining(elapsed_s, level) + 1e-6


def test_an_overdue_constant_may_end_at_any_moment() -> None:
    assert Duration(60.0).remaining(45.0, 0.9) == 15.0
    assert Duration(60.0).remaining(75.0, 0.9) == 0.0
