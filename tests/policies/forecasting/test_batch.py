"""Forecasters worked on together say and remember, bit for bit, what each would on its own."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from policies.base import ForecastSpec
from policies.forecasting import Forecaster, ForecasterState, create
from policies.forecasting.backtest_trace import backtest_forecasters
from policies.forecasting.base import Floats
from policies.forecasting.batch import BatchedEnsemble, Bin
from policies.forecasting.ensemble.forecaster import MixtureForecaster
from tests.policies.calls import calls_of

LEVELS = (0.5, 0.9, 0.99)
HORIZONS = (60.0, 300.0, 2400.0)
SHORT_SEASON = ForecastSpec("mixture", 60.0, 9000.0)


def traffic(bins: int, seed: int, season: int = 150) -> Floats:
    """Two-humped seasons with noise, and now and then nothing known."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(bins) / season
    values = (5.0 + seed + 3.0 * np.sin(phase) + np.sin(2 * phase + seed)) * rng.gamma(30, 1 / 30, bins)
    values[rng.random(bins) < 0.01] = np.nan
    return np.asarray(values, dtype=np.float64)


def saved(forecaster: Forecaster) -> bytes:
    return msgspec.json.encode(forecaster.state(), order="sorted")


class Pairs:
    """Forecasters together, and twins that are each on their own."""

    def __init__(self, spec: ForecastSpec, count: int) -> None:
        self.spec = spec
        self.together = BatchedEnsemble()
        self.pairs = [(create(spec), create(spec)) for _ in range(count)]

    def show(self, bins: list[list[Bin]]) -> None:
        self.together.observe([(one, closed) for (one, _), closed in zip(self.pairs, bins, strict=True)])
        for (_, twin), closed in zip(self.pairs, bins, strict=True):
            for end_s, rate_rps in closed:
                twin.observe(end_s, rate_rps)

    def answers_agree(self, horizons_s: tuple[float, ...] = HORIZONS) -> bool:
        self.together.ask([(one, horizons_s) for one, _ in self.pairs], LEVELS)
        return all(one.quantiles(horizons_s, LEVELS) == twin.quantiles(horizons_s, LEVELS) for one, twin in self.pairs)

    def memories_agree(self) -> bool:
        return all(saved(one) == saved(twin) for one, twin in self.pairs)


def a_bin(values: Floats, i: int, bin_s: float) -> Bin:
    return (i + 1) * bin_s, None if values[i] != values[i] else float(values[i])


def test_series_of_different_ages_are_learned_as_each_on_its_own() -> None:
    pairs = Pairs(SHORT_SEASON, 4)
    series = [traffic(820, seed) for seed in range(4)]
    begin = (0, 0, 40, 400)
    for i in range(820):
        pairs.show([[a_bin(s, i, 60.0)] if i >= first else [] for s, first in zip(series, begin, strict=True)])
        if i % 7 == 0:
            assert pairs.answers_agree()
    assert pairs.answers_agree()
    assert pairs.memories_agree()
    assert all(one.calibrated == twin.calibrated and one.why == twin.why for one, twin in pairs.pairs)


def test_bins_of_seconds_that_come_late_twice_or_in_heaps_change_nothing() -> None:
    pairs = Pairs(ForecastSpec("mixture", 10.0, 9000.0), 3)
    series = [traffic(1500, seed, 900) for seed in range(3)]
    heap: list[Bin] = []
    for i in range(1500):
        first, second, third = ([a_bin(s, i, 10.0)] for s in series)
        heap += second
        late = [] if i % 50 < 9 else heap  # nothing for a while, then all of it
        missing = [] if 700 <= i < 760 else third  # never told
        again = [*first, *first] if i % 11 == 0 else first
        pairs.show([again, list(late), missing])
        if late:
            heap = []
        if i % 40 == 0:
            assert pairs.answers_agree((10.0, 640.0))
    assert pairs.answers_agree((20.0, 5120.0))
    assert pairs.memories_agree()


