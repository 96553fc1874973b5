"""The work of the league in pieces that can be done anywhere and in any order: judge, tune, search a reference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoscaler.common.errors import ScenarioError
from policies.base import Policy
from policies.references.hindsight import HindsightOptions, HindsightPolicy
from policies.references.oracle import OracleLeadPolicy
from simulator.experiments.parallel.workers import InProcess
from simulator.experiments.references.completion import hindsight, oracle_lead
from simulator.experiments.references.known import known_world
from simulator.experiments.simulation import simulate
from simulator.experiments.tuning.trial import misses_of
from simulator.experiments.tuning.tuner import Plan, Tuner
from simulator.result import Result
from simulator.run import Choice, make_policy
from simulator.scenario.load import Scenario, load_scenario

Options = Mapping[str, Any]
_SHARES = (1.0, 0.8, 0.5)
"""Settings of a searched reference that meet the other seeds: the cheapest within these shares of what may miss."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A policy with options on the days that it was not tuned on."""

    scenario: str
    policy: str
    options: Options
    seed: int


@dataclass(frozen=True, slots=True)
class Tune:
    """A search on the training day."""

    scenario: str
    policy: str
    trials: int
    slice_s: float
    study: str


@dataclass(frozen=True, slots=True)
class Refer:
    """`oracle_lead` or `hindsight`: searched on the first seed, the best few judged on all; `also` is met as well."""

    scenario: str
    policy: str
    seeds: tuple[int, ...]
    trials: int
    also: tuple[Options, ...]


Piece = Judge | Tune | Refer


def play(piece: Piece) -> dict[str, Any]:
    """What came of a piece, as plain data, and the CPU seconds that it took."""
    began_s = time.process_time()
    found = _done(piece)
    return {**found, "cpu_s": round(time.process_time() - began_s, 2)}


def _done(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, Judge):
        scenario = load_scenario(piece.scenario, seed=piece.seed)
        try:
            return simulate(scenario, make_policy(scenario, Choice(piece.policy, piece.options))).document()
        except ScenarioError as error:
            if piece.policy == "static":
                return {"impossible": str(error)}  # everybody's own peak does not fit on a shared pool
            raise
    return _tune(piece) if isinstance(piece, Tune) else _refer(piece)


def _tune(piece: Tune) -> dict[str, Any]:
    plan = Plan((piece.scenario,), piece.policy, piece.trials, (f"policy.name={piece.policy}",), slice_s=piece.slice_s)
    Path(piece.study).parent.mkdir(parents=True, exist_ok=True)
    found = Tuner(plan, Path(piece.study)).run(InProcess())
    scores = [t.score for t in found.tried]
    return {
        "options": dict(found.best.params),
        "trials": len(scores),
        "cut_short": sum(s.stopped for s in scores),
        "cost_usd": found.best.score.cost_usd,
        "misses": found.best.score.misses,
    }


@dataclass(frozen=True, slots=True)
class _Seen:
    """A setting of a reference and what came of it on the first seed."""

    policy: Policy
    result: Result

    @property
    def misses(self) -> float:
        return misses_of(self.result)


def _refer(piece: Refer) -> dict[str, Any]:
    scenarios = [load_scenario(piece.scenario, seed=seed) for seed in piece.seeds]
    seen: list[_Seen] = []

    def run(policy: Policy) -> Result:
        result = simulate(scenarios[0], policy)
        seen.append(_Seen(policy, result))
        return result

    candidates: list[Policy]
    if piece.policy == "hindsight":
        also = [replace(HindsightOptions(), **options) for options in piece.also]
        hindsight(run, also=also, trials=piece.trials)
        candidates = [HindsightPolicy(options) for options in also]
    else:
        policy = make_policy(scenarios[0], Choice("oracle_lead"))
        assert isinstance(policy, OracleLeadPolicy)
        oracle_lead(known_world(scenarios[0]), policy.options, run, piece.trials)
        candidates = []
    for share in _SHARES:
        within = [s for s in seen if s.misses <= share] or [min(seen, key=lambda s: s.misses)]
        best = min(within, key=lambda s: s.result.cost_usd or 0.0).policy
        candidates += [best] if all(best.options != c.options for c in candidates) else []
    found = [[_known(seen, c) or simulate(scenarios[0], c), *_others(scenarios[1:], c)] for c in candidates]
    chosen = min(found, key=_rank)
    documents = [r.document() for r in chosen]
    return {"options": documents[0]["policy_options"], "documents": documents, "trials": len(seen)}


def _known(seen: Sequence[_Seen], policy: Policy) -> Result | None:
    return next((s.result for s in seen if s.policy.options == policy.options), None)


def _others(scenarios: Sequence[Scenario], policy: Policy) -> list[Result]:
    def on(scenario: Scenario) -> Result:
        fresh = type(policy)(policy.options)  # type: ignore[call-arg]
        return simulate(scenario, fresh)

    return [on(s) for s in scenarios]


def _rank(results: Sequence[Result]) -> tuple[bool, float, float]:
    """Over all seeds: reaches the target on average, then cheap; else misses least."""
    misses = sum(misses_of(r) for r in results) / len(results)
    cost = sum(r.cost_usd or 0.0 for r in results)
    return (False, cost, misses) if misses <= 1.0 else (True, misses, cost)
