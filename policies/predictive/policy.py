"""`predictive`, the flagship: as many replicas now as demand will need when a replica asked for now would serve.

For each deployment several arguments (predictive/terms.py) each want a number, and the largest counts: the forecast's
quantile up to the lead time, today's load, the backlog, saturation, and what is worth keeping. The quantile starts near
the SLO's target and follows what is attained, slowly. Without a forecast to rely on it is a reactive rule with headroom
and says so. Unknown is never less. Limits of min, max, budget and steps are the guard's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from operator import attrgetter

from policies.base import (
    BacktestTrace,
    DeploymentKey,
    DeploymentView,
    FleetProposal,
    FleetView,
    ForecastSpec,
    ReplicaProposal,
    Term,
    whole_up,
)
from policies.base.durations import Duration
from policies.forecasting import check_spec
from policies.options import between, option
from policies.plugin import PolicyPlugin
from policies.predictive.context import FleetContext, SizingContext, Start, idle, quantum, start_s, stop_s, watch, way
from policies.predictive.pool_cost import cap_by_cost, marginal_cost
from policies.predictive.pools import Claim, pool_proposals
from policies.predictive.preemptions import taken_away, takes_away
from policies.predictive.rule_selection import SETTLES_S, followed_term, in_force, next_term, update
from policies.predictive.rules.sizing import Sizing
from policies.predictive.state import (
    DeploymentMemory,
    PredictiveState,
    RuleState,
    learn_level,
    remember_asked,
    remember_wanted,
)
from policies.predictive.terms import (
    Situation,
    backlog_term,
    expected_rps,
    forecast_term,
    hint_term,
    in_flight_term,
    keep_term,
    load_term,
    nobody_is_there,
    saturation_term,
    serving_term,
)

_WANTS = attrgetter("wants")
_LEAD_LEVEL = 0.9
"""Quantile of the lead time to plan with: with the median, every second start would be late."""
_UNKNOWN_LEAD = Duration(180.0, 0.5)
_SEASON_OVER_WAIT = 100.0
"""The present level is kept until history was replayed only if a season is this many times longer than that takes."""
_START_LEVEL_SHARE = 5.0
"""The quantile of a window's maximum starts at 1 - this * (1 - target): fewer requests miss than windows do."""


@dataclass(frozen=True, slots=True)
class PredictiveOptions:
    """Options in seconds, req/s and fractions. None needs tuning: the SLO says what is wanted."""

    quantile: float | None = option(
        None,
        low=0.5,
        high=0.999,
        doc="forecast level to start at; null = from the SLO",
        search=between(0.6, 0.995, start=0.95),
    )
    headroom_fraction: float = option(
        0.1, low=0, high=2, doc="margin on today's load, times the root of its replicas", search=between(0, 0.5)
    )
    reactive_headroom_fraction: float = option(0.3, low=0, high=5, doc="growth to expect when there is no forecast")
    drain_s: float = option(60.0, low=1, high=86400, doc="a backlog should be gone this long after replicas came")
    break_even_s: float | None = option(
        None,
        low=0,
        high=86400,
        doc="idle time a start costs; null = median lead time",
        search=between(0, 1800, start=300),
    )
    wake_rps: float = option(0.05, low=0, doc="a rate below this is taken for none (scale to zero)")
    forecaster: str = option("mixture", doc="by name")
    bin_s: float = option(30.0, low=0.1, high=3600, doc="width of the bins that the forecast sees")
    season_s: float = option(86400.0, low=10, high=31 * 86400, doc="after this long traffic repeats (a day)")
    follow: bool = option(True, doc="size by the cheapest of the rules replayed in shadow that meets the target")
    holidays: tuple[str, ...] = option((), doc="days (UTC, like 2026-12-25) on which traffic is that of a weekend")


