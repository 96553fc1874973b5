"""From the largest count that is forecast to the largest demand that is felt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.predictive.rules.family import LEVELS, Floats
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.smoothing import OccupancySmoother

LEVELS_OF_TESTS = np.array(LEVELS)
BIN_S, EACH_RPS, STAYS_S, LEAD_S = 30.0, 0.28, 240.0, 420.0
SHARE = 1.0 - math.exp(-BIN_S / STAYS_S)


def effective(share: float = SHARE) -> OccupancySmoother:
    """Of one deployment."""
    return OccupancySmoother(np.array([1.0 / EACH_RPS]), np.array([share]), BIN_S, LEVELS_OF_TESTS)


def as_felt(counted: Floats, nearest: Floats, horizon_s: float = BIN_S, share: float = SHARE) -> Floats:
    """Quantiles of what is felt within the lead time."""
    how, reach_s = effective(share), np.array([[LEAD_S]])
    return how.quantiles(counted[None, None], *how.about(nearest[None], np.array([horizon_s])), reach_s)[0, 0]


def of_poisson(replicas: float, bins: int) -> tuple[Floats, Floats]:
    """Quantiles of the largest count and of the largest felt demand within so many bins, by trying: replicas."""
    rng = np.random.default_rng(4)
    counts = rng.poisson(replicas * EACH_RPS * BIN_S, (4000, 60 + bins)) / BIN_S / EACH_RPS
    level, means = np.full(4000, replicas), []
    for column in counts.T:
        level = level + SHARE * (column - level)
        means.append(level)
    tried = (counts[:, 60:].max(axis=1), np.array(means[60:]).max(axis=0))
    largest, smooth = (np.quantile(t, LEVELS_OF_TESTS) for t in tried)
    return largest, smooth


@pytest.mark.parametrize("replicas", [2.0, 5.0, 20.0])
def test_of_counts_alone_it_leaves_about_what_replicas_feel(replicas: float) -> None:
    counted, smooth = of_poisson(replicas, round(LEAD_S / BIN_S))
    nearest, _ = of_poisson(replicas, 2)
    found = as_felt(counted, nearest, 2 * BIN_S)
    middle = slice(2, 11)  # 0.5 to 0.99
    assert found[middle] == pytest.approx(smooth[middle], rel=0.15)
    assert (found[middle] < 0.9 * counted[middle]).all() or replicas == 20.0


def test_a_storm_that_may_come_stays_in_the_forecast() -> None:
    """One time in ten there is four times the demand: the high levels hardly move, the low ones lose their counts."""
    counted = np.where(LEVELS_OF_TESTS < 0.9, 4.0, 12.0)
    found = as_felt(counted, np.full(len(LEVELS), 3.3))
    assert (found[LEVELS_OF_TESTS > 0.9] > 11.5).all()
    assert (found[LEVELS_OF_TESTS < 0.9] < 3.9).all()


def test_requests_that_end_at_once_are_felt_as_they_are_counted() -> None:
    counted = np.linspace(2.0, 6.0, len(LEVELS))
    assert (as_felt(counted, counted, share=1.0) == counted).all()


@given(st.lists(st.floats(0, 1e4), min_size=len(LEVELS), max_size=len(LEVELS)), st.floats(0, 1e4))
def test_it_rises_with_the_level_and_is_never_more_than_was_counted(counts: list[float], nearest: float) -> None:
    counted = np.sort(np.array(counts))
    found = as_felt(counted, np.full(len(LEVELS), nearest))
    assert (found >= 0.0).all()
    assert (found <= counted).all()
    assert (np.diff(found) >= 0.0).all()


def test_all_reaches_of_a_forecast_are_made_felt() -> None:
    counted, _ = of_poisson(5.0, 14)
    rows, reach_s, at_once = np.stack([counted, counted])[None], np.array([LEAD_S]), np.zeros(1)
    plain, calm = (Horizons.of(rows, (60.0, 2400.0), reach_s, at_once, how) for how in (None, effective()))
    for name in ("lead", "early", "keep"):
        assert (getattr(calm, name)[0, 3:] < getattr(plain, name)[0, 3:]).all()
