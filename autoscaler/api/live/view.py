"""What the live page shows, as records that the templates print: made of telemetry only, in the reader's order.

A sentence first, then numbers, then charts. Every text of others (names, reasons) is plain text here; the templates
escape it. Secrets are blanked in reasons and words, not in names: one that was chosen to equal another's name must not
remove that name from the page.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from autoscaler import __version__
from autoscaler.api.live.charts import Chart, Row, axis_of, charts, spark, table, ticks
from autoscaler.api.live.words import (
    NONE,
    UNKNOWN,
    change,
    clock,
    dollars,
    duration,
    number,
    percent,
    plural,
    rate,
)
from autoscaler.api.status import is_refused, nodes_by_state
from autoscaler.api.telemetry import Decision, Telemetry
from autoscaler.common.redaction import blank
from autoscaler.core import guards
from autoscaler.core.conditions import KINDS
from autoscaler.core.demand import ATTAINMENT_WINDOW_S
from autoscaler.core.types import (
    DeploymentPlan,
    DeploymentSettings,
    Observation,
    Plan,
    PoolSignals,
    nodes_usd_per_hour,
)
from policies.base import DeploymentKey, Forecast, LeadTimes

_LIMITS = (guards.MAXIMUM, guards.BUDGET)
_DECISIONS_SHOWN, _OF_EACH = 8, 4
_EVENTS_SHOWN = 6
_STALE_TICKS = 3.0
_SPARK_POINTS = 60
_SPARKS_TURN_S = 120.0
"""A row's small line is drawn anew so often: the others' numbers change at every tick, their lines hardly."""


@dataclass(frozen=True, slots=True)
class State:
    """How a deployment is. `rank` orders trouble first; colour is never alone: `shape` and `words` say the same."""

    rank: int
    kind: str
    shape: str
    words: str


_MISSING = State(0, "bad", "■", "missing its SLO")
_LIMITED = State(1, "warn", "▲", "limited")
_UNKNOWN = State(2, "unknown", "╌", "unknown")
_UP = State(3, "up", "↑", "scaling up")
_DOWN = State(4, "down", "↓", "draining")
_PAUSED = State(5, "paused", "‖", "paused")
_CALM = State(6, "calm", "○", "calm")
_STATES = (_MISSING, _LIMITED, _UNKNOWN, _UP, _DOWN, _PAUSED, _CALM)


@dataclass(frozen=True, slots=True)
class Banner:
    """Something that readers must know; `kind`: bad, warn or info."""

    kind: str
    cause: str
    consequence: str
    how: str


@dataclass(frozen=True, slots=True)
class Line:
    """One deployment in the table."""

    key: str
    place: int
    """In the order of keys: part of its element's id, so that no text of others is."""
    state: State
    doing: str
    cells: tuple[str, ...]
    """Now, by lead time, replicas, lead time, queue, KV, SLO attained."""
    budget_left: int | None
    """Per cent."""
    sort: tuple[float, float]
    """Traffic and budget left: what the reader may sort by."""

    @property
    def head(self) -> tuple[object, ...]:
        """What makes more of the row than its numbers another one."""
        return self.key, self.state.rank, self.doing, self.budget_left


@dataclass(frozen=True, slots=True)
class Stat:
    """A number with its name above and a caption below."""

    title: str
    value: str
    unit: str
    caption: str


@dataclass(frozen=True, slots=True)
class Detail:
    """Everything of one deployment."""

    key: str
    what: str
    state: State
    doing: str
    sentence: Markup
    stats: tuple[Stat, ...]
    now: Markup
    then: Markup | None
    now_at: float
    then_at: float | None
    charts: tuple[Chart, ...]
    ticks: tuple[tuple[float, Markup], ...]
    table: tuple[tuple[Markup, Row], ...]
    why: tuple[tuple[str, str], ...]
    caption: str


@dataclass(frozen=True, slots=True)
class Box:
    """Nodes of a pool: `cells` are (kind, per cent of the bar)."""

    name: str
    cost: str
    cells: tuple[tuple[str, float], ...]
    words: str
    refused: str


