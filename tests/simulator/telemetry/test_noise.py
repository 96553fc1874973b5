"""Readings that are off by chance: by no more than was said, on average by nothing, and still what a page can say."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from autoscaler.core.types import Histogram
from autoscaler.sources import names
from autoscaler.sources.exposition import Sample, Series
from simulator.run import Choice, make_policy, telemetry_of
from simulator.scenario.load import load_scenario
from simulator.telemetry.noise import Noise
from simulator.telemetry.spec import PROFILES
from tests.simulator.telemetry.test_pages import arrivals, watch

GAUGE, COUNTER = Series(names.VLLM_RUNNING, {}), Series(names.SERVE_ROUTED, {})
BUCKETS = Series(names.VLLM_TTFT_BUCKET, {})


def noise() -> Noise:
    return Noise(0.05, 1, "test")


def read_one(one: Noise, sample: Sample) -> Sample:
    """A read of one page with one sample."""
    (read,) = one.on({"n1": [sample]})["n1"]
    return read


def test_gauges_are_off_by_at_most_the_share_and_on_average_by_none() -> None:
    one = noise()
    read = [float(read_one(one, Sample(GAUGE, 100.0)).value) for _ in range(2000)]  # type: ignore[arg-type]
    assert 95.0 <= min(read) < 95.5
    assert 104.5 < max(read) <= 105.0
    assert sum(read) / len(read) == pytest.approx(100.0, abs=0.2)


def test_what_is_off_of_a_counter_is_its_rise() -> None:
    one = noise()
    read = [float(read_one(one, Sample(COUNTER, 1e6 + 10.0 * i)).value) for i in range(500)]  # type: ignore[arg-type]
    assert read[0] == 1e6
    rises = [b - a for a, b in pairwise(read)]
    assert 9.5 - 1e-6 <= min(rises) < 9.6
    assert 10.4 < max(rises) <= 10.5 + 1e-6


def test_a_counter_that_began_anew_is_read_as_it_is() -> None:
    one = noise()
    values = [read_one(one, Sample(COUNTER, v)).value for v in (50.0, 80.0, 3.0)]
    assert values[2] == 3.0


def test_a_histogram_stays_one() -> None:
    one = noise()
    edges = (0.1, 1.0, math.inf)
    for t in range(1, 50):
        read = read_one(one, Sample(BUCKETS, Histogram(edges, (1.0 * t, 2.0 * t, 3.0 * t))))
        assert isinstance(read.value, Histogram)
        low, middle, high = read.value.counts
        assert (low, middle) == pytest.approx((high / 3, 2 * high / 3))


def test_a_counter_keeps_its_own_course_while_others_come_and_go() -> None:
    """Those that are gone are forgotten: a simulation of weeks holds the counters that it shows, and no more."""
    one = noise()
    shown = []
    for i in range(300):
        passing = Sample(Series(names.VLLM_OUTPUT_TOKENS, {names.REPLICA_ID: f"r{i // 3}"}), 7.0 * i)
        read = one.on({"n1": [Sample(COUNTER, 1e6 + 10.0 * i)], "n2": [passing]})
        shown.append(float(read["n1"][0].value))  # type: ignore[arg-type]
        assert one.remembered == 2
    assert min(b - a for a, b in pairwise(shown)) >= 9.5 - 1e-6
    assert max(b - a for a, b in pairwise(shown)) <= 10.5 + 1e-6
    assert shown[-1] != 1e6 + 10.0 * 299


def test_a_controller_reads_noise_where_a_scenario_has_it() -> None:
    still, noisy = (watch(replace(PROFILES["ideal"], noise_fraction=f)) for f in (0.0, 0.05))
    true = [arrivals(still.at(float(t))) for t in range(10, 60, 5)]
    read = [arrivals(noisy.at(float(t))) for t in range(10, 60, 5)]
    assert true != read
    assert read == pytest.approx(true, rel=0.05)
    scenario = load_scenario("preset:quickstart", ["telemetry.noise_fraction=0.05"])
    assert telemetry_of(scenario, make_policy(scenario, Choice("predictive"))).noise_fraction == 0.05
