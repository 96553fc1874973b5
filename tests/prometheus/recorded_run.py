"""A recorded run: the controller in the simulator, its own metrics page scraped every 15 s, as OpenMetrics text.

Deterministic: same bytes each time. The page is the product's (autoscaler.api.metrics); only time is the simulator's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from unittest.mock import patch

from prometheus_client import CollectorRegistry

import autoscaler.core.build
from autoscaler.actuators.recording import RecordingActuator
from autoscaler.api.metrics import Exporter
from autoscaler.api.telemetry import Telemetry
from autoscaler.core.conditions import STATE_NOT_SAVED
from autoscaler.core.controller import Controller
from autoscaler.core.types import Applied, Outcome, Plan, Signals, SourceStatus
from simulator.experiments.simulation import simulate
from simulator.run import Choice, make_policy
from simulator.scenario.load import load_scenario

START_S = 1_760_000_000.0
SCRAPE_S = 15.0
TARGET = {
    "job": "leadtime", "instance": "10.0.0.1:8080", "pod": "leadtime-0", "namespace": "leadtime",
    "controller_namespace": "leadtime", "controller_release": "leadtime",
}  # fmt: skip
"""What a Prometheus adds to every series; the page's own labels win (honorLabels)."""


class Page:
    """The metrics page through a run, scraped on a grid."""

    def __init__(self) -> None:
        self.samples: dict[str, list[str]] = {}
        self.types: dict[str, str] = {}
        self.names: set[str] = set()
        self.until_s = START_S
        self._telemetry: Telemetry | None = None
        self._exporter: Exporter | None = None
        self._now_s = START_S
        self._next_s = START_S

    def publish(self, controller: Controller, signals: Signals, plan: Plan) -> None:
        if self._telemetry is None:
            self._telemetry = Telemetry(controller.config, alive_within_s=30.0)
            self._telemetry.hint_messages["accepted"] += 1
            self._telemetry.report(STATE_NOT_SAVED, "disk full")
            self._telemetry.stands_in_for = frozenset
            self._exporter = Exporter(self._telemetry, lambda: self._now_s)
        self._now_s = self.until_s = START_S + plan.now_s
        shown, told = _in_epoch(signals, plan)
        self._telemetry.take_conditions(shown, self._now_s)
        self._telemetry.publish(told, shown, [_written(shown)], step_s=0.0021)
        if self._now_s >= self._next_s - 1e-6:
            self._next_s += SCRAPE_S
            self._scrape()

    def _scrape(self) -> None:
        assert self._exporter is not None
        for family in self._exporter.collect():
            self.types[family.name] = family.type
            kept = self.samples.setdefault(family.name, [])
            for sample in family.samples:
                labels = TARGET | sample.labels
                text = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
                kept.append(f"{sample.name}{{{text}}} {sample.value!r} {self._now_s:.3f}")
                self.names.add(sample.name)

    def text(self) -> str:
        """OpenMetrics with timestamps, as promtool takes it."""
        return "\n".join([*self._lines(), "# EOF", ""])

    def registry(self) -> CollectorRegistry:
        """The page as it was at the end of the run."""
        assert self._exporter is not None
        return self._exporter.registry

    def _lines(self) -> Iterator[str]:
        for name, lines in self.samples.items():
            if lines:
                yield f"# TYPE {name} {self.types[name]}"
                yield from lines


def _in_epoch(signals: Signals, plan: Plan) -> tuple[Plan, Signals]:
    """The simulator's clock begins at 0; a page shows seconds since 1970."""
    observations = tuple(
        replace(o, metrics_as_of_s=None if o.metrics_as_of_s is None else START_S + o.metrics_as_of_s)
        for o in plan.observations
    )
    pools = tuple(
        replace(p, refused_at_s=None if p.refused_at_s is None else START_S + p.refused_at_s) for p in signals.pools
    )
    sources = signals.sources or (SourceStatus("simulated", True, plan.now_s),)
    sources = tuple(replace(s, as_of_s=None if s.as_of_s is None else START_S + s.as_of_s) for s in sources)
    shown = replace(plan, now_s=START_S + plan.now_s, observations=observations)
    return shown, replace(signals, pools=pools, sources=sources)


def _written(plan: Plan) -> Outcome:
    """What an actuator that always succeeds reports."""
    name = RecordingActuator().name
    return Outcome(
        name,
        tuple(
            Applied(name, str(one.key), "unchanged" if one.target == one.observed_target else "ok", one.target)
            for one in plan.deployments
            if one.target is not None
        ),
    )


@cache
def record(scenario: str = "preset:quickstart", *overrides: str) -> Page:
    """Run a scenario and keep its page."""
    page = Page()

    class Recorded(Controller):
        def step(self, signals: Signals, now_s: float) -> Plan:
            plan = super().step(signals, now_s)
            page.publish(self, signals, plan)
            return plan

    loaded = load_scenario(scenario, overrides)
    with patch.object(autoscaler.core.build, "Controller", Recorded):
        simulate(loaded, make_policy(loaded, Choice()))
    return page
