"""The decision, top to bottom: observe → demand → forecast → propose → share budget → guard → explain.

`Controller.step` is pure but for `self.state`, which it owns: no I/O, no clock, no randomness of its own. The runtime
and the simulator call the same method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from autoscaler import demand, explain, guard, supply
from autoscaler.controller_state import ControllerState, DeploymentMemory
from autoscaler.model import (
    ControllerConfig,
    DeploymentPlan,
    DeploymentSettings,
    DeploymentSignals,
    GuardRecord,
    Observation,
    Plan,
    PoolPlan,
    PoolSignals,
    Signals,
)
from autoscaler.sharing import Claim, share
from policies.base import (
    DeploymentKey,
    DeploymentView,
    FleetProposal,
    FleetView,
    Forecast,
    LeadPath,
    LeadTimes,
    Policy,
    ReplicaProposal,
    Slo,
    Term,
    TokenMix,
)
from policies.engines import capacity
from policies.forecasting import Forecaster, create
from policies.registry import create_policy

_LEARNED_SHARE_OF_SLOTS = 0.7
"""Without a profile a replica carries this share of its max_ongoing_requests."""
_UNBOUNDED_SLOTS = 100_000
_ASSUMED_SLOTS = 64
"""serve.llm sets max_ongoing_requests to 1e9: then this many requests in flight count as full."""


@dataclass(slots=True)
class _Deployment:
    """Everything of one deployment on its way through one step."""

    key: DeploymentKey
    settings: DeploymentSettings | None
    signals: DeploymentSignals
    memory: DeploymentMemory
    observation: Observation
    times: LeadTimes
    path: LeadPath
    gpus: int
    capacity_rps: float | None
    capacity_batch: float | None
    forecast: Forecast | None
    current: int | None
    notes: list[GuardRecord]

    @property
    def max_ongoing(self) -> int | None:
        return self.signals.inventory.max_ongoing_requests if self.signals.inventory else None


class Controller:
    """Owns its state; one instance decides for every deployment and pool that its signals hold."""

    def __init__(
        self, config: ControllerConfig, state: ControllerState | None = None, policy: Policy | None = None
    ) -> None:
        self.config = config
        self.policy: Policy = policy or create_policy(config.policy_name, config.policy_options)
        self.state = state or ControllerState()
        self._adopt(self.state)

    def _adopt(self, state: ControllerState) -> None:
        """Bring plain data from a saved state to life; a state of another policy keeps all but that policy's memory."""
        fresh = self.policy.new_state()
        if state.policy_name != self.policy.name or state.policy_state is None:
            state.policy_state = fresh
        elif not isinstance(state.policy_state, type(fresh)):
            state.policy_state = msgspec.convert(state.policy_state, type(fresh))
        state.policy_name = self.policy.name
        for key, saved in list(state.forecasters.items()):
            if hasattr(saved, "observe"):
                continue
            if self.policy.forecast is None:
                del state.forecasters[key]
                continue
            forecaster = create(self.policy.forecast)
            forecaster.restore(msgspec.convert(saved, type(forecaster.state())))
            state.forecasters[key] = forecaster

    def seed_history(self, key: DeploymentKey, times_s: Sequence[float], rates_rps: Sequence[float]) -> None:
        """Show the forecaster what happened before the first tick: ends of bins (ascending) and their mean rates."""
        forecaster = self._forecaster(key)
        if forecaster is not None:
            forecaster.observe_many(times_s, rates_rps)

    def step(self, signals: Signals, now_s: float) -> Plan:
        """Decide for this moment. `signals` is everything that is known; `now_s` must not go back."""
        self.state.tick += 1
        pools = {p.name: p for p in signals.pools}
        learned = [word for pool in signals.pools for word in supply.learn_nodes(self.state, pool, now_s)]
        fleet = [self._observe(d, pools, now_s, learned) for d in sorted(signals.deployments, key=lambda d: d.key)]
        view = self._view(fleet, pools, now_s)
        proposal = self._propose(view, fleet, now_s)
        granted, budget_records = self._share(fleet, proposal)
        plans = [self._plan(d, proposal, granted, budget_records, signals, now_s) for d in fleet]
        return Plan(
            tick=self.state.tick,
            now_s=now_s,
            leader=signals.leader,
            dry_run=self.config.dry_run,
            deployments=tuple(self._follow(plans)),
            pools=self._pool_plans(view, proposal),
            observations=tuple(d.observation for d in fleet),
            forecasts={d.key: d.forecast for d in fleet if d.forecast is not None},
            capacities_rps={d.key: d.capacity_rps for d in fleet},
            lead_times={d.key: d.times for d in fleet},
            learned=tuple(learned),
            coverages=self._coverages(fleet),
        )

    def _coverages(self, fleet: Sequence[_Deployment]) -> dict[DeploymentKey, tuple[tuple[float, float], ...]]:
        """Of those forecasters that keep a record of themselves."""
        records = {d.key: getattr(self.state.forecasters.get(d.key.full), "coverage", ()) for d in fleet}
        return {key: tuple(record) for key, record in records.items() if record}

    # ------------------------------------------------------------ observe, demand, forecast

    def _observe(
        self, signals: DeploymentSignals, pools: Mapping[str, PoolSignals], now_s: float, learned: list[str]
    ) -> _Deployment:
        key, inventory = signals.key, signals.inventory
        settings = self.config.settings_for(key)
        memory = self.state.memory(key.full)
        bin_s = self.policy.forecast.bin_s if self.policy.forecast else 10.0
        if signals.metrics is not None:
            slo = settings.slo if settings else Slo()
            window_s = max(3 * bin_s, 3 * self.config.tick_s, 6.0)
            closed = demand.take_in(memory.demand, signals.metrics, slo, window_s, bin_s)
            forecaster = self._forecaster(key) if closed else None
            if forecaster is not None:
                for end_s, rate_rps in closed:
                    forecaster.observe(end_s, rate_rps)
        observation = demand.observe(memory.demand, signals, self.config.guards, now_s)
        pool_name = supply.first_pool(settings, pools)
        gpus = supply.gpus_per_replica(settings, inventory)
        path = supply.next_path(pools.get(pool_name) if pool_name else None, gpus)
        times = supply.lead_times_of(self.config, settings, pool_name, self.state.book, key)
        if inventory is not None and inventory.as_of_s <= now_s:
            for done_path, seconds in supply.take_in_replicas(memory.supply, inventory, times, path, now_s):
                learned.append(supply.learn_replica(self.state.book, key, done_path, seconds, now_s))
        observation = supply.with_supply(observation, inventory, supply.starts_under_way(memory.supply, times, now_s))
        nothing = (None, None, None, None)
        found = _Deployment(key, settings, signals, memory, observation, times, path, gpus, *nothing, notes=[])
        found.capacity_rps, found.capacity_batch = self._capacity(found)
        found.forecast = self._forecast(found, now_s)
        found.current = self._current(found)
        return found

    def _forecaster(self, key: DeploymentKey) -> Forecaster | None:
        if self.policy.forecast is None:
            return None
        found = self.state.forecasters.get(key.full)
        if found is None:
            found = self.state.forecasters[key.full] = create(self.policy.forecast)
        return found

    def _capacity(self, d: _Deployment) -> tuple[float | None, float | None]:
        """Requests/s, and in flight at that rate: from the profile at today's mix; else requests/s as learned from
        requests in flight per replica (Little's law).
        """
        mix = d.observation.mix
        if d.settings is not None and d.settings.profile is not None and mix is not None:
            found = capacity(d.settings.profile, _rounded(mix), d.settings.slo)
            return (found.rps, found.batch) if found.rps else (None, None)
        rate, ongoing = d.observation.rate_rps, d.observation.ongoing
        memory = d.memory.supply
        if rate and ongoing and d.max_ongoing and d.observation.running:
            slots = d.max_ongoing if d.max_ongoing < _UNBOUNDED_SLOTS else _ASSUMED_SLOTS
            latency_s = ongoing / rate
            now_rps = _LEARNED_SHARE_OF_SLOTS * slots / latency_s
            before = memory.learned_capacity_rps
            memory.learned_capacity_rps = now_rps if before is None else 0.9 * before + 0.1 * now_rps
        return memory.learned_capacity_rps, None

    def _forecast(self, d: _Deployment, now_s: float) -> Forecast | None:
        spec = self.policy.forecast
        if spec is None or d.settings is None:
            return None
        forecaster = self._forecaster(d.key)
        if forecaster is None or forecaster.last_time_s is None:
            return None
        farthest_s = d.times.new_node.quantile(0.95) + 2 * d.times.new_node.median_s + self.config.tick_s
        horizons = _ladder(spec.bin_s, farthest_s)
        return Forecast(
            spec.forecaster,
            now_s,
            horizons,
            spec.levels,
            forecaster.quantiles(horizons, spec.levels),
            forecaster.calibrated,
            forecaster.why,
        )

    def _current(self, d: _Deployment) -> int | None:
        """The level in force. What Serve shows counts, unless it lost ours (a redeploy) or has not seen it yet."""
        inventory, memory = d.signals.inventory, d.memory.supply
        if inventory is None:
            return None
        ours, shown = memory.last_target, inventory.target
        before, memory.last_observed_target = memory.last_observed_target, shown
        if self.config.dry_run or ours is None or shown in (ours, before):
            return shown
        if shown == inventory.configured_replicas:
            why = f"Serve's target went back to the configured {shown} (redeployed); ours is {ours}"
            d.notes.append(GuardRecord(guard.TARGET_RESET, d.key, shown, ours, why))
            return ours
        why = f"somebody set the target to {shown}; adopted as the level in force (ours was {ours})"
        d.notes.append(GuardRecord(guard.MANUAL, d.key, ours, shown, why))
        return shown

    # ------------------------------------------------------------ propose

    def _view(self, fleet: Sequence[_Deployment], pools: Mapping[str, PoolSignals], now_s: float) -> FleetView:
        return FleetView(
            now_s=now_s,
            period_s=self.policy.period_s or self.config.tick_s,
            deployments=tuple(_deployment_view(d, self.config.tick_s) for d in fleet if d.settings is not None),
            pools=tuple(supply.pool_view(p, pools.get(p.name), self.state.book, now_s) for p in self.config.pools),
            gpu_budget=self.config.gpu_budget,
        )

    def _propose(self, view: FleetView, fleet: Sequence[_Deployment], now_s: float) -> FleetProposal:
        """The policy's word, or its last one while its own period is not over."""
        period_s, last_s = self.policy.period_s, self.state.decided_at_s
        if period_s is not None and last_s is not None and now_s - last_s < period_s - 1e-9:
            return _last_word(fleet)
        self.state.decided_at_s = now_s
        proposal = self.policy.propose(view, self.state.policy_state, now_s)
        for d in fleet:
            own = proposal.replicas.get(d.key)
            d.memory.supply.last_proposed = own.replicas if own else d.memory.supply.last_proposed
        return proposal

    # ------------------------------------------------------------ share, guard, explain

    def _share(
        self, fleet: Sequence[_Deployment], proposal: FleetProposal
    ) -> tuple[dict[DeploymentKey, int], dict[DeploymentKey, GuardRecord]]:
        """Wants cut to the GPU budget of each kind; deployments of a kind without a budget keep what they want."""
        granted: dict[DeploymentKey, int] = {}
        records: dict[DeploymentKey, GuardRecord] = {}
        for kind, budget in self.config.gpu_budget.items():
            claims = []
            by_name = {}
            for d in fleet:
                own = proposal.replicas.get(d.key)
                if own is None or d.settings is None or self._gpu_kind(d.settings) != kind:
                    continue
                wants = max(d.settings.min_replicas, min(own.replicas, d.settings.max_replicas))
                s = d.settings
                claims.append(Claim(d.key.full, wants, d.gpus, s.min_replicas, s.guaranteed_gpus, s.priority, s.weight))
                by_name[d.key.full] = d.key
            for name, replicas in share(claims, budget).items():
                key = by_name[name]
                granted[key] = replicas
                wanted = next(c.wants for c in claims if c.name == name)
                if replicas < wanted:
                    why = f"the budget of {budget} {kind} GPUs is shared: {replicas} of {wanted} replicas fit"
                    records[key] = GuardRecord(guard.BUDGET, key, wanted, replicas, why)
        return granted, records

    def _gpu_kind(self, settings: DeploymentSettings) -> str:
        if settings.profile is not None:
            return settings.profile.gpu
        pool = next((p for p in self.config.pools if p.name in settings.node_pools), None)
        return pool.gpu if pool else ""

    def _plan(
        self,
        d: _Deployment,
        proposal: FleetProposal,
        granted: Mapping[DeploymentKey, int],
        budget: Mapping[DeploymentKey, GuardRecord],
        signals: Signals,
        now_s: float,
    ) -> DeploymentPlan:
        own = proposal.replicas.get(d.key)
        shown = d.signals.inventory.target if d.signals.inventory else None
        proposed = own.replicas if own else None
        left_alone = self._left_alone(d, signals, own)
        if left_alone is not None or d.current is None or own is None or d.settings is None:
            because = (left_alone,) if left_alone else ()
            terms = own.terms if own else ()
            text = explain.sentence(d.current, None, terms, because)
            return DeploymentPlan(d.key, None, shown, proposed, terms, because, None, d.key.service, text)
        wanted = min(own.replicas, granted.get(d.key, own.replicas))
        number, records = guard.guard(self._guard_context(d, d.settings, d.current, now_s), wanted)
        capped = (budget[d.key],) if d.key in budget else ()
        records = (*d.notes, *capped, *records)
        memory = d.memory.supply
        if shown is not None and number > shown:
            memory.raised_at_s = now_s
        memory.last_target = number
        blocked = _blocked(d)
        text = explain.sentence(d.current, number, own.terms, records, blocked, self.config.dry_run)
        return DeploymentPlan(d.key, number, shown, proposed, own.terms, records, blocked, d.key.service, text)

    def _left_alone(self, d: _Deployment, signals: Signals, own: ReplicaProposal | None) -> GuardRecord | None:
        shown = d.signals.inventory.target if d.signals.inventory else None
        proposed = own.replicas if own else None
        if d.settings is None:
            return GuardRecord(guard.OBSERVED_ONLY, d.key, proposed, None, "no deployments[].match covers it")
        if signals.pause.covers(d.key):
            return GuardRecord(guard.PAUSED, d.key, proposed, None, "paused by a person")
        if shown is None:
            return GuardRecord(guard.UNKNOWN, d.key, proposed, None, d.observation.why_stale or "its state is unknown")
        return None

    def _guard_context(
        self, d: _Deployment, settings: DeploymentSettings, current: int, now_s: float
    ) -> guard.GuardContext:
        return guard.GuardContext(
            key=d.key,
            observation=d.observation,
            memory=d.memory.supply,
            settings=self.config.guards,
            now_s=now_s,
            current=current,
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            capacity_rps=d.capacity_rps,
            max_ongoing_requests=d.max_ongoing,
            full=self.policy.guards == "full",
        )

    def _follow(self, plans: Sequence[DeploymentPlan]) -> list[DeploymentPlan]:
        """CPU-only deployments keep in proportion to the one they follow, and never go to 0."""
        targets = {p.key: p.target for p in plans}
        result = []
        for plan in plans:
            settings = self.config.settings_for(plan.key)
            if settings is None or settings.follows is None or plan.observed_target is None:
                result.append(plan)
                continue
            follows = settings.follows
            leader = next((t for k, t in targets.items() if k.matches(follows.deployment)), None)
            if leader is None:
                result.append(replace(plan, target=None, sentence=f"follows {follows.deployment}, which is unknown"))
                continue
            wanted = max(1, follows.min_replicas, math.ceil(follows.ratio * leader - 1e-9))
            term = Term("follows", wanted, f"{follows.ratio:g} x {leader} replicas of {follows.deployment}")
            text = explain.sentence(plan.observed_target, wanted, (term,), (), plan.blocked, self.config.dry_run)
            result.append(replace(plan, target=wanted, proposed=wanted, terms=(term,), guards=(), sentence=text))
        return result

    def _pool_plans(self, view: FleetView, proposal: FleetProposal) -> tuple[PoolPlan, ...]:
        plans = []
        for pool in view.pools:
            own = proposal.pools.get(pool.name)
            nodes = own.nodes if own else self.state.pool_nodes.get(pool.name)
            if nodes is not None:
                nodes = max(pool.min_nodes, nodes if pool.max_nodes is None else min(nodes, pool.max_nodes))
                self.state.pool_nodes[pool.name] = nodes
            seen = None
            if pool.nodes_ready is not None:
                seen = pool.nodes_ready + (pool.nodes_starting or 0)
            plans.append(PoolPlan(pool.name, nodes, seen, own.terms if own else ()))
        return tuple(plans)


