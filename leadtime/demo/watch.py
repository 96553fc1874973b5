"""Follows one pass: what the controller's board says at each tick, what users got, and what that looks like as a scene.

It reads the board and the users' notes, asks nobody anything and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoscaler.api.telemetry import Telemetry
from autoscaler.core.types import DeploymentPlan, Observation, Plan
from leadtime.demo.nodes_watch import NodesWatch
from leadtime.demo.scene import Chart, Decision, Lane, Scene
from leadtime.demo.spec import APP, Spec
from leadtime.demo.users import Served
from policies.base import DeploymentKey, Forecast

_RECENT_S = 30.0
"""How far back "in time" looks."""
_AGAIN_S = 5.0
"""The same change within this time is the same decision."""
_FAN_PAST_LEAD_S = 8.0
"""How far beyond one lead time the forecast is drawn."""
_LEARNED = re.compile(r"^(\S+?): (.*?)(?: \([a-z ]+\))?$")


@dataclass(frozen=True, slots=True)
class Sample:
    """One deployment at one tick; replicas as Serve lists them."""

    at_s: float
    rate_rps: float | None
    running: int
    starting: int
    draining: int
    target: int
    capacity_rps: float | None

    @property
    def held(self) -> int:
        """Replicas that hold a GPU, in whatever state."""
        return self.running + self.starting + self.draining


@dataclass(slots=True)
class Watch:
    """`begin_s` is the wall time at which the pass's traffic begins; `usual` the mean day before, by deployment."""

    spec: Spec
    begin_s: float
    act: bool
    usual: dict[str, tuple[float, ...]]
    """As many columns per day as the screen has."""
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    """Oldest first."""
    nodes: NodesWatch | None = None

    def __post_init__(self) -> None:
        if self.spec.nodes is not None:
            self.nodes = NodesWatch(self.begin_s)

    # ------------------------------------------------------------ taking in

    def take(self, telemetry: Telemetry) -> list[Decision]:
        """A tick that the board just got; the decisions that are new."""
        plan, signals = telemetry.plan, telemetry.signals
        if plan is None or signals is None:
            return []
        at_s = plan.now_s - self.begin_s
        fresh = [self._learned(at_s, words) for words in plan.learned if self.act and self._ours(words)]
        if self.nodes is not None:
            fresh += self.nodes.take(telemetry)
        for demand in self.spec.demands:
            key = key_of(demand.deployment)
            own, seen = plan.deployment(key), _observation(plan, key)
            signal = signals.deployment(key)
            if own is None or seen is None or signal is None or signal.inventory is None:
                continue
            inventory = signal.inventory
            before = self.samples.setdefault(demand.deployment, [])
            sample = Sample(
                at_s,
                seen.rate_rps,
                inventory.count("RUNNING", "UPDATING", "RECOVERING"),
                inventory.count("STARTING"),
                inventory.count("STOPPING"),
                inventory.target,
                plan.capacities_rps.get(key),
            )
            fresh += self._changes(demand.deployment, at_s, own, telemetry, before[-1] if before else None, sample)
            before.append(sample)
        self.decisions += fresh
        return fresh

    def _changes(
        self, name: str, at_s: float, own: DeploymentPlan, telemetry: Telemetry, before: Sample | None, now: Sample
    ) -> list[Decision]:
        if self.act:
            applied = telemetry.applied.get(str(own.key))
            if applied is None or applied.outcome == "unchanged" or own.target in (None, own.observed_target):
                return []
            change = f"{own.observed_target} → {own.target}"
            told = next((d for d in reversed(self.decisions) if d.name == name and d.change), None)
            if told is not None and told.change == change and at_s - told.at_s < _AGAIN_S:
                return []  # posted again until Serve shows it
            why = own.sentence.partition(": ")[2]
            if applied.outcome != "ok":
                why = f"not applied ({applied.outcome}): {applied.why}"
            return [Decision(at_s, name, change, why)]
        if before is None or before.target == now.target:
            return []
        why = "Serve's own autoscaler: requests in progress against 2 per replica, over the last 30 s"
        return [Decision(at_s, name, f"{before.target} → {now.target}", why)]

    def _ours(self, words: str) -> bool:
        """Whether it is about one of the engines (the ingress starts in no time, and is not scaled)."""
        return any(words.startswith(f"{APP}/{demand.deployment}:") for demand in self.spec.demands)

    def _learned(self, at_s: float, words: str) -> Decision:
        match = _LEARNED.match(words)
        if match is None:
            return Decision(at_s, "learned", "", words)
        return Decision(at_s, match.group(1).removeprefix(f"{APP}/"), "", f"learned: {match.group(2)}")

    # ------------------------------------------------------------ showing

    def scene(self, telemetry: Telemetry, served: Sequence[Served], now_s: float, columns: int, texts: Texts) -> Scene:
        """The screen at wall time `now_s`."""
        elapsed_s = now_s - self.begin_s
        lanes = [self._lane(d.deployment, telemetry.plan, served, elapsed_s, columns) for d in self.spec.demands]
        down = [
            f"{s.name} is down: {s.why}" for s in (telemetry.signals.sources if telemetry.signals else ()) if not s.up
        ]
        return Scene(
            title=texts.title,
            elapsed_s=min(max(elapsed_s, 0.0), self.spec.seconds),
            total_s=self.spec.seconds,
            page=texts.page,
            words=texts.words,
            lanes=tuple(lanes),
            decisions=tuple(reversed(self.decisions)),
            so_far=self._so_far(served, elapsed_s),
            nodes="" if self.nodes is None else self.nodes.line(),
            alarm="; ".join(down),
        )

    def _lane(self, name: str, plan: Plan | None, served: Sequence[Served], elapsed_s: float, columns: int) -> Lane:
        own = [one for one in served if one.deployment == name]
        samples = self.samples.get(name, [])
        sample = samples[-1] if samples else None
        key = key_of(name)
        seen = _observation(plan, key) if plan else None
        times = plan.lead_times.get(key) if plan else None
        forecast = plan.forecasts.get(key) if plan else None
        lead_s = times.free_gpu.quantile(0.9) if times else None
        ready = seen.starting[0].expected_ready_at_s - self.begin_s if seen and seen.starting else None
        return Lane(
            name=name,
            chart=self._chart(name, own, seen, forecast, lead_s, elapsed_s, columns),
            rate_rps=seen.rate_rps if seen else None,
            by_lead_rps=forecast.quantile(lead_s, 0.9) if forecast and lead_s else None,
            capacity_rps=sample.capacity_rps if sample else None,
            target=sample.target if sample else None,
            running=sample.running if sample else None,
            starting=sample.starting if sample else None,
            draining=sample.draining if sample else None,
            next_ready_in_s=None if ready is None else max(0.0, ready - elapsed_s),
            lead_p90_s=lead_s,
            queue=seen.waiting if seen else None,
            kv_usage_fraction=seen.kv_usage_fraction if seen else None,
            within_slo_fraction=self._in_time(own, elapsed_s),
        )

    def _chart(
        self,
        name: str,
        own: Sequence[Served],
        seen: Observation | None,
        forecast: Forecast | None,
        lead_s: float | None,
        elapsed_s: float,
        columns: int,
    ) -> Chart:
        window_s = min(self.spec.seconds, self.spec.day_s)
        begin_s = min(max(0.0, elapsed_s - 0.6 * window_s), self.spec.seconds - window_s)
        width_s = window_s / columns
        middles = [begin_s + (i + 0.5) * width_s for i in range(columns)]

        def column(at_s: float) -> int:
            return int((at_s - begin_s) / width_s)

        now = min(max(column(elapsed_s), 0), columns - 1)
        samples = self.samples.get(name, [])
        late = [0] * columns
        for one in own:
            if begin_s <= one.at_s < begin_s + window_s and one.missed(self.spec.ttft_s, elapsed_s):
                late[column(one.at_s)] += 1
        usual = self.usual[name]
        return Chart(
            now_column=now,
            lead_column=None if lead_s is None else column(elapsed_s + lead_s),
            traffic=tuple(self._rates(samples, middles, width_s, now)),
            usual=tuple(usual[int((at_s % self.spec.day_s) / self.spec.day_s * len(usual))] for at_s in middles),
            fan=tuple(_fan(forecast, at_s - elapsed_s, lead_s) for at_s in middles),
            carries=tuple(self._carries(samples, seen, middles, now)),
            late=tuple(late),
            begin_s=begin_s,
            end_s=begin_s + window_s,
        )

    def _rates(
        self, samples: Sequence[Sample], middles: Sequence[float], width_s: float, now: int
    ) -> list[float | None]:
        """Mean rate seen in each column up to now; a column that no tick fell into takes the one before it."""
        rates: list[float | None] = []
        for i, middle_s in enumerate(middles):
            inside = [s.rate_rps for s in samples if abs(s.at_s - middle_s) <= width_s / 2 and s.rate_rps is not None]
            if inside:
                rates.append(sum(inside) / len(inside))
            else:
                rates.append(rates[-1] if rates and i <= now else (0.0 if i <= now else None))
        return rates

    def _carries(
        self, samples: Sequence[Sample], seen: Observation | None, middles: Sequence[float], now: int
    ) -> list[float | None]:
        """What running replicas carried, and will carry when the starts under way end as expected."""
        capacities = [s.capacity_rps for s in samples if s.capacity_rps]
        if not capacities or not samples:
            return [None] * len(middles)
        each_rps = capacities[-1]
        ready = [start.expected_ready_at_s - self.begin_s for start in seen.starting] if seen else []
        result: list[float | None] = []
        for i, middle_s in enumerate(middles):
            if i <= now:
                running = next((s.running for s in reversed(samples) if s.at_s <= middle_s), samples[0].running)
            else:
                running = samples[-1].running + sum(1 for at_s in ready if at_s <= middle_s)
            result.append(running * each_rps)
        return result

    def _in_time(self, own: Sequence[Served], elapsed_s: float) -> float | None:
        """Share of recent users that got, or still may get, their first token in time."""
        recent = [one for one in own if elapsed_s - _RECENT_S <= one.at_s <= elapsed_s]
        if not recent:
            return None
        return sum(not one.missed(self.spec.ttft_s, elapsed_s) for one in recent) / len(recent)

    def _so_far(self, served: Sequence[Served], elapsed_s: float) -> str:
        late = sum(one.missed(self.spec.ttft_s, elapsed_s) for one in served)
        share = f" ({100 * late / len(served):.1f} %)" if served else ""
        held = sum(self.replica_seconds(0.0, min(elapsed_s, self.spec.seconds)).values())
        return (
            f"so far  {len(served)} requests, {late} got their first token later than {self.spec.ttft_s:g} s{share}"
            f" · {held:.0f} replica-seconds"
        )

    # ------------------------------------------------------------ sums

    def replica_seconds(self, from_s: float, to_s: float) -> dict[str, float]:
        """Replica-seconds held by each deployment in [from_s, to_s): starting, running and draining alike."""
        return {name: held_seconds(samples, from_s, to_s) for name, samples in self.samples.items()}


@dataclass(frozen=True, slots=True)
class Texts:
    """What a screen says besides figures."""

    title: str
    page: str
    words: tuple[str, ...]


def held_seconds(samples: Sequence[Sample], from_s: float, to_s: float) -> float:
    """The integral of the replicas held; each sample holds until the next, the first from the beginning on."""
    total = 0.0
    for i, sample in enumerate(samples):
        begin_s = from_s if i == 0 else max(sample.at_s, from_s)
        end_s = samples[i + 1].at_s if i + 1 < len(samples) else to_s
        total += sample.held * max(0.0, min(end_s, to_s) - begin_s)
    return total


def key_of(deployment: str) -> DeploymentKey:
    return DeploymentKey.parse(f"{APP}/{deployment}")


def _observation(plan: Plan, key: DeploymentKey) -> Observation | None:
    return next((one for one in plan.observations if one.key == key), None)


def _fan(forecast: Forecast | None, ahead_s: float, lead_s: float | None) -> tuple[float, float] | None:
    if forecast is None or lead_s is None or not 0 < ahead_s <= lead_s + _FAN_PAST_LEAD_S:
        return None
    return forecast.quantile(ahead_s, 0.5), forecast.quantile(ahead_s, 0.9)