@dataclass(frozen=True, slots=True)
class Event:
    """Announced demand."""

    at: Markup
    key: str
    what: str
    words: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision that changed something."""

    at: Markup
    key: str
    change: str
    why: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Top:
    """The line above everything."""

    service: str
    leader: str
    sources: str
    policy: str
    tick: str
    foot: str


class View:
    """The page at one tick; each part is made when it is asked for, and once."""

    def __init__(self, telemetry: Telemetry, now_s: float) -> None:
        self._telemetry = telemetry
        self.now_s = now_s
        self._plan: Plan | None = telemetry.plan
        plan = telemetry.plan
        self._observations: Mapping[DeploymentKey, Observation] = (
            {one.key: one for one in plan.observations} if plan else {}
        )
        self._settings: dict[DeploymentKey, DeploymentSettings | None] = {}
        self.keys: tuple[DeploymentKey, ...] = tuple(sorted(one.key for one in plan.deployments)) if plan else ()
        self.places = {key: i for i, key in enumerate(self.keys)}
        self._states: dict[DeploymentKey, tuple[State, str]] = {}
        self._plans = {one.key: one for one in plan.deployments} if plan else {}
        self.tick = plan.tick if plan else 0

    # ------------------------------------------------------------ the head

    def top(self) -> Top:
        """Who runs, and how fresh what it reads is."""
        telemetry, plan, signals = self._telemetry, self._plan, self._telemetry.signals
        sources = signals.sources if signals else ()
        step = f", step {1000.0 * telemetry.step_s:.1f} ms" if telemetry.step_s is not None else ""
        services = {f"{key.namespace}/{key.service}" for key in self.keys}
        return Top(
            service=next(iter(services)) if len(services) == 1 else plural(len(services), "service"),
            leader="no decision yet" if plan is None else "leader" if plan.leader else "follower",
            sources=f"{sum(s.up for s in sources)} of {plural(len(sources), 'source')} fresh",
            policy=telemetry.config.policy_name,
            tick="" if plan is None else str(plan.tick),
            foot=f"leadtime {__version__}{step}" + (f", tick {plan.tick:,}" if plan else ""),
        )

    def banners(self) -> tuple[Banner, ...]:
        """What is wrong or special, red first, then amber, then blue."""
        found = sorted(self._banners(), key=lambda one: ("bad", "warn", "info").index(one.kind))
        return tuple(replace(one, consequence=blank(one.consequence)) for one in found)

    def _banners(self) -> Iterator[Banner]:
        telemetry, plan, signals = self._telemetry, self._plan, self._telemetry.signals
        if plan is not None and self.now_s - plan.now_s > _STALE_TICKS * telemetry.config.tick_s + 1.0:
            yield Banner("bad", "No decision lately", f"the last one is {duration(self.now_s - plan.now_s)} old",
                         "read the controller's log")  # fmt: skip
        for outage in telemetry.outages:
            what = "Nothing can be read" if outage.kind == "reading" else "Nothing can be written"
            yield Banner("bad", what, f"{outage.why}; levels stay as they are", "leadtime doctor")
        if not telemetry.outages:
            for source in signals.sources if signals else ():
                if not source.up:
                    yield Banner("bad", f"Source {source.name} cannot be read",
                                 f"{source.why}; what is unknown is not taken for zero", "leadtime doctor")  # fmt: skip
        for pool in signals.pools if signals else ():
            if is_refused(pool, self.now_s):
                newest = pool.refusals[-1] if pool.refusals else None
                why = newest.words if newest and newest.words else "the last request for a node was refused"
                yield Banner("bad", f"Pool {pool.name} out of stock", why, "other pools of the deployment are tried")
        grouped: dict[str, list[str]] = {}
        for one in telemetry.conditions:
            grouped.setdefault(one.name, []).append(f"{one.deployment}: {one.why}" if one.deployment else one.why)
        for name, whys in grouped.items():
            kind = KINDS[name]
            more = f" (and {plural(len(whys) - 1, 'other')})" if len(whys) > 1 else ""
            title = _spaced(kind.reason)
            yield Banner("bad" if kind.severity == "critical" else "warn", title, whys[0] + more, kind.mend)
        if plan is not None and not plan.leader:
            if telemetry.stands_in_for is not None:
                count = len(telemetry.stands_in_for())
                yield Banner("info", "Standby", f"stands in for {plural(count, 'deployment')}", "")
            else:
                yield Banner("info", "Follower", "another controller leads and writes; this one only shows what it "
                             "would do", "kubectl get lease names the leader")  # fmt: skip
        if telemetry.config.dry_run:
            yield Banner("warn", "Dry run", "decisions are shown and not carried out", "dry_run: false in the settings")
        uncertain = [k for k in self.keys if (f := self._forecast(k)) is not None and not f.calibrated]
        if uncertain and plan is not None:
            why = plan.forecasts[uncertain[0]].why
            yield Banner("warn" if len(uncertain) == len(self.keys) else "info", "Forecast off",
                         f"{_of(len(uncertain), len(self.keys))} reactive until then: {why}", "")  # fmt: skip
        if telemetry.pause.everything:
            yield Banner("info", "Paused", "a person paused everything: levels stay as they are", "leadtime resume")
        elif telemetry.pause.deployments:
            names = ", ".join(sorted(str(key) for key in telemetry.pause.deployments)[:3])
            yield Banner("info", f"{plural(len(telemetry.pause.deployments), 'deployment')} paused", names,
                         "leadtime resume DEPLOYMENT")  # fmt: skip

    def summary(self) -> Markup:
        """One sentence on all deployments."""
        plan = self._plan
        if plan is None:
            return Markup("The first decision is not made yet.")
        if not self.keys:
            return Markup("<b>No Ray Serve application found.</b> The sources below were asked.")
        counts = Counter(self.state(key)[0].rank for key in self.keys)
        troubled = counts[_LIMITED.rank] + counts[_UNKNOWN.rank]
        total = len(self.keys)
        missing = counts[_MISSING.rank]
        head = Markup("<b>{} missing their SLO.</b>").format(_of(missing, total)) if missing else Markup(
            "<b>No deployment misses its SLO.</b>"
        )  # fmt: skip
        rest = []
        if troubled:
            rest.append(f"{troubled} {'needs' if troubled == 1 else 'need'} a look")
        if counts[_UP.rank]:
            rest.append(f"{counts[_UP.rank]} {'is' if counts[_UP.rank] == 1 else 'are'} scaling up ahead of traffic")
        if counts[_DOWN.rank]:
            rest.append(f"{counts[_DOWN.rank]} {'is' if counts[_DOWN.rank] == 1 else 'are'} draining")
        return head + Markup(" {}.").format(", ".join(rest)) if rest else head

    def counts(self) -> tuple[tuple[State, int], ...]:
        """How many deployments are in each state that any is in."""
        found = Counter(self.state(key)[0].rank for key in self.keys)
        return tuple((state, found[state.rank]) for state in _STATES if found[state.rank])

    def totals(self) -> tuple[Stat, ...]:
        """GPUs, cost and cold starts of everything."""
        telemetry = self._telemetry
        pools = telemetry.signals.pools if telemetry.signals else ()
        settings = {one.name: one for one in telemetry.config.pools}
        gpus = sum(node.gpus or settings[pool.name].gpus_per_node for pool in pools if pool.name in settings
                   for node in pool.nodes)  # fmt: skip
        costs = [nodes_usd_per_hour(settings[pool.name], pool.nodes) for pool in pools if pool.name in settings]
        known = [cost for cost in costs if cost is not None]
        starts = telemetry.score.starts
        hidden = sum(count for (_, outcome), count in starts.items() if outcome == "hidden")
        exposed = sum(count for (_, outcome), count in starts.items() if outcome == "exposed")
        stats = []
        if pools:
            stats.append(Stat("GPUs", f"{gpus:,}", "GPUs", "on nodes that are there"))
        if known:
            stats.append(Stat("Cost", dollars(sum(known)), "/h", "of nodes that are there"))
        if hidden + exposed:
            stats.append(
                Stat("Cold starts", percent(hidden / (hidden + exposed)), "",
                     f"of {plural(hidden + exposed, 'cold start')} hidden since the start")
            )  # fmt: skip
        return tuple(stats)

    # ------------------------------------------------------------ the table

    def order(self) -> tuple[DeploymentKey, ...]:
        """Trouble first, then by traffic."""
        return tuple(sorted(self.keys, key=lambda key: (self.state(key)[0].rank, -(self._rate(key) or 0.0), key)))

    def line(self, key: DeploymentKey) -> Line:
        """One row of the table."""
        plan, seen, settings = self._plans[key], self._observations.get(key), self._settings_of(key)
        state, doing = self.state(key)
        times = self._times(key)
        lead_s = times.new_node.quantile(0.9) if times else None
        expected = self._expected(key, lead_s)
        attained = seen.attained_fraction if seen else None
        left = _budget_left(attained, settings)
        rps = seen.rate_rps if seen else None
        idle = seen is not None and seen.running == 0
        waiting = seen.waiting if seen else None
        return Line(
            key=str(key),
            place=self.places[key],
            state=state,
            doing=doing,
            cells=(
                number(rps),
                NONE if expected is None else number(expected),
                change(seen.running if seen else None, plan.target),
                UNKNOWN if lead_s is None else duration(lead_s),
                NONE if idle and not waiting else number(waiting),
                NONE if idle else percent(seen.kv_usage_fraction if seen else None),
                NONE if attained is None else percent(attained, 2),
            ),
            budget_left=None if left is None else round(100.0 * left),
            sort=(round(rps or 0.0, 3), 1.0 if left is None else round(left, 3)),
        )

    def spark(self, key: DeploymentKey) -> Markup:
        """Its small line of traffic."""
        times = self._times(key)
        points = list(self._telemetry.history.points(key))
        every = max(1, len(points) // _SPARK_POINTS)
        shown = points[(len(points) - 1) % every :: every]
        return spark(shown, axis_of(self.now_s, times.new_node.quantile(0.9) if times else None, shown),
                     self._forecast(key))  # fmt: skip

    def spark_turn(self, key: DeploymentKey) -> int:
        """Changes when its small line is due again; not all in the same tick."""
        return int(self.now_s / _SPARKS_TURN_S + (hash(key) % 997) / 997.0)

    def state(self, key: DeploymentKey) -> tuple[State, str]:
        """How it is, and in a few words what is done."""
        if key not in self._states:
            state, doing = self._state(key)
            self._states[key] = state, blank(doing)
        return self._states[key]

    def _state(self, key: DeploymentKey) -> tuple[State, str]:
        plan, seen, settings = self._plans[key], self._observations.get(key), self._settings_of(key)
        attained = seen.attained_fraction if seen else None
        running = seen.running if seen else None
        target = plan.target
        limits = [g for g in plan.guards if g.name in _LIMITS and g.before is not None and g.after is not None
                  and g.after < g.before]  # fmt: skip
        if settings is not None and attained is not None and attained < settings.slo.target_fraction:
            return (
                _MISSING,
                f"{percent(attained, 1)} within the SLO, {percent(settings.slo.target_fraction, 1)} promised",
            )
        if plan.blocked:
            return _LIMITED, f"not carried out: {plan.blocked}"
        if limits:
            return _LIMITED, f"limited: {limits[-1].why}"
        if self._telemetry.pause.covers(key):
            return _PAUSED, "paused by a person"
        if seen is None or not seen.fresh:
            why = seen.why_stale if seen and seen.why_stale else "nothing is known of it"
            return _UNKNOWN, f"holding: {why}"
        if settings is None:
            return _CALM, "observed only: no entry of the settings covers it"
        shown = plan.observed_target if plan.observed_target is not None else running
        if target is not None and shown is not None and target > shown:
            return _UP, f"scaling up {change(shown, target)}"
        if seen.starting:
            return _UP, f"{plural(len(seen.starting), 'replica')} starting"
        if target is not None and shown is not None and target < shown:
            return _DOWN, f"draining {change(shown, target)}"
        if seen.draining:
            return _DOWN, f"{plural(seen.draining, 'replica')} draining"
        if running == 0 and target == 0:
            return _CALM, "asleep"
        return _CALM, "calm"

    # ------------------------------------------------------------ one deployment

    def detail(self, key: DeploymentKey) -> Detail:
        """Sentence, numbers, charts and reasons of one deployment."""
        plan, seen, settings = self._plans[key], self._observations.get(key), self._settings_of(key)
        state, doing = self.state(key)
        times, forecast = self._times(key), self._forecast(key)
        lead_s = times.new_node.quantile(0.9) if times else None
        points = list(self._telemetry.history.points(key))
        axis = axis_of(self.now_s, lead_s, points)
        points = [point for point in points if point.now_s >= axis.from_s]
        starting = seen.starting if seen else ()
        each_rps = self._plan.capacities_rps.get(key) if self._plan else None
        allowed = None if settings is None else 1.0 - settings.slo.target_fraction
        then = None if lead_s is None else clock(self.now_s + lead_s, seconds=True)
        profile = (
            settings.profile.name if settings is not None and settings.profile is not None else "no engine profile"
        )
        learning = "shaded: what was forecast one lead time earlier"
        if forecast is not None and not forecast.calibrated:
            learning = f"no fan: {forecast.why}"
        elif forecast is None:
            learning = "no fan: there is no forecast of it"
        return Detail(
            key=str(key),
            what=profile,
            state=state,
            doing=doing,
            sentence=self._sentence(key, lead_s),
            stats=self._stats(key, lead_s),
            now=clock(self.now_s, seconds=True),
            then=then,
            now_at=axis.per_cent(self.now_s),
            then_at=None if lead_s is None else axis.per_cent(self.now_s + lead_s),
            charts=charts(points, axis, forecast, each_rps, starting, allowed),
            ticks=ticks(axis),
            table=tuple((clock(row.at_s, seconds=True), row) for row in table(points, axis)),
            why=tuple((question, blank(answer)) for question, answer in self._why(plan, lead_s)),
            caption=blank(learning),
        )

    def _sentence(self, key: DeploymentKey, lead_s: float | None) -> Markup:
        """What comes, what is done, when it arrives."""
        plan, seen = self._plans[key], self._observations.get(key)
        running = seen.running if seen else None
        each_rps = self._plan.capacities_rps.get(key) if self._plan else None
        expected = self._expected(key, lead_s)
        if seen is None or not seen.fresh:
            why = seen.why_stale if seen and seen.why_stale else "nothing is known of it"
            held = plan.target if plan.target is not None else plan.observed_target
            stays = (
                Markup(" It stays at <b>{}</b>.").format(plural(held, "replica")) if held is not None else Markup("")
            )
            return Markup("<b>What comes is unknown</b>: {}.").format(blank(why)) + stays
        comes = Markup("Traffic is <b>{}</b>.").format(rate(seen.rate_rps))
        if expected is not None and lead_s is not None:
            comes = Markup("Traffic is expected to reach at most <b>{} by {}</b>.").format(
                rate(expected), clock(self.now_s + lead_s)
            )
        shown = plan.observed_target if plan.observed_target is not None else running
        if plan.target is None:
            why = "; ".join(g.why for g in plan.guards) or "nothing to decide"
            return comes + Markup(" Left alone: {}.").format(blank(why))
        if shown is not None and plan.target != shown:
            verb = "Going" if not self._telemetry.config.dry_run else "Would go"
            act = Markup(" {} from <b>{} to {} now</b>").format(verb, shown, plural(plan.target, "replica"))
        else:
            act = Markup(" <b>{}</b> stay{}").format(plural(plan.target, "replica"), "s" if plan.target == 1 else "")
        starting = seen.starting
        if starting:
            last_s = max(one.expected_ready_at_s for one in starting)
            return comes + act + Markup(": {} starting, ready by {}.").format(len(starting), clock(last_s))
        if each_rps is not None and running:
            return comes + act + Markup(": {} carry {}.").format(plural(running, "replica"), rate(each_rps * running))
        return comes + act + Markup(".")

    def _stats(self, key: DeploymentKey, lead_s: float | None) -> tuple[Stat, ...]:
        seen, settings = self._observations.get(key), self._settings_of(key)
        each_rps = self._plan.capacities_rps.get(key) if self._plan else None
        expected = self._expected(key, lead_s)
        mix = seen.mix if seen else None
        tokens = "tokens of a request unknown"
        if mix is not None:
            tokens = f"{number(mix.prompt_tokens)} in, {number(mix.output_tokens)} out tokens (mean)"
        needs = "no forecast to be trusted yet"
        if expected is not None:
            needs = f"a replica carries {number(each_rps)} req/s"
            if each_rps:
                needs = (
                    f"needs {plural(math.ceil(expected / each_rps - 1e-9), 'replica')} at {number(each_rps)} req/s each"
                )
        times = self._times(key)
        paths = "unknown"
        if times is not None:
            on_free_gpu, on_warm_node = times.free_gpu.quantile(0.9), times.warm_node.quantile(0.9)
            paths = f"free GPU {duration(on_free_gpu)}, warm node {duration(on_warm_node)}"
        attained = seen.attained_fraction if seen else None
        left = _budget_left(attained, settings)
        promised = "" if settings is None else f"of {percent(settings.slo.target_fraction, 1)}"
        return (
            Stat("Traffic now", number(seen.rate_rps if seen else None), "req/s", tokens),
            Stat("Coming in a lead time", NONE if expected is None else number(expected), "req/s p99", needs),
            Stat("Lead time, new node, p90", *_split(duration(lead_s)), paths),
            Stat(
                f"SLO, last {ATTAINMENT_WINDOW_S / 60.0:.0f} min", NONE if attained is None else percent(attained, 2),
                promised, "no requests lately" if left is None else f"error budget left {percent(left)}",
            ),
        )  # fmt: skip

    def _why(self, plan: DeploymentPlan, lead_s: float | None) -> tuple[tuple[str, str], ...]:
        """Why this number, why not one fewer, why not more."""
        target = plan.target
        if target is None:
            return (("Why is it left alone?", "; ".join(g.why for g in plan.guards) or "nothing is known of it"),)
        changed = [g for g in plan.guards if g.before != g.after and g.before is not None and g.after is not None]
        kept = [g for g in changed if g.after is not None and g.before is not None and g.after > g.before]
        cut = [g for g in changed if g.after is not None and g.before is not None and g.after < g.before]
        first = plan.terms[0].why if plan.terms else "the policy gave no reason"
        said = [(f"Why {target}?", changed[-1].why if changed else first)]
        each_rps = self._plan.capacities_rps.get(plan.key) if self._plan else None
        expected = self._expected(plan.key, lead_s)
        if target > 0:
            fewer = target - plan.gang_size
            least = next((t for t in plan.terms if t.name == "min_replicas"), None)
            if kept:
                why = kept[-1].why
            elif least is not None and least.wants >= target:
                why = least.why
            elif each_rps and expected is not None and fewer * each_rps < expected:
                carry = f"{plural(max(fewer, 0), 'replica')} carry {rate(max(fewer, 0) * each_rps)}"
                why = f"{carry}; up to {rate(expected)} are expected within a lead time (p99)"
            else:
                why = first
            said.append((f"Why not {max(fewer, 0)}?", why))
        if cut:
            why = cut[-1].why
        elif each_rps and expected is not None and target * each_rps >= expected:
            carry = f"{plural(target, 'replica')} carry {rate(target * each_rps)}"
            why = f"{carry}, and no more than {rate(expected)} are expected"
        else:
            wants = [t for t in plan.terms if t.wants > target]
            why = wants[0].why if wants else "nothing that is known asks for more"
        said.append(("Why not more?", why))
        if plan.blocked:
            said.append(("Why is it not carried out?", plan.blocked))
        return tuple(said)

    # ------------------------------------------------------------ beside them

    def pools(self) -> tuple[Box, ...]:
        """Nodes, what they cost, what was refused."""
        telemetry = self._telemetry
        plans = {p.name: p for p in self._plan.pools} if self._plan else {}
        settings = {p.name: p for p in telemetry.config.pools}
        boxes = []
        for pool in telemetry.signals.pools if telemetry.signals else ():
            known, plan = settings.get(pool.name), plans.get(pool.name)
            most = known.max_nodes if known else None
            cost = nodes_usd_per_hour(known, pool.nodes) if known else None
            boxes.append(_box(pool, plan.nodes if plan else None, most, cost, is_refused(pool, self.now_s)))
        return tuple(boxes)

    def events(self) -> tuple[Event, ...]:
        """Announced demand that has not ended, the next first."""
        hints = self._telemetry.signals.hints if self._telemetry.signals else ()
        coming = heapq.nsmallest(_EVENTS_SHOWN, (h for h in hints if h.end_at_s > self.now_s),
                                 key=lambda h: (h.start_at_s, h.id))  # fmt: skip
        found = []
        for hint in coming:
            times = self._times(hint.key)
            what = f"{number(hint.multiplier)} times what is usual" if hint.rps is None else rate(hint.rps)
            ask = Markup("")
            if times is not None and hint.start_at_s - times.new_node.quantile(0.9) > self.now_s:
                ask = Markup("Replicas will be asked for by {}.").format(
                    clock(hint.start_at_s - times.new_node.quantile(0.9))
                )
            words = Markup("until {}. {} {}").format(clock(hint.end_at_s), ask, blank(hint.asked_by))
            found.append(Event(clock(hint.start_at_s), str(hint.key), what, words))
        return tuple(found)

    def decisions(self) -> tuple[Entry, ...]:
        """The newest that changed something."""
        kept = self._telemetry.decisions
        newest = heapq.nlargest(
            _DECISIONS_SHOWN,
            (one for of_key in kept.values() for one in _last(of_key)),
            key=lambda one: (one.now_s, one.plan.key),
        )
        return tuple(_entry(one) for one in newest)

    # ------------------------------------------------------------ what they are made of

    def _settings_of(self, key: DeploymentKey) -> DeploymentSettings | None:
        if key not in self._settings:
            self._settings[key] = self._telemetry.settings_for(key)
        return self._settings[key]

    def _forecast(self, key: DeploymentKey) -> Forecast | None:
        return self._plan.forecasts.get(key) if self._plan else None

    def _times(self, key: DeploymentKey) -> LeadTimes | None:
        return self._plan.lead_times.get(key) if self._plan else None

    def _rate(self, key: DeploymentKey) -> float | None:
        seen = self._observations.get(key)
        return seen.rate_rps if seen else None

    def _expected(self, key: DeploymentKey, lead_s: float | None) -> float | None:
        """The largest rate within a lead time, with a chance of 99 %; None where no forecast is to be trusted."""
        forecast = self._forecast(key)
        if forecast is None or lead_s is None or not forecast.calibrated or not forecast.values_rps:
            return None
        return forecast.quantile(lead_s, 0.99)


def _budget_left(attained: float | None, settings: DeploymentSettings | None) -> float | None:
    if attained is None or settings is None or settings.slo.target_fraction >= 1.0:
        return None
    return min(1.0, max(0.0, 1.0 - (1.0 - attained) / (1.0 - settings.slo.target_fraction)))


def _box(pool: PoolSignals, wanted: int | None, most: int | None, cost: float | None, refused: bool) -> Box:
    counts = nodes_by_state(pool)
    missing = max(0, (wanted or 0) - len(pool.nodes)) if refused else 0
    total = max(most or 0, len(pool.nodes) + missing, 1)
    cells = [(kind, 100.0 * count / total) for kind, count in (*counts.items(), ("refused", missing)) if count]
    shown = {"busy": "busy", "prewarmed": "pre-warmed", "arriving": "arriving"}
    words = ", ".join(f"{counts[kind]} {name}" for kind, name in shown.items() if counts[kind]) or "no nodes"
    size = f"{len(pool.nodes)} of {most} nodes" if most is not None else plural(len(pool.nodes), "node")
    price = "" if cost is None else f", {dollars(cost)}/h"
    why = ""
    if refused:
        newest = pool.refusals[-1] if pool.refusals else None
        why = f"{newest.kind}: {newest.words}" if newest else "the last request for a node was refused"
    return Box(pool.name, size + price, tuple(cells), words, blank(why))


def _last(kept: Sequence[Decision]) -> Iterator[Decision]:
    for i in range(1, min(len(kept), _OF_EACH) + 1):
        yield kept[-i]


def _entry(decision: Decision) -> Entry:
    plan, applied = decision.plan, decision.applied
    tags = list(dict.fromkeys(g.name.replace("_", " ") for g in plan.guards if g.before != g.after))[:3]
    if applied is not None and applied.outcome not in ("ok", "published", "unchanged"):
        tags.append(applied.outcome.replace("_", " "))
    why = plan.sentence.partition(": ")[2] or plan.sentence
    changed = change(plan.observed_target, plan.target)
    return Entry(clock(decision.now_s, seconds=True), str(plan.key), changed, blank(why), tuple(tags))


def _split(text: str) -> tuple[str, str]:
    value, _, unit = text.partition(" ")
    return value, unit


def _of(count: int, total: int) -> str:
    if total == 1:
        return "1 deployment is"
    return f"{count:,} of {total:,} deployments {'is' if count == 1 else 'are'}"


def _spaced(reason: str) -> str:
    """`ScaleNotDone` -> `Scale not done`."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in reason).strip()
    return words[:1].upper() + words[1:]
