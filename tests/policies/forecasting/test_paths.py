"""Sample paths of the mixture: they agree with its quantiles, over time and between deployments."""

from __future__ import annotations

import numpy as np
import pytest

from policies.base import ForecastSpec
from policies.forecasting import create
from policies.forecasting.base import Floats, Forecaster
from policies.forecasting.joint import joint_paths

MINUTES = ForecastSpec("mixture", 60.0)
DAY = 1440


def series(seed: int, shocks: Floats, days: float = 2.0) -> Floats:
    """Ten req/s with noise of its own, times the shocks that all deployments share."""
    bins = round(days * DAY)
    return 10.0 * shocks[:bins] * np.exp(np.random.default_rng(seed).normal(0.0, 0.05, bins))


def walk(seed: int, days: float = 2.0) -> Floats:
    """Shocks that last for minutes."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, round(days * DAY))
    level = np.zeros(len(noise))
    for i in range(1, len(level)):
        level[i] = 0.9 * level[i - 1] + noise[i]
    return np.asarray(np.exp(level), dtype=np.float64)


def fed(values: Floats, spec: ForecastSpec = MINUTES) -> Forecaster:
    forecaster = create(spec)
    forecaster.observe_many(np.arange(1, len(values) + 1, dtype=np.float64) * spec.bin_s, values)
    return forecaster


@pytest.fixture(scope="module")
def together() -> list[Forecaster]:
    """Two deployments that move together, and one that does not."""
    shared, own = walk(1), walk(2)
    return [fed(series(11, shared)), fed(series(12, shared)), fed(series(13, own))]


def test_the_running_maximum_of_the_paths_has_the_forecasts_quantiles(together: list[Forecaster]) -> None:
    forecaster = together[0]
    paths = forecaster.paths(600.0, 4000, 1)
    assert paths.shape == (4000, 10)
    for horizon_s in (120.0, 300.0, 600.0):
        highest = paths[:, : round(horizon_s / 60.0)].max(axis=1)
        (row,) = forecaster.quantiles((horizon_s,), (0.5, 0.9, 0.95))
        assert np.quantile(highest, (0.5, 0.9, 0.95)) == pytest.approx(row, rel=0.04)


def test_a_path_that_is_high_soon_is_high_later(together: list[Forecaster]) -> None:
    paths = together[0].paths(600.0, 4000, 1)
    assert np.corrcoef(paths[:, :2].max(axis=1), paths.max(axis=1))[0, 1] > 0.3


def test_deployments_that_moved_together_do_so_in_the_paths_and_others_do_not(together: list[Forecaster]) -> None:
    highest = [paths.max(axis=1) for paths in joint_paths(together, 600.0, 4000, 1)]
    table = np.corrcoef(highest)
    assert table[0, 1] > 0.5
    assert abs(table[0, 2]) < 0.15


def test_the_quantile_of_a_pools_sum_lies_between_independence_and_the_sum_of_quantiles(
    together: list[Forecaster],
) -> None:
    of_all = [paths.max(axis=1) for paths in joint_paths(together, 600.0, 8000, 1)]
    each = [float(np.quantile(one, 0.95)) for one in of_all]
    pair = float(np.quantile(of_all[0] + of_all[1], 0.95))
    strangers = float(np.quantile(of_all[0] + of_all[2], 0.95))
    assert strangers < each[0] + each[2]
    assert pair / (each[0] + each[1]) > strangers / (each[0] + each[2])
    assert pair <= 1.01 * (each[0] + each[1])


def test_joint_paths_keep_each_deployments_own_quantiles(together: list[Forecaster]) -> None:
    for forecaster, paths in zip(together, joint_paths(together, 300.0, 4000, 7), strict=True):
        (row,) = forecaster.quantiles((300.0,), (0.5, 0.95))
        assert np.quantile(paths.max(axis=1), (0.5, 0.95)) == pytest.approx(row, rel=0.05)


def test_a_young_deployment_and_another_kind_of_forecaster_are_sampled_on_their_own() -> None:
    young = create(MINUTES)
    young.observe(60.0, 5.0)
    plain = fed(series(14, walk(3)), ForecastSpec("seasonal", 60.0))
    unknown = create(MINUTES)
    paths = joint_paths([young, plain, unknown], 300.0, 50, 1)
    assert [one.shape for one in paths] == [(50, 5), (50, 5), (0, 5)]
    assert all((one >= 0).all() for one in paths)


def test_paths_are_the_same_for_the_same_seed_only(together: list[Forecaster]) -> None:
    first, same, other = (joint_paths(together[:2], 300.0, 20, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])