def test_who_comes_takes_the_place_of_who_left_and_nobody_notices() -> None:
    pairs = Pairs(SHORT_SEASON, 3)
    series = [traffic(260, seed) for seed in range(6)]
    for i in range(260):
        if i in (100, 130, 160):
            pairs.pairs[1] = (create(SHORT_SEASON), create(SHORT_SEASON))
        if i == 200:
            pairs.pairs += [(create(SHORT_SEASON), create(SHORT_SEASON)) for _ in range(3)]
        pairs.show([[a_bin(series[k], i, 60.0)] for k in range(len(pairs.pairs))])
        assert pairs.answers_agree()
    assert pairs.memories_agree()
    assert len({(one.bank, one.slot) for one, _ in pairs.pairs if isinstance(one, MixtureForecaster)}) == 6
    banks = {one.bank for one, _ in pairs.pairs if isinstance(one, MixtureForecaster)}
    assert [bank.slots for bank in banks] == [6]


def test_what_was_saved_in_company_goes_on_alone_and_the_other_way_round() -> None:
    pairs = Pairs(SHORT_SEASON, 3)
    series = [traffic(240, seed) for seed in range(3)]
    for i in range(200):
        pairs.show([[a_bin(s, i, 60.0)] for s in series])
    texts = [saved(one) for one, _ in pairs.pairs]
    swapped = Pairs(SHORT_SEASON, 3)
    for (one, twin), text in zip(swapped.pairs, texts, strict=True):
        for fresh in (one, twin):
            fresh.restore(msgspec.json.decode(text, type=ForecasterState))
    for i in range(200, 240):
        for both in (pairs, swapped):
            both.show([[a_bin(s, i, 60.0)] for s in series])
            assert both.answers_agree()
    assert [saved(one) for one, _ in pairs.pairs] == [saved(twin) for _, twin in swapped.pairs]
    assert swapped.memories_agree()


@pytest.mark.parametrize("other", ["seasonal", "holt", "mixture"])
def test_forecasters_of_other_kinds_are_shown_and_asked_beside_them(other: str) -> None:
    pairs = Pairs(SHORT_SEASON, 2)
    width_s = 30.0 if other == "mixture" else 60.0
    pairs.pairs.append((create(ForecastSpec(other, width_s, 9000.0)), create(ForecastSpec(other, width_s, 9000.0))))
    series = [traffic(200, seed) for seed in range(3)]
    for i in range(200):
        pairs.show([[a_bin(s, i, w)] for s, w in zip(series, (60.0, 60.0, width_s), strict=True)])
    assert pairs.answers_agree()
    assert pairs.memories_agree()


@pytest.mark.parametrize("write", [False, True])
def test_pasts_are_learned_together_as_each_on_its_own(write: bool) -> None:
    spec = ForecastSpec("mixture", 60.0, 9000.0)
    alone, together = [create(spec) for _ in range(3)], [create(spec) for _ in range(3)]
    pasts = [traffic(900, 0), traffic(400, 1), traffic(900, 2)]
    pasts[2][300:340] = np.nan
    begin = (0, 500, 0)
    known = [
        (60.0 * np.arange(first + 1.0, first + 1.0 + len(past)), past) for first, past in zip(begin, pasts, strict=True)
    ]
    apart = [backtest_forecasters([(one, past)], spec, write)[0] for one, past in zip(alone, known, strict=True)]
    assert backtest_forecasters(list(zip(together, known, strict=True)), spec, write) == apart
    assert (None in apart) is not write
    assert [saved(one) for one in together] == [saved(one) for one in alone]


def test_nobody_is_asked_who_has_seen_nothing() -> None:
    pairs = Pairs(SHORT_SEASON, 2)
    pairs.show([[(60.0, None)], [(60.0, 3.0)]])
    assert pairs.answers_agree()
    assert pairs.pairs[0][0].quantiles(HORIZONS, LEVELS) == ()


def test_a_step_of_many_makes_few_more_calls_than_one_of_few() -> None:
    def cost(count: int) -> float:
        pairs, together = [create(SHORT_SEASON) for _ in range(count)], BatchedEnsemble()
        values = traffic(240, 1)

        def bins(first: int, last: int) -> None:
            for i in range(first, last):
                together.observe([(one, [a_bin(values, i, 60.0)]) for one in pairs])
                together.ask([(one, HORIZONS) for one in pairs], LEVELS)

        bins(0, 200)
        return calls_of(lambda: bins(200, 220)) / 20

    few, many = cost(2), cost(22)
    assert (many - few) / 20 < 0.35 * few
