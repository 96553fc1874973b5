"""What the controller sees: late, by process, with the traces of the dead, and through the live source's own parser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from autoscaler.core.types import DeploymentMetrics, Histogram
from autoscaler.sources import names
from autoscaler.sources.exposition import Sample, parse
from autoscaler.sources.join import NodePage, collect
from policies.base import DeploymentKey
from simulator.serve.lifecycle import Serve
from simulator.telemetry.figures import HandleFigures, ReplicaFigures
from simulator.telemetry.pages import MetricPages
from simulator.telemetry.processes import DeploymentTelemetry
from simulator.telemetry.spec import PROFILES, TelemetrySpec
from tests.simulator.fleet import Fleet, NoEngines, fleet, spec

KEY = DeploymentKey.parse("chat/llm")
EDGES = (0.1, 1.0, math.inf)


@dataclass
class Truth(NoEngines):
    """Figures that follow the clock: so many requests have come and are in flight as seconds have passed."""

    looked: int = 0
    """Times that figures of a replica were asked for."""

    def __post_init__(self) -> None:
        self.log = []

    def ongoing(self, replica_id: str) -> int:
        return int(self.now_s)

    def handle_figures(self) -> HandleFigures:
        return HandleFigures(queued=3.0, ongoing=self.now_s, arrivals=10 * self.now_s)

    def replica_figures(self, replica_id: str) -> ReplicaFigures:
        t = self.now_s
        self.looked += 1
        histogram = Histogram(EDGES, (t, 2 * t, 3 * t))
        return ReplicaFigures(t, t, 1.0, 0.25, 100 * t, 20 * t, 5 * t, t, 0.0, histogram, histogram)


@dataclass
class Seen:
    fleet: Fleet
    serve: Serve
    pages: MetricPages

    def at(self, time_s: float) -> DeploymentMetrics:
        self.fleet.run(time_s)
        nodes = {n.name for p in self.fleet.cluster.pools.values() for n in p.nodes}
        return self.pages.read({KEY: self.serve.inventory()}, nodes, self.fleet.queue.now_s)[KEY]


def watch(telemetry: TelemetrySpec, initial: int = 1) -> Seen:
    f = fleet(deployments=(spec(initial=initial, graceful_shutdown_timeout_s=2.0),))
    truth = Truth()
    f.serve.plane = truth
    seen = DeploymentTelemetry(f.serve, truth, telemetry, f.queue)
    f.serve.on_gone = seen.gone
    return Seen(f, f.serve, MetricPages([seen], telemetry, seed=1))


def arrivals(metrics: DeploymentMetrics) -> float:
    return sum(metrics.arrivals_total.values())


def test_ideal_telemetry_shows_what_is() -> None:
    metrics = watch(PROFILES["ideal"]).at(33.0)
    assert (arrivals(metrics), metrics.queued_at_handles, metrics.ongoing) == (330.0, 3.0, 33.0)
    assert metrics.replicas[0].running == 33.0
    assert sum(metrics.prompt_tokens_total.values()) == 3300.0


def test_rays_gauges_are_one_to_eleven_seconds_late() -> None:
    seen = watch(PROFILES["ray_serve"], initial=4)
    lags = set()
    for time_s in range(30, 130):
        metrics = seen.at(float(time_s))
        lags |= {time_s - (r.running or 0.0) for r in metrics.replicas}
        lags.add(time_s - arrivals(metrics) / 10)
        assert metrics.as_of_s == time_s  # the page is fresh; that what it says is old, nobody tells
    assert 1.0 <= min(lags) < 2.0
    assert 10.0 <= max(lags) <= 11.0
    assert sum(lags) / len(lags) == pytest.approx(6.0, abs=1.0)


def test_processes_report_at_times_of_their_own() -> None:
    metrics = watch(PROFILES["ray_serve"], initial=6).at(60.0)
    assert len({r.running for r in metrics.replicas}) > 1


def test_a_new_replica_shows_nothing_until_it_has_reported() -> None:
    seen = watch(PROFILES["ray_serve"])
    seen.fleet.at(20.0, 2)
    counts = {t: len(seen.at(float(t)).replicas) for t in range(20, 50)}
    running_s = next(t for t in range(20, 50) if seen.fleet.queue.now_s >= t and counts[t] == 2)
    assert 33 <= running_s <= 44  # RUNNING at 32.1
    assert counts[32] == 1


def test_the_gauges_of_a_dead_replica_linger_on_the_page_but_are_not_counted() -> None:
    seen = watch(PROFILES["ray_serve"], initial=2)
    seen.fleet.at(40.0, 1)
    before = seen.at(40.0)
    assert len(before.replicas) == 2
    after = seen.at(45.0)
    assert len(after.replicas) == 1
    page = next(p for p in seen.pages._last.values() if any(s.name == names.VLLM_RUNNING for s in p.samples))
    assert sum(s.name == names.VLLM_RUNNING for s in page.samples) == 2
    seen.at(63.0)
    page = next(p for p in seen.pages._last.values() if any(s.name == names.VLLM_RUNNING for s in p.samples))
    assert sum(s.name == names.VLLM_RUNNING for s in page.samples) == 1
    assert sum(s.name == names.VLLM_PROMPT_TOKENS for s in page.samples) == 2  # its counters stay


def test_a_page_that_fails_is_stood_for_by_the_one_before() -> None:
    seen = watch(replace(PROFILES["ray_serve"], drop_fraction=0.5))
    ages = [now_s - seen.at(float(now_s)).as_of_s for now_s in range(20, 120)]
    assert 0 in ages
    assert max(ages) >= 3
    assert sum(age > 0 for age in ages) > 30


def render(samples: tuple[Sample, ...]) -> bytes:
    """The samples as Ray's metrics agent writes them."""
    lines = []
    for sample in samples:
        if isinstance(sample.value, Histogram):
            for edge, count in zip(sample.value.edges, sample.value.counts, strict=True):
                le = "+Inf" if edge == math.inf else repr(edge)
                lines.append(_line(sample.name, {**sample.labels, "le": le}, count))
        else:
            lines.append(_line(sample.name, sample.labels, sample.value))
    return "\n".join(lines).encode()


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{k}="{v}"' for k, v in labels.items())
    return f"{name}{{{inside}}} {value!r}"


