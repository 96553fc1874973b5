"""Counters become demand: resets, gaps, new and vanished series, bins, mix, attainment."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core import demand
from autoscaler.core.demand.rates import intervals, rates_rps
from autoscaler.core.state import CounterMemory, DemandMemory
from autoscaler.core.types import DeploymentMetrics, Histogram
from policies.base import Slo, Totals


def page(at_s: float, arrivals: dict[str, float], **changes: object) -> DeploymentMetrics:
    return DeploymentMetrics(as_of_s=at_s, arrivals_total=arrivals, **changes)  # type: ignore[arg-type]


def take(memory: DemandMemory, metrics: DeploymentMetrics, bin_s: float = 10.0) -> list[demand.Bin]:
    return demand.ingest(memory, metrics, Slo(), 30.0, bin_s)


def test_the_first_page_is_a_baseline_and_no_traffic() -> None:
    memory = DemandMemory()
    assert take(memory, page(0.0, {"a": 5000.0})) == []
    assert demand.rate_rps(memory) is None


def test_a_steady_counter_gives_its_rate() -> None:
    memory = DemandMemory()
    bins = [b for t in range(0, 65, 5) for b in take(memory, page(float(t), {"a": 3.0 * t}))]
    assert demand.rate_rps(memory) == pytest.approx(3.0)
    assert [b[0] for b in bins] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert [b[1] for b in bins] == pytest.approx([3.0] * 6)


def test_a_reset_counter_counts_from_zero_again() -> None:
    memory = DemandMemory()
    for at_s, value in ((0.0, 100.0), (10.0, 130.0), (20.0, 20.0), (30.0, 50.0)):
        take(memory, page(at_s, {"a": value}))
    assert sum(r[2] for r in intervals(memory)) == pytest.approx(30.0 + 20.0 + 30.0)


def test_what_a_reset_counter_is_credited_late_raises_no_rate() -> None:
    """It is with the interval in which it came; else the rate would rise when that one leaves the window."""
    memory, rates = DemandMemory(), []
    for t in range(0, 120, 5):
        take(memory, page(float(t), {"a": 3.0 * t if t < 60 else 3.0 * (t - 55)}))
        rates.append(demand.rate_rps(memory))
    assert max(rate for rate in rates[1:] if rate is not None) == pytest.approx(3.0)
    assert rates[-1] == pytest.approx(3.0)


def test_a_new_series_counts_in_full_and_a_vanished_one_not_at_all() -> None:
    memory = DemandMemory()
    take(memory, page(0.0, {"a": 100.0}))
    take(memory, page(10.0, {"a": 110.0, "b": 7.0}))
    take(memory, page(20.0, {"b": 17.0}))
    assert [r[2] for r in intervals(memory)] == pytest.approx([17.0, 10.0])


def test_a_series_that_was_missing_for_a_while_is_no_spike() -> None:
    memory = DemandMemory()
    take(memory, page(0.0, {"a": 0.0}))
    take(memory, page(10.0, {"a": 20.0}))
    take(memory, page(20.0, {}))
    take(memory, page(30.0, {}))
    take(memory, page(40.0, {"a": 80.0}))
    assert intervals(memory)[-1][2] == pytest.approx(20.0), "60 requests in 30 s, 20 of them in the last 10 s"


def test_a_state_of_before_its_windows_were_packed_goes_on_with_them() -> None:
    def counted(at_s: float, value: float) -> DeploymentMetrics:
        return page(at_s, {"a": value}, ttft={"r": Histogram((1.0, math.inf), (0.9 * value, value))})

    memory = DemandMemory()
    for at_s, value in ((0.0, 100.0), (10.0, 130.0), (20.0, 190.0)):
        take(memory, counted(at_s, value))
    saved = msgspec.json.decode(msgspec.json.encode(memory), type=DemandMemory)
    older = replace(
        saved,
        recent=[list(one) for one in intervals(saved)],
        attained=[[10.0, 27.0, 30.0, 0.0, 0.0], [20.0, 54.0, 60.0, 0.0, 0.0]],
        intervals=bytearray(),
        interval_sums=[],
        attained_rows=bytearray(),
    )
    assert rates_rps(older) == rates_rps(memory)
    assert demand.judged(older) == demand.judged(memory)
    for one in (older, memory):
        take(one, counted(30.0, 200.0))
    assert msgspec.json.encode(older) == msgspec.json.encode(memory)


def test_the_same_page_twice_changes_nothing() -> None:
    memory = DemandMemory()
    take(memory, page(0.0, {"a": 0.0}))
    take(memory, page(10.0, {"a": 10.0}))
    before = intervals(memory)
    assert take(memory, page(10.0, {"a": 99.0})) == []
    assert intervals(memory) == before


@pytest.mark.parametrize("absurd", [math.nan, math.inf, -math.inf, -5.0, 1e300])
def test_an_absurd_reading_is_none_and_leaves_no_trace(absurd: float) -> None:
    memory = DemandMemory()
    bins: list[demand.Bin] = []
    for at_s in range(0, 100, 5):
        bins += take(memory, page(at_s, {"a": absurd if at_s == 20 else 10.0 * at_s}))
    assert demand.rate_rps(memory) == pytest.approx(10.0)
    assert all(rate is None or 0.0 <= rate <= 10.1 for _, rate in bins)
    assert memory.totals.arrivals <= 950.0


def test_a_clock_set_forward_thins_out_no_rate() -> None:
    memory = DemandMemory()
    for at_s in (0, 5, 10, 3615):
        take(memory, page(at_s, {"a": 10.0 * (at_s if at_s < 3600 else at_s - 3600)}))
    assert demand.rate_rps(memory) is None
    take(memory, page(3620, {"a": 200.0}))
    assert demand.rate_rps(memory) == pytest.approx(10.0)


def test_a_long_hole_leaves_its_bins_unknown() -> None:
    memory = DemandMemory()
    take(memory, page(0.0, {"a": 0.0}))
    bins = take(memory, page(1200.0, {"a": 600.0}))
    assert len(bins) == 120
    assert all(rate is None for _, rate in bins)


def test_the_token_mix_is_unknown_until_enough_requests_finished() -> None:
    memory = DemandMemory()
    take(
        memory, page(0.0, {}, prompt_tokens_total={"r": 0.0}, output_tokens_total={"r": 0.0}, finished_total={"r": 0.0})
    )
    few = {"prompt_tokens_total": {"r": 500.0}, "output_tokens_total": {"r": 100.0}, "finished_total": {"r": 5.0}}
    take(memory, page(10.0, {}, **few))
    assert demand.current_mix(memory) is None
    many = {"prompt_tokens_total": {"r": 5000.0}, "output_tokens_total": {"r": 1000.0}, "finished_total": {"r": 50.0}}
    take(memory, page(20.0, {}, **many))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert (mix.prompt_tokens, mix.output_tokens) == pytest.approx((100.0, 20.0), rel=0.01)


def test_the_first_requests_to_end_are_not_taken_for_all_who_were_served() -> None:
    """One request a second, each 100 tokens in 100 s: after 50 s ten short ones have ended, and 40 are half done."""
    memory = DemandMemory()
    none = {"prompt_tokens_total": {"r": 0.0}, "output_tokens_total": {"r": 0.0}, "finished_total": {"r": 0.0}}
    take(memory, page(0.0, {}, **none, ongoing=0.0))
    some = {"prompt_tokens_total": {"r": 500.0}, "output_tokens_total": {"r": 3000.0}, "finished_total": {"r": 10.0}}
    take(memory, page(50.0, {}, **some, ongoing=40.0))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.output_tokens == pytest.approx(100.0)


def test_engines_that_had_counted_nothing_before_had_nothing_in_progress() -> None:
    """No replica runs yet, so the first page shows no engine and no gauge: the same as above must come of it."""
    memory = DemandMemory()
    demand.ingest(memory, page(0.0, {}, ongoing=None), Slo(), 30.0, 10.0, demand.Reports(running=0))
    some = {"prompt_tokens_total": {"r": 500.0}, "output_tokens_total": {"r": 3000.0}, "finished_total": {"r": 10.0}}
    take(memory, page(50.0, {}, **some, ongoing=40.0))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.output_tokens == pytest.approx(100.0)


def test_who_was_in_progress_before_a_gauge_was_read_is_not_known() -> None:
    memory = DemandMemory()
    then = {"prompt_tokens_total": {"r": 0.0}, "output_tokens_total": {"r": 0.0}, "finished_total": {"r": 0.0}}
    take(memory, page(0.0, {}, **then, ongoing=None))
    some = {"prompt_tokens_total": {"r": 500.0}, "output_tokens_total": {"r": 3000.0}, "finished_total": {"r": 10.0}}
    take(memory, page(50.0, {}, **some, ongoing=40.0))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.output_tokens == pytest.approx(300.0), "only those that finished count"


def test_what_is_in_progress_does_not_change_the_mix_in_the_long_run() -> None:
    memory = DemandMemory()
    for k in range(500):
        counted = {"prompt_tokens_total": {"r": 100.0 * k}, "output_tokens_total": {"r": 1000.0 * k}}
        take(memory, page(10.0 * k, {}, **counted, finished_total={"r": 10.0 * k}, ongoing=40.0))
    mix = demand.current_mix(memory)
    assert mix is not None
    assert mix.output_tokens == pytest.approx(100.0)


def test_attainment_is_the_worse_of_ttft_and_itl() -> None:
    memory = DemandMemory()
    edges = (1.0, 2.0, 4.0, float("inf"))
    take(memory, page(0.0, {}, ttft={"r": Histogram(edges, (0.0, 0.0, 0.0, 0.0))}))
    take(memory, page(10.0, {}, ttft={"r": Histogram(edges, (50.0, 90.0, 100.0, 100.0))}))
    assert demand.attained_fraction(memory) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("limit_s", "share"), [(1.0, 0.5), (1.5, 0.7), (2.0, 0.9), (3.0, 0.95), (100.0, 1.0), (None, 1.0), (0.5, 0.25)]
)
def test_the_share_below_a_limit_is_linear_inside_a_bucket(limit_s: float | None, share: float) -> None:
    histogram = Histogram((1.0, 2.0, 4.0, float("inf")), (50.0, 90.0, 100.0, 100.0))
    assert demand.share_below(histogram, limit_s) == pytest.approx(share)


@given(st.lists(st.tuples(st.floats(0.5, 60.0), st.integers(0, 500), st.booleans()), min_size=1, max_size=40))
def test_nothing_is_ever_counted_twice_or_negative(steps: list[tuple[float, int, bool]]) -> None:
    """Whatever resets and gaps do, what a counter adds up to never exceeds what really arrived."""
    memory, arrived, value, at_s = CounterMemory(), 0, 0.0, 0.0
    total = memory.advance({"a": 0.0}, 0.0, None)
    since_s = 0.0
    for seconds, requests, reset in steps:
        at_s += seconds
        value = requests if reset else value + requests
        arrived += requests
        added = memory.advance({"a": float(value)}, at_s, since_s)
        assert added >= 0
        total += added
        since_s = at_s
    assert total <= arrived + 1e-6


def test_a_node_that_is_read_late_for_the_first_time_is_no_spike() -> None:
    """Its counters ran for weeks before: only what they add from now on is traffic."""
    memory = DemandMemory()
    for at_s, metrics in (
        (0.0, DeploymentMetrics(0.0, {"a": 100.0})),
        (10.0, DeploymentMetrics(10.0, {"a": 110.0, "late": 5_000_000.0}, baseline=("late",))),
        (20.0, DeploymentMetrics(20.0, {"a": 120.0, "late": 5_000_030.0})),
    ):
        demand.ingest(memory, metrics, Slo(), 10.0, 10.0)
        assert memory.as_of_s == at_s
    assert demand.rate_rps(memory) == pytest.approx(4.0)


def test_a_late_nodes_histograms_are_a_baseline_too() -> None:
    memory = DemandMemory()
    old, late = Histogram((1.0, float("inf")), (5.0, 10.0)), Histogram((1.0, float("inf")), (0.0, 9_000.0))
    demand.ingest(memory, DeploymentMetrics(0.0, ttft={"a": old}), Slo(ttft_s=1.0, itl_s=None), 10.0, 10.0)
    grown = Histogram((1.0, float("inf")), (15.0, 20.0))
    metrics = DeploymentMetrics(10.0, ttft={"a": grown, "late": late}, baseline=("late",))
    demand.ingest(memory, metrics, Slo(ttft_s=1.0, itl_s=None), 10.0, 10.0)
    assert demand.attained_fraction(memory) == 1.0


def test_totals_count_everything_since_the_first_reading() -> None:
    memory = DemandMemory()
    edges = (0.1, float("inf"))

    def counted(at_s: float, n: float) -> DeploymentMetrics:
        return page(
            at_s,
            {"a": 10 + n},
            finished_total={"e": 7 + n},
            prompt_tokens_total={"e": 1000 + 100 * n},
            output_tokens_total={"e": 50 * n},
            cached_tokens_total={"e": 20 * n},
            ttft={"e": Histogram(edges, (n, n))},
            itl={"e": Histogram(edges, (49 * n, 49 * n))},
            ttft_sum_s={"e": 0.2 * n},
            itl_sum_s={"e": 0.5 * n},
        )

    for i in range(4):
        take(memory, counted(10.0 * i, 3.0 * i))
    assert memory.totals == Totals(9.0, 9.0, 900.0, 450.0, 180.0, pytest.approx(1.8), 9.0, pytest.approx(4.5), 441.0)
    take(memory, counted(40.0, 2.0))  # the engine was restarted and has counted two since
    take(memory, counted(50.0, 3.0))  # and the next page does not take that back
    assert memory.totals.first_tokens == 12.0
    assert memory.totals.ttft_s == pytest.approx(2.4)


def test_what_was_counted_is_the_same_in_any_order_of_the_series() -> None:
    """A page has an order of its own, the journal another: a replay must come to the same figures."""
    values = {f"s{i}": 1000.0 / (i + 3) for i in range(30)}
    sums = set()
    for order in (list(values), sorted(values, reverse=True), [*values][::2] + [*values][1::2]):
        memory = CounterMemory()
        memory.advance(dict.fromkeys(order, 0.0), 0.0, None)
        sums.add(memory.advance({name: values[name] for name in order}, 5.0, 0.0))
    assert len(sums) == 1
