"""What the forecaster saw before the start: a deployment's `history` as bins of arrivals that end at time 0.

Traces keep what they say of the past; rows from the deployment's start_s on were cut off when the file was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from policies.base import BacktestTrace, ForecastSpec
from policies.forecasting import Forecaster, ForecasterState, create
from policies.forecasting.backtest_trace import backtest_forecasters
from simulator.kernel.draws import component_seed
from simulator.scenario.load import Deployment
from simulator.workload.synthetic import Synthetic, generate_for
from simulator.workload.traces import Floats, RateTrace
from simulator.workload.workload import request_arrivals


def history_bins(d: Deployment, bin_s: float, seed: int) -> tuple[list[float], list[float]]:
    """Ends of bins (seconds before the scenario's start, so <= 0, ascending) and the mean arrivals/s that were counted.

    Counted: a rate is turned into a Poisson number of requests, as it will be in the workload, since a forecaster that
    had seen smooth rates would take real counts for something new.
    """
    assert d.history is not None
    w, h, start_s = d.block.workload, d.block.history, d.start_s
    scale = h.rate_scale if h is not None and h.rate_scale is not None else w.rate_scale
    draws = component_seed(seed, f"history/{d.key.full}")
    history = d.history
    if isinstance(history, Synthetic):
        history = _before(generate_for(history, seed, f"synthetic/{d.key.full}"), start_s)
    begin_s = history.start_s if isinstance(history, RateTrace) else float(history.time_s[0])
    bins = int((start_s - begin_s) / bin_s + 1e-9)
    if bins < 1:
        return [], []
    first_s = start_s - bins * bin_s
    ends_s = bin_s * np.arange(-bins + 1, 1, dtype=np.float64)
    if isinstance(history, RateTrace):
        rates: Floats = _mean_rates(history, first_s, bin_s, bins) * scale
        counted: Floats = np.random.default_rng(draws).poisson(rates * bin_s) / bin_s
        known = _known(history, first_s, bin_s, bins)
        ends_s, counted = ends_s[known], counted[known]
    else:
        length_s = start_s - begin_s
        stream = request_arrivals(
            history, start_s=begin_s, rate_scale=scale, repeat=False, duration_s=length_s, seed=draws
        )
        arrival_s = stream.take(length_s).arrival_s + begin_s
        counts, _ = np.histogram(arrival_s, bins=bins, range=(first_s, start_s))
        counted = counts / bin_s
    return ends_s.tolist(), counted.tolist()


def _before(trace: RateTrace, end_s: float) -> RateTrace:
    """The whole bins of a trace that lie before `end_s`."""
    bins = int((end_s - trace.start_s) / trace.bin_s + 1e-9)
    return replace(trace, rps=trace.rps[:bins])


def _known(trace: RateTrace, first_s: float, bin_s: float, bins: int) -> NDArray[np.bool_]:
    """Whether each of our bins was recorded: a forecaster is shown no line that was drawn through a gap."""
    known = np.ones(bins, dtype=bool)
    for first, end in trace.gaps:
        low = (trace.start_s + first * trace.bin_s - first_s) / bin_s
        high = (trace.start_s + end * trace.bin_s - first_s) / bin_s
        known[max(int(np.floor(low + 1e-9)), 0) : max(int(np.ceil(high - 1e-9)), 0)] = False
    return known


def _mean_rates(trace: RateTrace, first_s: float, bin_s: float, bins: int) -> Floats:
    """The trace's mean rate over each of our bins, exact for any ratio of the widths; 0 where it holds nothing."""
    edges = first_s + bin_s * np.arange(bins + 1)
    known = trace.start_s + trace.bin_s * np.arange(len(trace.rps) + 1)
    total = np.concatenate(([0.0], np.cumsum(trace.rps * trace.bin_s)))
    means: Floats = np.diff(np.interp(edges, known, total)) / bin_s
    return means


Bins = tuple[Sequence[float], Sequence[float]]
"""Their ends and rates."""
_MOST_KEPT = 16


def taught_forecasters(
    spec: ForecastSpec, pasts: Sequence[Bins], write: bool = True
) -> list[tuple[Forecaster, BacktestTrace | None]]:
    """For each past a forecaster that has seen it, and what it would have said on the way (if `write`).

    It takes seconds to learn a week: what was learned once is kept, where it is of a few deployments.
    """
    if len(pasts) <= _MOST_KEPT:
        return [_taught(spec, *past, write) for past in pasts]
    forecasters = [create(spec) for _ in pasts]
    return list(
        zip(forecasters, backtest_forecasters(list(zip(forecasters, pasts, strict=True)), spec, write), strict=True)
    )


def _taught(
    spec: ForecastSpec, times_s: Sequence[float], rates_rps: Sequence[float], write: bool
) -> tuple[Forecaster, BacktestTrace | None]:
    forecaster, diary = create(spec), None
    if len(times_s):
        bins = (np.array(values, dtype=np.float64).tobytes() for values in (times_s, rates_rps))
        state, diary = _learned(spec, *bins, write)
        forecaster.restore(state)
    return forecaster, diary


@lru_cache(maxsize=_MOST_KEPT)
def _learned(
    spec: ForecastSpec, times_s: bytes, rates_rps: bytes, write: bool
) -> tuple[ForecasterState, BacktestTrace | None]:
    forecaster = create(spec)
    [diary] = backtest_forecasters([(forecaster, (np.frombuffer(times_s), np.frombuffer(rates_rps)))], spec, write)
    return forecaster.state(), diary
