"""Policies that a scenario has to complete: with the future for the references that may know it, or with the past.

`resolve` gives what can be run. Searches take a `run` callable, so that the league can hand in its own (another
machine's, a cached one); they simulate a plan, look at bill and attainment, and try the next. Deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from policies.base import Policy
from policies.base.knowledge import KnownWorld, PastDemand
from policies.references.hindsight import HindsightOptions, HindsightPolicy
from policies.references.oracle import OracleLeadOptions, OracleLeadPolicy, Steps
from simulator.experiments.references.constant import smallest_constant_fleet
from simulator.experiments.references.known import known_world, lacks_history, past_demand
from simulator.result import Result
from simulator.scenario.load import Scenario

Run = Callable[[Policy], Result]
"""One run of a policy on the scenario in question."""

LEAD_TRIALS = 14
_LEAST_DENSITY, _MOST_DENSITY = 0.35, 1.25
HINDSIGHT_TRIALS = 16
FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
"""Targets of the HPA, as shares of what a replica holds at capacity; a larger target is cheaper and misses more."""
WINDOWS_S = (60.0, 300.0, 900.0)
"""Scale-down stabilisation."""


@dataclass(slots=True)
class Search:
    """Trials so far, the best first by: reaches the target, then costs less (misses less where none reaches it)."""

    run: Run
    most: int
    best: Policy | None = None
    result: Result | None = None
    trials: int = 0

    @property
    def over(self) -> bool:
        return self.trials >= self.most

    def attempt(self, policy: Policy) -> Result:
        """One run; the best is remembered."""
        result = self.run(policy)
        self.trials += 1
        if self.result is None or _rank(result) < _rank(self.result):
            self.best, self.result = policy, result
        return result


def _rank(result: Result) -> tuple[bool, float, float]:
    """Smaller is better. Where no price is known, GPU hours are the bill."""
    bill = result.billed_gpu_s if result.cost_usd is None else result.cost_usd
    attained = result.attainment_fraction
    missed = 0.0 if attained is None else 1.0 - attained
    return (False, bill, missed) if result.reaches_target else (True, missed, bill)


@dataclass(slots=True)
class ScenarioKnowledge:
    """`policies.base.Knowledge` of one scenario; `result`: the run of what a search found, made on the way."""

    scenario: Scenario
    run: Run
    result: Result | None = None

    def past_demand(self, policy_name: str) -> Mapping[str, PastDemand]:
        return past_demand(self.scenario, policy_name)

    def known_world(self) -> KnownWorld:
        return known_world(self.scenario)

    def smallest_constant_fleet(self) -> Mapping[str, int]:
        return smallest_constant_fleet(self.scenario)

    def cheapest_plan(self, options: OracleLeadOptions) -> Policy:
        return self._found(oracle_lead(self.known_world(), options, self.run))

    def best_setting(self, options: HindsightOptions) -> Policy:
        return self._found(hindsight(self.run, options))

    def _found(self, search: Search) -> Policy:
        assert search.best is not None
        assert search.result is not None
        note = f"{search.best.name}: the best of {search.trials} simulations of this very traffic"
        self.result = replace(search.result, notes=(*search.result.notes, note))
        return search.best


def resolve(scenario: Scenario, policy: Policy, run: Run) -> tuple[Policy, Result | None]:
    """What can be run, and the run of it where a search has made it already. Errors: PolicyError."""
    knowledge = ScenarioKnowledge(scenario, run)
    return policy.prepare(knowledge), knowledge.result


def missing_past(scenario: Scenario, names: Sequence[str]) -> dict[str, str]:
    """Policies of a list that cannot run on a scenario as they are, and why: for callers that run all of them."""
    if not {"schedule", "static_mean"} & set(names) or not (missing := lacks_history(scenario)):
        return {}
    why = f"it is derived from history, and {missing[0]} has none in {scenario.source}"
    return {name: why for name in names if name in ("schedule", "static_mean")}


# ---------------------------------------------------------------- oracle_lead


@dataclass(slots=True)
class _Plans:
    """Plans by their settings; equal plans are run once."""

    world: KnownWorld
    base: OracleLeadOptions
    search: Search
    seen: list[tuple[dict[str, Steps], Result]] = field(default_factory=list)

    def attempt(self, densities: Mapping[str, float], lead_level: float, spend: float) -> Result:
        options = replace(self.base, density=dict(densities), lead_level=lead_level, spend_fraction=spend)
        policy = OracleLeadPolicy(options).with_workload(self.world)
        for plan, result in self.seen:
            if plan == policy.plan:
                return result
        result = self.search.attempt(policy)
        self.seen.append((policy.plan, result))
        return result


def oracle_lead(world: KnownWorld, base: OracleLeadOptions, run: Run, trials: int = LEAD_TRIALS) -> Search:
    """The cheapest achievable plan: densities first, then what is missed on purpose and how far ahead, then densities.

    Where no plan reaches the target: the one that misses least.
    """
    search = Search(run, trials)
    plans = _Plans(world, base, search)
    level, spend = base.lead_level, base.spend_fraction
    reach = {str(d.key): (_LEAST_DENSITY, _MOST_DENSITY) for d in world.deployments}
    reach = _narrowed(plans, reach, level, spend, rounds=5)
    densities = {key: low for key, (low, _) in reach.items()}
    plans.attempt(densities, level, spend)
    for other_spend in (1.0, 0.0):
        if not search.over and plans.attempt(densities, level, other_spend) is search.result:
            spend = other_spend
            break
    for other_level in (0.5, 0.9):
        if not search.over and plans.attempt(densities, other_level, spend) is search.result:
            level = other_level
            break
    wider = {key: (low, min(1.15 * high, _MOST_DENSITY)) for key, (low, high) in reach.items()}
    _narrowed(plans, wider, level, spend, rounds=3)
    return search


def _narrowed(
    plans: _Plans, reach: dict[str, tuple[float, float]], level: float, spend: float, rounds: int
) -> dict[str, tuple[float, float]]:
    """Bisect every deployment's density between one that reaches its target and one that does not, all at once."""
    for _ in range(rounds):
        if plans.search.over:
            break
        middles = {key: round((low * high) ** 0.5, 4) for key, (low, high) in reach.items()}
        result = plans.attempt(middles, level, spend)
        for d in result.deployments:
            low, high = reach[str(d.key)]
            reach[str(d.key)] = (middles[str(d.key)], high) if d.reaches_target else (low, middles[str(d.key)])
    return reach


# ---------------------------------------------------------------- hindsight


def hindsight(
    run: Run,
    base: HindsightOptions | None = None,
    also: Sequence[HindsightOptions] = (),
    trials: int = HINDSIGHT_TRIALS,
) -> Search:
    """The reactive rule's best setting for the traffic that `run` plays: for each window the highest target that
    reaches the SLO (by bisection), and `also` (settings that somebody found elsewhere); the cheapest of all.
    """
    base = base or HindsightOptions()
    search = Search(run, trials + len(also))
    for options in also:
        search.attempt(HindsightPolicy(options))
    for window_s in WINDOWS_S:
        low, high = -1, len(FRACTIONS)
        while high - low > 1 and not search.over:
            middle = (low + high) // 2
            options = replace(base, target_fraction=FRACTIONS[middle], scale_down_stabilization_s=window_s)
            if search.attempt(HindsightPolicy(options)).reaches_target:
                low = middle
            else:
                high = middle
    return search
