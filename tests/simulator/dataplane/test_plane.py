"""What must hold in the data plane whatever the workload: conservation, bounds, independence of the caller."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from policies.base import PolicyError, Slo, TokenMix
from policies.capacity import capacity
from policies.capacity.load import load_profile, preset_names
from policies.capacity.profile import Limits, Scheduling
from simulator.dataplane.plane import CompletedRequests, DataPlane, Status
from tests.simulator.dataplane.cases import AFFINE, Case, assert_same, cases, profile, run_fast
from tests.simulator.dataplane.reference_fleet import Control

_SETTINGS = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ROOT = Path(__file__).parents[3]
SMALL = profile(Limits(8, 64, 4, 400, 200), Scheduling(True, True, True), AFFINE, host_s=0.002, api_s=0.007)


def plane(
    replicas: int = 1, engine=SMALL, timeout_s: float | None = None, max_ongoing: int = 100, seed: int = 1
) -> DataPlane:
    made = DataPlane(engine, max_ongoing_requests=max_ongoing, request_timeout_s=timeout_s, seed=seed)
    for replica in range(replicas):
        made.add_replica(replica, 0.0)
    return made


def poisson(count: int, rps: float, prompt: int = 30, output: int = 20, seed: int = 0):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rps, count))
    return times, rng.integers(1, 2 * prompt, count), rng.integers(1, 2 * output, count)


def columns(done: CompletedRequests) -> list[bytes]:
    order = np.argsort(done.id, kind="stable")
    return [getattr(done, f.name)[order].tobytes() for f in dataclasses.fields(done)]


# --- conservation ---------------------------------------------------------------------------------------------------


@_SETTINGS
@given(cases())
def test_every_request_is_in_exactly_one_place(case: Case) -> None:
    made, done = run_fast(case)
    arrived = [i for i, a in enumerate(case.arrivals) if a[0] <= case.until_s]
    assert sorted([*done.id.tolist(), *made.unfinished().id.tolist()]) == arrived
    ok = done.status == Status.OK
    assert np.all(done.handle_s[ok] <= done.queue_s[ok])
    assert np.all(done.queue_s[ok] < done.ttft_s[ok])
    assert np.all(done.ttft_s[ok] <= done.e2e_s[ok])


@_SETTINGS
@given(cases(single=True))
def test_an_engine_that_has_nothing_to_do_has_all_its_blocks(case: Case) -> None:
    made, _ = run_fast(dataclasses.replace(case, until_s=case.until_s + 1e5))
    gauges = made.gauges(case.until_s + 1e5)
    assert len(made.unfinished()) == 0
    assert gauges.kv_usage_fraction.tolist() == [0.0]
    assert gauges.ongoing.tolist() == [0]


def test_kv_usage_stays_between_nothing_and_all_under_overload() -> None:
    made = plane(2)
    made.feed(*poisson(3000, 60.0))
    seen = []
    for now_s in np.arange(0.0, 60.0, 0.13):
        made.advance(now_s)
        seen += made.gauges(now_s).kv_usage_fraction.tolist()
    assert min(seen) >= 0.0
    assert 0.9 < max(seen) <= 1.0
    assert made.counters().preemptions_total.sum() > 50


def test_littles_law_holds() -> None:
    made = plane(3)
    made.feed(*poisson(4000, 20.0))
    step_s, ongoing = 0.011, []
    for now_s in np.arange(0.0, 260.0, step_s):
        made.advance(now_s)
        ongoing.append(made.gauges(now_s).ongoing.sum())
    done = made.completed()
    assert len(done) == 4000
    inside_s = (done.e2e_s - SMALL.api_s - done.handle_s).sum()
    assert sum(ongoing) * step_s == pytest.approx(inside_s, rel=0.01)


def test_counters_and_histograms_add_up_to_the_requests() -> None:
    made = plane(2)
    made.feed(*poisson(2000, 15.0))
    made.advance(1000.0)
    done, counters = made.completed(), made.counters()
    assert counters.arrivals_total == counters.sent_total.sum() == counters.finished_total.sum() == 2000
    assert counters.output_tokens_total.sum() == done.output_tokens.sum()
    assert counters.prompt_tokens_total.sum() == done.prompt_tokens.sum()
    assert counters.ttft_counts.sum() == 2000
    assert counters.itl_counts.sum() == (done.output_tokens - 1).sum()
    itl_s = (done.mean_itl_s * (done.output_tokens - 1))[done.output_tokens > 1].sum()
    assert counters.itl_sum_s.sum() == pytest.approx(itl_s)


# --- bounds ---------------------------------------------------------------------------------------------------------


MEASURED = [name for name in preset_names() if "way" not in load_profile(name).fit]
SOME_MADE = [name for name in preset_names() if name not in MEASURED][::12]


@pytest.mark.parametrize(("name", "within"), [*((n, 0.04) for n in MEASURED), *((n, 0.25) for n in SOME_MADE)])
def test_a_preset_offered_ten_times_its_capacity_serves_what_its_closed_form_says(name: str, within: float) -> None:
    """Made ones have less KV (preemptions) and times that jump: means say less of them."""
    engine = load_profile(name)
    bound = capacity(engine, TokenMix(prompt_tokens=512, output_tokens=128), Slo()).saturation_rps
    count = int(bound * 10 * 60)
    rng = np.random.default_rng(1)
    made = plane(1, engine, max_ongoing=10**9)
    made.feed(np.arange(count) / (bound * 10), rng.integers(12, 1013, count), rng.integers(8, 249, count))
    made.advance(60.0)
    begun = made.counters().output_tokens_total.sum()
    made.advance(180.0)
    requests = (made.counters().output_tokens_total.sum() - begun) / 128
    assert requests / 120.0 == pytest.approx(bound, rel=within)


def test_no_request_is_faster_than_its_profile_allows() -> None:
    made = plane(4)
    made.feed(*poisson(2000, 30.0))
    made.advance(1000.0)
    done = made.completed()
    fastest_s = SMALL.step_s(1, 0)
    assert np.nanmin(done.mean_itl_s) >= fastest_s
    prefill_s = np.array([SMALL.step_s(0, 0, min(p, 64), 0) for p in done.prompt_tokens])
    assert np.all(done.ttft_s - done.queue_s >= prefill_s)


# --- independence of the caller ---------------------------------------------------------------------------------------


@_SETTINGS
@given(cases())
def test_results_are_the_same_bytes_however_often_time_is_advanced(case: Case) -> None:
    results = [columns(run_fast(case, slice_s)[1]) for slice_s in (0.0171, 0.5, 1e9)]
    assert results[0] == results[1] == results[2]


def test_results_are_the_same_bytes_in_whatever_chunks_requests_are_fed() -> None:
    times, prompts, outputs = poisson(3000, 25.0)
    whole, parts = plane(3), plane(3)
    whole.feed(times, prompts, outputs)
    whole.advance(300.0)
    for k in range(0, 3000, 97):
        parts.feed(times[k : k + 97], prompts[k : k + 97], outputs[k : k + 97])
        parts.advance(times[min(k + 97, 2999)] - 1e-9 if k + 97 < 3000 else 300.0)
    assert columns(whole.completed()) == columns(parts.completed())


def test_the_seed_decides_the_routing_and_nothing_else_is_random() -> None:
    results = []
    for seed in (1, 1, 2):
        made = plane(3, seed=seed)
        made.feed(*poisson(500, 25.0))
        made.advance(300.0)
        results.append(columns(made.completed()))
    assert results[0] == results[1] != results[2]


def test_many_replicas_and_a_long_queue_equal_the_reference_while_memory_is_enlarged() -> None:
    times, prompts, outputs = poisson(1100, 2000.0, seed=3)
    controls = tuple(Control(0.4 + 0.0137 * k, "add", k) for k in range(11))
    arrivals = tuple((float(t), int(p), int(o), 0) for t, p, o in zip(times, prompts, outputs, strict=True))
    assert_same(Case(SMALL, 9, 6.1317, -1, arrivals, controls, 0.11, 12.0))


def test_memory_does_not_grow_with_the_length_of_the_trace() -> None:
    made = plane(4)
    sizes = []
    for hour in range(40):
        times, prompts, outputs = poisson(2000, 20.0, seed=hour)
        made.feed(100.0 * hour + times[times < 100.0], prompts[times < 100.0], outputs[times < 100.0])
        made.advance(100.0 * (hour + 1))
        made.completed()
        sizes.append(made.memory_bytes)
    assert sizes[-1] == sizes[5]


# --- edges ----------------------------------------------------------------------------------------------------------


def test_a_prompt_that_can_never_fit_is_refused_and_a_too_long_output_is_cut() -> None:
    made = plane(1)
    made.feed([0.0, 0.1, 0.2], [200, 199, 150], [5, 5, 100])
    made.advance(100.0)
    done = made.completed()
    assert done.status[np.argsort(done.id)].tolist() == [Status.FAILED, Status.OK, Status.OK]
    assert done.output_tokens[np.argsort(done.id)].tolist() == [0, 1, 50]


def test_cached_prompt_tokens_shorten_the_first_token_by_their_prefill() -> None:
    ttft_s = []
    for cached in (0, 48, 50, 64):
        made = plane(1)
        made.feed([0.0], [64], [5], [cached])
        made.advance(10.0)
        ttft_s.append(float(made.completed().ttft_s[0]))
        assert made.counters().cached_prompt_tokens_total[0] == min(cached // 4 * 4, 60)
    assert ttft_s[0] > ttft_s[1] == ttft_s[2] > ttft_s[3]


def test_progress_counts_tokens_as_they_come_out() -> None:
    made = plane(1)
    made.feed([0.5], [30], [20], ids=[77])
    made.advance(0.4)
    assert made.progress(77) is None
    seen = []
    for now_s in np.arange(0.5, 1.5, 0.002):
        made.advance(now_s)
        tokens = made.progress(77)
        if tokens is not None:
            seen.append(tokens)
    assert seen == sorted(seen)
    assert set(seen) == set(range(20))
    assert made.completed().output_tokens.tolist() == [20]


@pytest.mark.parametrize(
    ("changes", "scheduling", "said"),
    [
        ({"max_num_batched_tokens": 4}, {}, "limits.max_num_batched_tokens: 4"),
        ({"kv_tokens": 3}, {}, "limits.kv_tokens: 3"),
        ({"max_num_batched_tokens": 50}, {"chunked_prefill": False}, "without chunked prefill"),
    ],
)
def test_a_profile_that_vllm_would_not_start_with_is_refused_by_name(changes, scheduling, said) -> None:
    engine = dataclasses.replace(
        SMALL,
        limits=dataclasses.replace(SMALL.limits, **changes),
        scheduling=dataclasses.replace(SMALL.scheduling, **scheduling),
    )
    with pytest.raises(PolicyError, match=said):
        plane(1, engine)


def test_impossible_calls_say_what_is_wrong() -> None:
    made = plane(1)
    made.advance(10.0)
    with pytest.raises(ValueError, match="time is already 10"):
        made.advance(9.0)
    with pytest.raises(ValueError, match="not before 10"):
        made.feed([9.0], [1], [1])
    with pytest.raises(ValueError, match="ascending"):
        made.feed([12.0, 11.0], [1, 1], [1, 1])
    with pytest.raises(ValueError, match=">= 1"):
        made.feed([12.0], [1], [0])
    with pytest.raises(ValueError, match="replica 0 is already there"):
        made.add_replica(0, 11.0)
    with pytest.raises(ValueError, match="max_ongoing_requests: 0"):
        plane(1, max_ongoing=0)


_SMALL_RUN = """
import hashlib, sys
if {absent}:
    sys.modules["numba"] = None
from tests.simulator.dataplane.test_plane import columns, plane, poisson
made = plane(3)
made.feed(*poisson(400, 60.0))
made.advance(40.0)
from simulator.engine.jit import COMPILED
print(COMPILED, hashlib.sha256(b"".join(columns(made.completed()))).hexdigest())
"""


def test_without_numba_the_same_bytes_come_out_more_slowly() -> None:
    said = []
    for absent in (True, False):
        command = [sys.executable, "-c", _SMALL_RUN.format(absent=absent)]
        said.append(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split())
    assert said[0][0] == "False"
    assert said[0][1] == said[1][1]


def test_importing_the_data_plane_does_not_load_numba() -> None:
    code = "import sys, simulator.dataplane; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