class PredictivePolicy(PolicyPlugin):
    """See the module. Errors: PolicyError for an unknown forecaster or a season shorter than a bin."""

    Options = PredictiveOptions
    name = "predictive"
    options: PredictiveOptions

    def __init__(self, options: PredictiveOptions) -> None:
        super().__init__(options)
        spec = ForecastSpec(options.forecaster, options.bin_s, options.season_s, holidays=options.holidays)
        self.sizing = Sizing()
        if options.follow:
            spec = replace(spec, levels=self.sizing.family.levels)
        check_spec(spec)
        self.forecast = spec

    @property
    def wants_backtest(self) -> bool:
        """The policy's rules are simulated on history before the first decision."""
        return self.options.follow

    def new_state(self) -> PredictiveState:
        return PredictiveState()

    def propose(self, fleet: FleetView, state: PredictiveState, now_s: float) -> FleetProposal:
        """Replicas for every deployment whose present level is known, and nodes for the pools they prefer."""
        replicas: dict[DeploymentKey, ReplicaProposal] = {}
        claims: list[tuple[DeploymentView, Claim]] = []
        users = Counter(chain.from_iterable(set(d.node_pools) for d in fleet.deployments))
        risky = any(takes_away(pool) for pool in fleet.pools)
        fleet_context = FleetContext({pool.name: pool for pool in fleet.pools}, users, risky)
        rehearsing = 0
        seen = []
        for d in fleet.deployments:
            full_key = d.key.full
            memory = state.deployments.get(full_key)
            rehearsing += memory is not None and memory.shadow.diary is not None
            if d.target is None and d.running is None:
                continue
            if memory is None:
                memory = state.deployments[full_key] = DeploymentMemory()
            situation = self._situation(d, memory, now_s, fleet.period_s)
            seen.append((memory, self._context(situation, memory.shadow, fleet_context)))
        if self.options.follow:
            update(self.sizing, [context for _, context in seen], self.options.bin_s, rehearsing)
        for memory, context in seen:
            d = context.situation.view
            proposal = replicas[d.key] = self._propose(context, memory, fleet_context)
            asked = whole_up(proposal.replicas, d.gang_size)
            remember_asked(memory.shadow, now_s, min(max(asked, d.min_replicas), d.max_replicas))
            claims.append((d, self._claim(context.situation, proposal)))
        return FleetProposal(replicas, pool_proposals(fleet_context.pools, claims))

    def _situation(self, d: DeploymentView, memory: DeploymentMemory, now_s: float, period_s: float) -> Situation:
        o = self.options
        learn_level(memory, now_s, d.rate_rps, d.attained_fraction, d.slo.target_fraction, o.season_s)
        start = o.quantile if o.quantile is not None else 1.0 - _START_LEVEL_SHARE * (1.0 - d.slo.target_fraction)
        lead = _UNKNOWN_LEAD if d.lead_times is None else d.lead_times.path(d.next_path)
        horizon_s = lead.quantile(_LEAD_LEVEL) + period_s
        forecast, no_forecast = d.forecast, d.no_forecast or "no forecast yet"
        if forecast is not None and not (forecast.calibrated and forecast.values_rps):
            no_forecast, forecast = f"forecast not used: {forecast.why}", None
        return Situation(
            view=d,
            now_s=now_s,
            period_s=period_s,
            lead=lead,
            horizon_s=horizon_s,
            break_even_s=o.break_even_s,
            start_level=start,
            shift=memory.shift,
            headroom_fraction=o.headroom_fraction,
            reactive_headroom_fraction=o.reactive_headroom_fraction,
            drain_s=o.drain_s,
            wake_rps=o.wake_rps,
            replicas_per_rps=1.0 / d.capacity_rps if d.capacity_rps else None,
            forecast=forecast,
            no_forecast=no_forecast,
        )

    def warm_start(self, state: PredictiveState, key: DeploymentKey, trace: BacktestTrace) -> None:
        """Rules are simulated on this trace beside the next decisions, a part in each."""
        if self.options.follow:
            state.deployments.setdefault(key.full, DeploymentMemory()).shadow.diary = trace

    def forget(self, state: PredictiveState, full_key: str) -> None:
        """Drop the deployment's memory."""
        state.deployments.pop(full_key, None)

    def _propose(
        self, context: SizingContext, memory: DeploymentMemory, fleet_context: FleetContext
    ) -> ReplicaProposal:
        """The largest want; the terms come with the winner first."""
        s = context.situation
        followed = self._followed(context, fleet_context) if self.options.follow else None
        if followed is not None:
            others = [
                in_flight_term(s),
                backlog_term(s),
                saturation_term(s, memory),
                serving_term(s),
                _awake(s),
                _least(s),
            ]
            passed_over = [next_term(self.sizing, memory.shadow)]
            if fleet_context.risky:
                more, losses = taken_away(context, fleet_context, followed)
                others.insert(0, more)
                passed_over.append(losses)
            return _largest([followed, *others], s, passed_over)
        if self.options.follow and self._waits_for_history(s, memory.shadow):
            others = [hint_term(s), in_flight_term(s), backlog_term(s), saturation_term(s, memory), serving_term(s)]
            others += [_awake(s), _least(s)]
            return _largest([_rehearsing(s), *others], s, [])
        # A hint raises the forecast too: if both want the same, the hint is named as the reason.
        arguments = [hint_term(s), forecast_term(s), load_term(s), in_flight_term(s), backlog_term(s)]
        arguments += [saturation_term(s, memory), serving_term(s)]
        terms = [t for t in arguments if t is not None]
        terms.append(_least(s))
        wanted = max(t.wants for t in terms)
        kept = [keep_term(s, wanted), self._hold(s, memory, wanted), _unknown(s, terms)]
        terms += [t for t in kept if t is not None]
        return _ordered(terms)

    def _waits_for_history(self, s: Situation, book: RuleState) -> bool:
        """Whether history is about to be replayed and capacity is not known well yet: minutes of a long season.

        With many deployments at a time it takes longer; then the forecast decides meanwhile, as it does with a short
        season.
        """
        waited_s = 0.0 if book.begun_at_s is None else s.now_s - book.begun_at_s
        return book.diary is not None and waited_s < 2.0 * SETTLES_S <= self.options.season_s / _SEASON_OVER_WAIT

    def _context(self, s: Situation, book: RuleState, fleet_context: FleetContext) -> SizingContext:
        """The deployment's context; updates what is learned at every tick."""
        d = s.view
        if self.options.follow:
            watch(book, s, idle(d, fleet_context))
            if nobody_is_there(d):
                book.smooth = 0.0  # effective demand of the past fades and would never reach zero by itself
        taken = way(d, fleet_context)
        lead = _UNKNOWN_LEAD if d.lead_times is None else d.lead_times.path(taken)
        mean_s = start_s(book, lead.mean_s) if taken == "new_node" else lead.mean_s
        start = Start(_surely_s(s, lead), mean_s + s.period_s, quantum(d, fleet_context))
        return SizingContext(book, s, start)

    def _followed(self, context: SizingContext, fleet_context: FleetContext) -> Term | None:
        """What the followed rule wants; None while there is too little record to choose one."""
        book, s, bin_s = context.book, context.situation, self.options.bin_s
        if not in_force(self.sizing, book, bin_s):
            return None
        d, lead_s = s.view, context.start.lead_s
        followed = followed_term(self.sizing, book, s, lead_s)
        pool_cost = marginal_cost(d, fleet_context.pools, book, s.now_s)
        if followed is None or pool_cost is None:
            return followed
        start_bins = max(lead_s, stop_s(book)) / bin_s
        return cap_by_cost(self.sizing, book, followed, pool_cost, start_bins, bin_s, 1.0 - d.slo.target_fraction)

    def _hold(self, s: Situation, memory: DeploymentMemory, wanted: int) -> Term | None:
        """Without a forecast: what was wanted recently is kept for as long as a replica takes to pay off."""
        if s.forecast is not None:
            memory.wanted = []
            return None
        window_s = max(s.keep_s, self.options.season_s / 288.0)
        most = remember_wanted(memory, s.now_s, wanted, window_s)
        if most <= wanted:
            return None
        return Term("hold", most, f"{most} were wanted within the last {window_s:.0f} s ({s.no_forecast})")

    def _claim(self, s: Situation, proposal: ReplicaProposal) -> Claim:
        """The deployment's claim on its pool: the forecast at the lead time of a new node."""
        d = s.view
        now = max(min(whole_up(proposal.replicas, d.gang_size), d.max_replicas), s.supply)
        lead = _UNKNOWN_LEAD if d.lead_times is None else d.lead_times.new_node
        horizon_s = _surely_s(s, lead)
        soon = keep = now
        for term in proposal.terms:
            if term.name == "rule":  # the rule looks as far ahead as a node takes
                return Claim(d.gpus_per_replica, now, now, now, horizon_s)
        pays_s = lead.quantile(0.5) if s.break_even_s is None else s.break_even_s
        expected = [expected_rps(s, until_s) for until_s in (horizon_s, horizon_s + pays_s)]
        if s.forecast is not None or expected[1] is not None:
            needs = [s.need(rps or 0.0, 0.0) or 0 for rps in expected]
            soon, keep = (min(whole_up(n, d.gang_size), d.max_replicas) for n in needs)
        return Claim(d.gpus_per_replica, now, soon, keep, horizon_s)


