"""Serve's own autoscaler: small cases by hand, and every recorded decision of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.base import HandleReport
from policies.baselines.ray_serve import DelayTimer, RayServeOptions, aggregate, decide
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view

GOLDEN = Path(__file__).parents[4] / "shared" / "samples" / "ray" / "autoscaler_golden.json"
BOUNDS = (1, 10)


def run(options: RayServeOptions, steps: list[tuple[float, int, float]], target: int) -> list[int]:
    """Targets after each (now_s, running, requests)."""
    timer, targets = DelayTimer(), []
    for now_s, running, requests in steps:
        target = decide(options, timer, now_s, running, target, requests, BOUNDS)
        targets.append(target)
    return targets


# ---------------------------------------------------------------- aggregation


def test_no_points_are_no_requests() -> None:
    assert aggregate([(), ()], 100.0) == 0.0


def test_one_series_is_averaged_over_time_and_its_last_value_holds_until_now() -> None:
    series = ((90.0, 4.0), (96.0, 10.0))
    assert aggregate([series], 100.0) == pytest.approx((4 * 6 + 10 * 4) / 10)
    assert aggregate([series], 100.0, "max") == 10.0
    assert aggregate([series], 100.0, "min") == 4.0


def test_several_series_are_summed_from_when_all_have_begun() -> None:
    long, late = ((80.0, 2.0), (90.0, 4.0)), ((95.0, 6.0),)
    assert aggregate([long, late], 100.0) == pytest.approx(10.0)


def test_a_series_that_begins_after_all_else_ended_does_not_move_the_start() -> None:
    early, zero = ((80.0, 2.0),), ((95.0, 0.0),)  # the zero changes nothing, so the sum has no step at 95
    assert aggregate([early, zero], 100.0) == pytest.approx(2.0)


# ---------------------------------------------------------------- decision


def test_more_must_be_wanted_for_30_s_without_a_break() -> None:
    options = RayServeOptions()
    up = [(float(t), 1, 10.0) for t in range(31)]
    assert run(options, up, 1) == [1] * 30 + [5]
    broken = [(float(t), 1, 2.0 if t == 20 else 10.0) for t in range(50)]
    assert run(options, broken, 1) == [1] * 50


def test_fewer_must_be_wanted_for_600_s() -> None:
    steps = [(float(t), 4, 2.0) for t in range(0, 601, 10)]
    assert run(RayServeOptions(), steps, 4) == [4] * 60 + [1]


def test_to_zero_it_goes_through_one_with_a_wait_of_its_own() -> None:
    options = RayServeOptions(downscale_delay_s=10.0, downscale_to_zero_delay_s=30.0)
    timer, target, trail = DelayTimer(), 3, []
    for t in range(60):
        target = decide(options, timer, float(t), target, target, 0.0, (0, 10))
        trail.append(target)
    assert trail[9:12] == [3, 1, 1]
    assert trail[40:42] == [1, 0]


def test_from_zero_it_wakes_at_once() -> None:
    timer = DelayTimer()
    assert decide(RayServeOptions(), timer, 0.0, 0, 0, 0.1, (0, 10)) == 1
    assert decide(RayServeOptions(upscaling_factor=3.0), timer, 0.0, 0, 0, 0.1, (0, 10)) == 3


def test_factors_take_a_share_of_the_way_and_shrinking_is_never_stuck() -> None:
    now = RayServeOptions(upscale_delay_s=0.0, downscale_delay_s=0.0, upscaling_factor=0.5, downscaling_factor=0.1)
    assert run(now, [(0.0, 2, 16.0)], 2) == [5]  # wants 8: 2 + 0.5 * 6
    assert run(now, [(0.0, 3, 3.0)], 3) == [2]  # wants 1.5: 3 - 0.15 rounds back to 3, so one less


def test_starting_replicas_are_not_added_twice() -> None:
    options = RayServeOptions(upscale_delay_s=0.0)
    assert run(options, [(float(t), 1, 10.0) for t in range(20)], 1) == [5] * 20


def test_bounds_hold() -> None:
    assert run(RayServeOptions(upscale_delay_s=0.0), [(0.0, 1, 1e4)], 1) == [10]


# ---------------------------------------------------------------- as a policy


def test_reports_of_handles_become_a_target() -> None:
    policy = create_policy("ray_serve", {"upscale_delay_s": 0})
    running = tuple((f"r{i}", ((970.0, 5.0),)) for i in range(4))
    reports = (HandleReport("proxy-1", ((970.0, 4.0),), running),)
    proposal = policy.propose(fleet(view(handle_reports=reports)), policy.new_state(), 1000.0)
    assert proposal.replicas[KEY].replicas == 12  # 24 requests, 2 each
    assert "24 requests in the system" in proposal.replicas[KEY].terms[0].why


def test_without_a_report_the_target_stays() -> None:
    policy = create_policy("ray_serve", {"downscale_delay_s": 0})
    proposal = policy.propose(fleet(view(target=4)), policy.new_state(), 1000.0)
    assert proposal.replicas[KEY].replicas == 4


# ---------------------------------------------------------------- against the real one


def test_every_recorded_decision_of_ray_2_60_is_reproduced() -> None:
    if not GOLDEN.exists():
        pytest.skip("recorded decisions are not here")
    steps = 0
    for run_ in json.loads(GOLDEN.read_text())["policy"]:
        config = dict(run_["config"])
        bounds = (config.pop("min_replicas"), config.pop("max_replicas"))
        options, timer = RayServeOptions(**config), DelayTimer()
        for now_s, running, before, requests, after in run_["steps"]:
            assert decide(options, timer, now_s, running, before, requests, bounds) == after, (config, now_s)
            steps += 1
    assert steps == 6000


def test_every_recorded_aggregation_of_ray_2_60_is_reproduced() -> None:
    if not GOLDEN.exists():
        pytest.skip("recorded decisions are not here")
    for case in json.loads(GOLDEN.read_text())["aggregation"]:
        series = [tuple((t, v) for t, v in points) for points in case["series"]]
        assert aggregate(series, case["now"], case["fn"]) == pytest.approx(case["value"], rel=1e-9), case["fn"]


def test_how_often_it_decides_can_be_set() -> None:
    assert create_policy("ray_serve", {}).period_s == 1.0
    assert create_policy("ray_serve", {"decide_every_s": 5}).period_s == 5.0
