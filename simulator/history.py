"""What the forecaster saw before the start: a deployment's `history` as bins of arrivals that end at time 0.

Traces keep what they say of the past; rows from workload.start_s on were cut off when the file was read.
"""

from __future__ import annotations

import numpy as np

from simulator.draws import component_seed
from simulator.scenario_file import Deployment
from simulator.traces import Floats, RateTrace
from simulator.workload import request_arrivals


def history_bins(d: Deployment, bin_s: float, seed: int) -> tuple[list[float], list[float]]:
    """Ends of bins (seconds before the scenario's start, so <= 0, ascending) and the mean arrivals/s that were counted.

    Counted: a rate is turned into a Poisson number of requests, as it will be in the workload, since a forecaster that
    had seen smooth rates would take real counts for something new.
    """
    assert d.history is not None
    w, h = d.block.workload, d.block.history
    scale = h.rate_scale if h is not None and h.rate_scale is not None else w.rate_scale
    draws = component_seed(seed, f"history/{d.key.full}")
    if isinstance(d.history, RateTrace):
        begin_s = d.history.start_s
    else:
        begin_s = float(d.history.time_s[0])
    bins = int((w.start_s - begin_s) / bin_s + 1e-9)
    if bins < 1:
        return [], []
    first_s = w.start_s - bins * bin_s
    ends_s = bin_s * np.arange(-bins + 1, 1, dtype=np.float64)
    if isinstance(d.history, RateTrace):
        rates: Floats = _mean_rates(d.history, first_s, bin_s, bins) * scale
        counted: Floats = np.random.default_rng(draws).poisson(rates * bin_s) / bin_s
    else:
        length_s = w.start_s - begin_s
        stream = request_arrivals(
            d.history, start_s=begin_s, rate_scale=scale, repeat=False, duration_s=length_s, seed=draws
        )
        arrival_s = stream.take(length_s).arrival_s + begin_s
        counts, _ = np.histogram(arrival_s, bins=bins, range=(first_s, w.start_s))
        counted = counts / bin_s
    return ends_s.tolist(), counted.tolist()


def _mean_rates(trace: RateTrace, first_s: float, bin_s: float, bins: int) -> Floats:
    """The trace's mean rate over each of our bins, exact for any ratio of the widths; 0 where it holds nothing."""
    edges = first_s + bin_s * np.arange(bins + 1)
    known = trace.start_s + trace.bin_s * np.arange(len(trace.rps) + 1)
    total = np.concatenate(([0.0], np.cumsum(trace.rps * trace.bin_s)))
    means: Floats = np.diff(np.interp(edges, known, total)) / bin_s
    return means
