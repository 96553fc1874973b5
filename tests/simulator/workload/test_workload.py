"""Traffic: exact counts, the documented scaling, memory by the chunk, and luck that nobody can change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base.durations import Duration
from simulator.kernel.draws import component_seed
from simulator.workload.traces import RateTrace, RequestTrace
from simulator.workload.workload import SHIFT_S, ArrivalStream, Lengths, Requests, rate_arrivals, request_arrivals

LENGTHS = Lengths(Duration.from_median_p99(800, 6000), Duration.from_median_p99(200, 900))


def requests(times: list[float]) -> RequestTrace:
    count = len(times)
    tokens = np.arange(1, count + 1, dtype=np.int32)
    return RequestTrace("test", np.array(times), tokens, tokens)


def of_requests(trace: RequestTrace, duration_s: float, **changes: object) -> ArrivalStream:
    options: dict[str, object] = {"start_s": 0.0, "rate_scale": 1.0, "repeat": False, "seed": component_seed(1, "t")}
    return request_arrivals(trace, duration_s=duration_s, **{**options, **changes})  # type: ignore[arg-type]


def of_rates(trace: RateTrace, duration_s: float, **changes: object) -> ArrivalStream:
    options: dict[str, object] = {"start_s": 0.0, "rate_scale": 1.0, "repeat": False, "seed": component_seed(1, "t")}
    return rate_arrivals(trace, LENGTHS, duration_s=duration_s, **{**options, **changes})  # type: ignore[arg-type]


def everything(stream: ArrivalStream, duration_s: float, step_s: float) -> Requests:
    parts, now_s = [], 0.0
    while now_s < duration_s:
        now_s = min(now_s + step_s, duration_s)
        part = stream.take(now_s)
        assert np.all(part.arrival_s < now_s)
        parts.append(part)
    return Requests.concatenate(parts)


def test_a_requests_trace_keeps_its_clock_and_its_rows() -> None:
    taken = of_requests(requests([0.0, 3.0, 3.0, 9.5]), 10.0).take(10.0)
    assert taken.arrival_s.tolist() == [0.0, 3.0, 3.0, 9.5]
    assert taken.prompt_tokens.tolist() == [1, 2, 3, 4]


def test_start_s_becomes_time_zero_and_earlier_rows_are_gone() -> None:
    taken = of_requests(requests([0.0, 3.0, 5.0]), 10.0, start_s=3.0).take(10.0)
    assert taken.arrival_s.tolist() == [0.0, 2.0]


def test_scaling_by_a_whole_number_multiplies_every_row_and_moves_only_the_extra_ones() -> None:
    times = [100.0 + 10 * i for i in range(50)]
    taken = of_requests(requests(times), 700.0, rate_scale=3.0).take(700.0)
    assert len(taken) == 150
    for i, time_s in enumerate(times):
        own = taken.arrival_s[taken.prompt_tokens == i + 1]
        assert len(own) == 3
        assert np.sum(own == time_s) == 1
        assert np.all(np.abs(own - time_s) <= SHIFT_S + 1e-9)


def test_a_broken_scale_is_met_on_average() -> None:
    taken = of_requests(requests([float(i) for i in range(4000)]), 4000.0, rate_scale=1.25).take(4000.0)
    assert len(taken) == pytest.approx(5000, rel=0.03)
    thinned = of_requests(requests([float(i) for i in range(4000)]), 4000.0, rate_scale=0.5).take(4000.0)
    assert len(thinned) == pytest.approx(2000, rel=0.06)
    assert set(thinned.arrival_s.tolist()) <= {float(i) for i in range(4000)}


def test_no_request_is_lost_at_the_ends() -> None:
    taken = of_requests(requests([0.0, 1.0, 99.0, 100.0]), 101.0, rate_scale=20.0).take(101.0)
    assert len(taken) == 80
    assert taken.arrival_s.min() >= 0.0
    assert taken.arrival_s.max() <= 100.0


def test_repeat_goes_on_at_the_beginning_one_mean_gap_later() -> None:
    taken = of_requests(requests([0.0, 2.0, 4.0]), 13.0, repeat=True).take(13.0)
    assert taken.arrival_s.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


def test_rates_become_a_poisson_process_constant_within_a_bin() -> None:
    trace = RateTrace("test", 0.0, 100.0, np.array([5.0, 0.0, 20.0]))
    taken = of_rates(trace, 300.0, rate_scale=2.0).take(300.0)
    counts, _ = np.histogram(taken.arrival_s, bins=3, range=(0, 300))
    assert counts[1] == 0
    assert counts[0] == pytest.approx(1000, abs=4 * 1000**0.5)
    assert counts[2] == pytest.approx(4000, abs=4 * 4000**0.5)


def test_lengths_follow_the_stated_median_and_p99() -> None:
    taken = of_rates(RateTrace("test", 0.0, 100.0, np.full(20, 20.0)), 2000.0).take(2000.0)
    assert np.median(taken.prompt_tokens) == pytest.approx(800, rel=0.03)
    assert np.quantile(taken.prompt_tokens, 0.99) == pytest.approx(6000, rel=0.1)
    assert taken.output_tokens.min() >= 1


def test_a_column_gives_the_mean_of_its_bin_and_the_workload_only_the_spread() -> None:
    trace = RateTrace("test", 0.0, 1000.0, np.full(2, 20.0), np.array([300.0, 3000.0]), np.array([50.0, 50.0]))
    taken = of_rates(trace, 2000.0).take(2000.0)
    first = taken.arrival_s < 1000.0
    assert taken.prompt_tokens[first].mean() == pytest.approx(300, rel=0.04)
    assert taken.prompt_tokens[~first].mean() == pytest.approx(3000, rel=0.04)


@given(step_s=st.floats(0.3, 400.0), scale=st.floats(0.1, 7.0), repeat=st.booleans())
def test_how_it_is_taken_changes_nothing(step_s: float, scale: float, repeat: bool) -> None:
    trace = requests([0.5 * i for i in range(300)])
    rates = RateTrace("test", 0.0, 10.0, np.linspace(0, 5, 30))
    for make in (
        lambda: of_requests(trace, 400.0, rate_scale=scale, repeat=repeat),
        lambda: of_rates(rates, 400.0, rate_scale=scale, repeat=repeat),
    ):
        at_once, in_pieces = make().take(400.0), everything(make(), 400.0, step_s)
        assert at_once.arrival_s.tolist() == in_pieces.arrival_s.tolist()
        assert at_once.prompt_tokens.tolist() == in_pieces.prompt_tokens.tolist()
        assert np.all(np.diff(at_once.arrival_s) >= 0)


def test_a_week_of_traffic_is_made_in_pieces() -> None:
    week_s = 7 * 86400.0
    stream = of_rates(RateTrace("test", 0.0, 60.0, np.full(10080, 10.0)), week_s)
    taken, largest, now_s = 0, 0, 0.0
    while now_s < week_s:
        now_s += 3600.0
        taken += len(stream.take(now_s))
        largest = max(largest, len(stream._held))
    assert taken == pytest.approx(6_048_000, rel=0.002)
    assert largest < 250_000


def test_each_deployment_has_luck_of_its_own(tmp_path: Path) -> None:
    trace = RateTrace("test", 0.0, 10.0, np.full(10, 5.0))
    one, again, other = (of_rates(trace, 100.0, seed=component_seed(1, n)).take(100.0) for n in ("a", "a", "b"))
    assert one.arrival_s.tolist() == again.arrival_s.tolist()
    assert one.arrival_s.tolist() != other.arrival_s.tolist()
