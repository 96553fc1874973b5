"""Sample paths of the mixture: they agree with its quantiles, and over time."""

from __future__ import annotations

import numpy as np
import pytest

from policies.base import ForecastSpec
from policies.forecasting import create
from policies.forecasting.base import Floats, Forecaster

MINUTES = ForecastSpec("mixture", 60.0)
DAY = 1440


def series(seed: int, days: float = 2.0) -> Floats:
    """Ten req/s with shocks that last for minutes, and noise."""
    rng = np.random.default_rng(seed)
    bins = round(days * DAY)
    shocks, noise = rng.normal(0.0, 0.1, bins), rng.normal(0.0, 0.05, bins)
    level = np.zeros(bins)
    for i in range(1, bins):
        level[i] = 0.9 * level[i - 1] + shocks[i]
    return np.asarray(10.0 * np.exp(level + noise), dtype=np.float64)


def fed(values: Floats, spec: ForecastSpec = MINUTES) -> Forecaster:
    forecaster = create(spec)
    forecaster.observe_many(np.arange(1, len(values) + 1, dtype=np.float64) * spec.bin_s, values)
    return forecaster


@pytest.fixture(scope="module")
def grown() -> Forecaster:
    return fed(series(11))


def test_the_running_maximum_of_the_paths_has_the_forecasts_quantiles(grown: Forecaster) -> None:
    paths = grown.paths(600.0, 4000, 1)
    assert paths.shape == (4000, 10)
    for horizon_s in (120.0, 300.0, 600.0):
        highest = paths[:, : round(horizon_s / 60.0)].max(axis=1)
        (row,) = grown.quantiles((horizon_s,), (0.5, 0.9, 0.95))
        assert np.quantile(highest, (0.5, 0.9, 0.95)) == pytest.approx(row, rel=0.04)


def test_a_path_that_is_high_soon_is_high_later(grown: Forecaster) -> None:
    paths = grown.paths(600.0, 4000, 1)
    assert np.corrcoef(paths[:, :2].max(axis=1), paths.max(axis=1))[0, 1] > 0.3


def test_a_young_deployment_has_paths_and_an_unknown_one_has_none() -> None:
    young, unknown = create(MINUTES), create(MINUTES)
    young.observe(60.0, 5.0)
    assert young.paths(300.0, 50, 1).shape == (50, 5)
    assert (young.paths(300.0, 50, 1) >= 0).all()
    assert unknown.paths(300.0, 50, 1).shape == (0, 5)


def test_paths_are_the_same_for_the_same_seed_only(grown: Forecaster) -> None:
    first, same, other = (grown.paths(300.0, 20, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