@pytest.mark.parametrize("profile", ["prometheus_15s", "ray_serve"])
def test_reports_that_nobody_would_read_are_not_made_and_nobody_notices(profile: str) -> None:
    """Read every 40 s, of processes that report every 10 or 15 s and come and go meanwhile."""
    looks: list[list[DeploymentMetrics]] = []
    reports: list[int] = []
    for told in (False, True):
        seen = watch(PROFILES[profile], initial=3)
        seen.fleet.at(50.0, 2)
        seen.fleet.at(130.0, 4)
        truth = seen.serve.plane
        assert isinstance(truth, Truth)
        found = []
        for time_s in (40.0, 80.0, 120.0, 160.0, 200.0):
            if told:
                (telemetry,) = seen.pages._deployments
                telemetry.read_next_s = time_s
            found.append(seen.at(time_s))
        looks.append(found)
        reports.append(truth.looked)
    assert looks[0] == looks[1]
    if profile == "prometheus_15s":
        assert reports[1] < 0.6 * reports[0]
    else:
        assert reports[1] == reports[0]  # the dead and the idle leave their last words, so every report may count


def test_samples_written_as_text_and_parsed_give_the_same_metrics() -> None:
    """The simulator leaves out the text; this is the proof that nothing is lost or gained by that."""
    seen = watch(PROFILES["ray_serve"], initial=3)
    seen.fleet.at(40.0, 2)
    for time_s in (35.0, 47.0):
        direct = seen.at(time_s)
        pages = {
            n: NodePage(p.as_of_s, tuple(parse(render(p.samples), names.NAMES))) for n, p in seen.pages._last.items()
        }
        parsed = collect(pages, {KEY: seen.serve.inventory()}, "default", "local", time_s)[KEY]
        assert parsed == direct
        assert arrivals(parsed) > 0
        assert len(parsed.ttft) >= 2


def test_handles_record_and_push_as_serve_does() -> None:
    seen = watch(PROFILES["serve_handles"])
    seen.pages.record_handles(seen.fleet.queue, metrics_interval_s=10.0, look_back_s=30.0)
    (report,) = seen.at(65.0).handle_reports
    assert [t for t, _ in report.queued] == [
        24.0,
        30.0,
        36.0,
        42.0,
        48.0,
        54.0,
    ]  # pushed at 60, before that second's record
    assert {v for _, v in report.queued} == {3.0}
    ((_, running),) = report.running
    assert running == tuple((t, t) for t in (24.0, 30.0, 36.0, 42.0, 48.0, 54.0))