def _deployment_view(d: _Deployment, tick_s: float) -> DeploymentView:
    assert d.settings is not None
    s, o, metrics = d.settings, d.observation, d.signals.metrics
    return DeploymentView(
        key=d.key,
        rate_rps=o.rate_rps,
        mix=o.mix,
        waiting=o.waiting,
        ongoing=o.ongoing,
        kv_usage_fraction=o.kv_usage_fraction,
        metrics_as_of_s=o.metrics_as_of_s,
        replica_metrics=metrics.replicas if metrics else (),
        handle_reports=metrics.handle_reports if metrics else (),
        forecast=d.forecast,
        attained_fraction=o.attained_fraction,
        totals=d.memory.demand.totals if d.memory.demand.as_of_s is not None else None,
        target=d.current,
        running=o.running,
        starting=o.starting,
        draining=o.draining,
        capacity_rps=d.capacity_rps,
        capacity_batch=d.capacity_batch,
        profile=s.profile,
        max_ongoing_requests=d.max_ongoing,
        lead_times=d.times,
        next_path=d.path,
        slo=s.slo,
        min_replicas=s.min_replicas,
        max_replicas=s.max_replicas,
        weight=s.weight,
        priority=s.priority,
        guaranteed_gpus=s.guaranteed_gpus,
        gpus_per_replica=d.gpus,
        node_pools=s.node_pools,
    )