def _surely_s(s: Situation, lead: Duration) -> float:
    """Time (s) until a replica asked for now almost surely serves, if this is its lead time."""
    return s.horizon_s if lead is s.lead else lead.quantile(_LEAD_LEVEL) + s.period_s


def _awake(s: Situation) -> Term | None:
    """One replica while a request may arrive before it could serve: at zero every request of a lead time would wait."""
    if s.view.min_replicas > 0:
        return None
    expected = forecast_term(s) or hint_term(s)
    return None if expected is None or expected.wants < 1 else Term("awake", 1, expected.why)


def _rehearsing(s: Situation) -> Term:
    """In the first minutes capacity is not known well enough to justify another number."""
    return Term("rehearsing", s.present, f"history is being rehearsed: the present {s.present} stay")


def _least(s: Situation) -> Term:
    return _least_term(s.view.min_replicas)


@lru_cache(maxsize=256)
def _least_term(replicas: int) -> Term:
    return Term("min_replicas", replicas, f"replicas.min is {replicas}")


def _largest(arguments: Sequence[Term | None], s: Situation, passed_over: Sequence[Term | None]) -> ReplicaProposal:
    """Terms: the largest want first, then the others, those that do not count last."""
    terms = [t for t in arguments if t is not None]
    if s.view.rate_rps is None:
        terms.append(Term("unknown", s.present, f"the rate is unknown: no fewer than the present {s.present}"))
    return _ordered(terms, *[t for t in passed_over if t is not None])


def _ordered(terms: Sequence[Term], *passed_over: Term) -> ReplicaProposal:
    """The first of the largest wants decides; terms that do not count come last."""
    ordered = sorted(terms, key=_WANTS, reverse=True)  # of equals the first stays first
    return ReplicaProposal(ordered[0].wants, (*ordered, *passed_over))


def _unknown(s: Situation, terms: list[Term]) -> Term | None:
    """Unknown data are no reason to want less."""
    names = {t.name for t in terms}
    if s.view.rate_rps is None:
        return Term("unknown", s.present, f"the rate is unknown: no fewer than the present {s.present}")
    if not names & {"load", "forecast"}:
        return Term("unknown", s.present, f"capacity is unknown: no fewer than the present {s.present}")
    return None
