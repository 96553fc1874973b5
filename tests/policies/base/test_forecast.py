"""Announcements raise quantiles: the mixture of what comes anyway and what was announced."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base.forecast import Announcement, announced, raised_quantile

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)
ROW = (10.0, 12.0, 15.0, 17.0, 20.0)

rates = st.floats(0.0, 1000.0)
confidences = st.floats(0.0, 1.0)


def test_a_sure_level_is_the_least_of_every_quantile() -> None:
    assert [raised_quantile(LEVELS, ROW, [(16.0, 1.0)], level) for level in LEVELS] == [16.0, 16.0, 16.0, 17.0, 20.0]


def test_a_level_of_half_confidence_is_no_reason_for_the_median_but_for_the_upper_quantiles() -> None:
    values = [raised_quantile(LEVELS, ROW, [(100.0, 0.5)], level) for level in LEVELS]
    assert values[1:] == [100.0] * 4
    assert raised_quantile(LEVELS, ROW, [(100.0, 0.1)], 0.5) < 12.0


def test_the_quantiles_are_those_of_the_mixture_that_can_be_drawn() -> None:
    rng = np.random.default_rng(7)
    levels = tuple(np.linspace(0.005, 0.995, 199))
    row = tuple(float(np.quantile(rng.gamma(4.0, 5.0, 200_000), level)) for level in levels)
    tops = [(25.0, 0.3), (60.0, 0.08), (33.0, 0.2)]
    draws = np.interp(rng.uniform(size=200_000), levels, row)
    for top, confidence in tops:
        draws = np.where(rng.uniform(size=len(draws)) < confidence, np.maximum(draws, top), draws)
    for level in (0.2, 0.5, 0.7, 0.9, 0.95):
        assert raised_quantile(levels, row, tops, level) == pytest.approx(np.quantile(draws, level), rel=0.03)


@given(st.lists(rates, min_size=5, max_size=5).map(sorted), st.lists(st.tuples(rates, confidences), max_size=4))
def test_no_quantile_falls_and_they_stay_in_order(row: list[float], tops: list[tuple[float, float]]) -> None:
    values = [raised_quantile(LEVELS, row, tops, level) for level in LEVELS]
    assert all(value >= before - 1e-9 for value, before in zip(values, row, strict=True))
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(values))
    assert all(math.isfinite(value) and value <= max([*row, *(t for t, _ in tops)]) + 1e-9 for value in values)


@given(rates, confidences, confidences, st.sampled_from(LEVELS))
def test_more_confidence_never_lowers(top: float, one: float, other: float, level: float) -> None:
    low, high = (raised_quantile(LEVELS, ROW, [(top, c)], level) for c in sorted((one, other)))
    assert high >= low - 1e-9


def test_the_order_of_announcements_does_not_matter() -> None:
    tops = [(30.0, 0.4), (12.0, 0.9), (50.0, 0.05)]
    for level in LEVELS:
        assert raised_quantile(LEVELS, ROW, tops, level) == raised_quantile(LEVELS, ROW, tops[::-1], level)


def announcement(rps: float, confidence: float = 1.0, start_s: float = 100.0, end_s: float = 200.0) -> Announcement:
    return Announcement(start_s, end_s, rps, confidence, f"{rps:g}")


def test_a_window_counts_from_one_horizon_before_it_until_its_end() -> None:
    one = announcement(40.0)
    assert [announced([one], now_s, 30.0, 0.9) for now_s in (69.0, 70.0, 150.0, 199.0, 200.0)] == [
        None, one, one, one, None,
    ]  # fmt: skip


def test_alone_an_announcement_counts_where_its_confidence_reaches_the_level() -> None:
    unlikely, likely = announcement(100.0, 0.08), announcement(40.0, 0.5)
    both = [unlikely, likely]
    assert announced(both, 90.0, 30.0, 0.95) == unlikely
    assert announced(both, 90.0, 30.0, 0.9) == likely
    assert announced(both, 90.0, 30.0, 0.5) == likely
    assert announced([unlikely], 90.0, 30.0, 0.9) is None


def test_two_half_likely_ones_are_likely_together() -> None:
    assert announced([announcement(40.0, 0.5), announcement(50.0, 0.5)], 90.0, 30.0, 0.3) == announcement(40.0, 0.5)


def test_the_table_of_the_documentation_is_right() -> None:
    table = {1.0: (40.0, 40.0, 40.0), 0.4: (13.7, 40.0, 40.0), 0.2: (11.0, 40.0, 40.0), 0.05: (10.2, 16.9, 40.0)}
    for confidence, expected in table.items():
        values = [raised_quantile(LEVELS, ROW, [(40.0, confidence)], level) for level in (0.5, 0.9, 0.99)]
        assert values == pytest.approx(expected, abs=0.05)