def _last_word(fleet: Sequence[_Deployment]) -> FleetProposal:
    words = {}
    for d in fleet:
        last = d.memory.supply.last_proposed
        if last is not None:
            words[d.key] = ReplicaProposal(last, (Term("period", last, "between two decisions"),))
    return FleetProposal(words)


def _blocked(d: _Deployment) -> str | None:
    inventory = d.signals.inventory
    if inventory is None:
        return None
    if inventory.autoscaled_by_serve:
        return (
            f"Serve's own autoscaler works on {d.key}: set `autoscaling_config: null` and `num_replicas: 1` for it in "
            "the Serve config (for serve.llm: `num_replicas` in LLMConfig.deployment_config)"
        )
    if inventory.external_scaler_enabled is False:
        return f"set `external_scaler_enabled: true` on application {d.key.app!r} in the Serve config"
    return None


def _ladder(bin_s: float, farthest_s: float) -> tuple[float, ...]:
    """Horizons that do not move with every learned second: the bin's width times powers of two, past the farthest."""
    horizons = [bin_s]
    while horizons[-1] < farthest_s:
        horizons.append(horizons[-1] * 2)
    return tuple(horizons)


def _rounded(mix: TokenMix) -> TokenMix:
    """Three digits: a mix that trembles should not make capacity tremble."""
    return TokenMix(*(float(f"{t:.3g}") for t in (mix.prompt_tokens, mix.output_tokens, mix.cached_prompt_tokens)))
