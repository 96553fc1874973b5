"""Searches a policy's options on scenarios: many settings on the hours in which most happens, the best on all of it.

Objectives are the bill and the misses. Trials come in generations of a fixed size, so that what is tried does not
depend on how many are made at a time; a trial far off the target is cut short; the few that are best on the slice, and
the defaults, are judged on the whole scenarios (successive halving). What is chosen is the cheapest that stays within
`SAFETY` of the misses that the target allows, since tomorrow is not today.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from policies.base import Policy, PolicyError
from policies.options import Search, exact, search_space
from simulator.experiments.parallel.workers import Workers
from simulator.experiments.tuning.identity import of_files
from simulator.experiments.tuning.slice import busiest_slice
from simulator.experiments.tuning.study import Study, Tried, best_first, key_of
from simulator.experiments.tuning.trial import Attempt, Course, Score, evaluate
from simulator.run import Choice, make_policy
from simulator.scenario.load import Scenario, load_scenario
from simulator.scenario.overrides import refuse_lost_options

SAFETY = 0.7
"""Share of the allowed misses that a chosen setting may use up on the traffic that it was tuned on."""
SLICE_S = 6 * 3600.0
_WARMUP_S = 1800.0
_STOP_AT = 4.0
"""A trial is given up once it has missed this many times the misses that it may have in all."""
_GENERATION = 8
_FINAL_MISSES = (2.0, 1.0, 0.4, 0.1)
"""Finalists: the cheapest on the slice within each of these shares of the allowed misses."""
_ONE_OPTION_TRIALS = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What is searched, where, and how much of it. `slice_s` None: six hours of scenarios longer than twelve."""

    references: tuple[str, ...]
    policy: str
    trials: int = 40
    overrides: tuple[str, ...] = ()
    seed: int | None = None
    slice_s: float | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """Options judged on the whole scenarios; empty options are the defaults."""

    params: Mapping[str, Any]
    score: Score

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Smaller is better."""
        bill = self.score.bill
        if self.score.misses <= SAFETY and bill is not None:
            return (False, bill, self.score.misses)
        return (True, self.score.misses, math.inf if bill is None else bill)

    @property
    def words(self) -> str:
        """What it costs and misses."""
        return f"{_bill(self.score)}, {times(self.score.misses)}"


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found. `best.params` are the options to set, beside those that were `given` with the scenario;
    `defaults` is what the policy does without. Where nothing reached the target, `best` is what misses it least.
    """

    policy: str
    best: Final
    defaults: Final
    finals: tuple[Final, ...]
    tried: tuple[Tried, ...]
    command: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def short_of_target(self) -> str | None:
        """By how much the best falls short, as a sentence; None where it reaches the target."""
        if self.best.score.reaches_target:
            return None
        which = "the best, the defaults," if self.best is self.defaults else "the best"
        cut = sum(t.score.stopped for t in self.tried)
        return (
            f"no setting reached the target: {which} has {times(self.best.score.misses)} times the misses that it "
            f"allows ({cut} of {len(self.tried)} trials cut short)"
        )

    def block(self) -> dict[str, Any]:
        """The `policy:` block of a scenario or of the controller's settings."""
        return {"policy": {"name": self.policy, "options": {**self.given, **self.best.params}}}

    def yaml(self) -> str:
        """best.yaml, with what it was found by; the first line says so where it does not reach the target."""
        s = self.best.score
        notes = [] if self.short_of_target is None else [f"MISSES THE TARGET: {self.short_of_target}"]
        notes += [
            f"Found by: {self.command}" if self.command else "Found by leadtime tune",
            f"{len(self.tried)} settings tried; on the whole scenarios this one costs {_bill(s)} and "
            f"uses {times(s.misses)} of the misses that the target allows",
            "(these are the defaults)." if self.best is self.defaults else f"(the defaults: {self.defaults.words}).",
        ]
        return "".join(f"# {n}\n" for n in notes) + yaml.safe_dump(self.block(), sort_keys=False)


def times(misses: float) -> str:
    """Misses over the allowed ones: `0.412`, `8.13`, `1200`."""
    return f"{misses:.3g}" if misses < 1000 else f"{misses:.0f}"


def _bill(score: Score) -> str:
    """`84.81 USD`; without a price what was billed, in GPU hours."""
    if score.cost_usd is not None:
        return f"{exact(round(score.cost_usd, 2 if score.cost_usd >= 1 else 4))} USD"
    return "? USD" if score.gpu_hours is None else f"? USD ({score.gpu_hours:.3g} GPU hours; no price is known)"


def space_of(policy: Policy) -> dict[str, Search]:
    """What can be searched. Errors: PolicyError where nothing can."""
    if policy.clairvoyant:
        raise PolicyError(f"policy {policy.name}: it knows the traffic, so there is nothing to tune")
    kind = type(policy.options)
    space = search_space(kind) if is_dataclass(kind) else {}
    if not space:
        raise PolicyError(f"policy {policy.name}: no option of it says where to search (option(..., search=...))")
    return space


def trials_for(space: Mapping[str, Search], trials: int) -> int:
    """The same for all, and less where there is one thing to find."""
    return min(trials, _ONE_OPTION_TRIALS) if len(space) == 1 else trials


class Tuner:
    """A search that is checked and ready. Errors: ScenarioError, TraceError, PolicyError, LeadtimeError (the study)."""

    def __init__(self, plan: Plan, study_path: Path | None = None) -> None:
        self.plan = plan
        scenarios = [load_scenario(r, plan.overrides, plan.seed) for r in plan.references]
        for scenario in scenarios:
            refuse_lost_options(plan.overrides, scenario.file.policy.name, (plan.policy,))
        policies = [make_policy(s, Choice(plan.policy)) for s in scenarios]
        self.space = space_of(policies[0])
        self._given = Choice(plan.policy).of(scenarios[0])[1]
        self._own_options = [p.options for p in policies]
        self.trials = trials_for(self.space, plan.trials)
        self._whole = tuple(Course.of(s) for s in scenarios)
        self._parts = tuple(self._part(r, s) for r, s in zip(plan.references, scenarios, strict=True))
        self.study = Study(self._name(scenarios, policies[0]), self.space, scenarios[0].file.seed, study_path)

    @property
    def sliced(self) -> bool:
        """Whether trials see less than the whole."""
        return any(a.scenario is not b.scenario for a, b in zip(self._whole, self._parts, strict=True))

    def _part(self, reference: str, scenario: Scenario) -> Course:
        wanted_s = self.plan.slice_s
        if wanted_s is None:
            wanted_s = SLICE_S if scenario.duration_s > 2 * SLICE_S else scenario.duration_s
        if wanted_s + _WARMUP_S >= scenario.duration_s:
            return Course.of(scenario)
        part = busiest_slice(scenario, wanted_s, _WARMUP_S)
        texts = (*self.plan.overrides, *part.overrides(scenario))
        return Course.of(load_scenario(reference, texts, self.plan.seed))

    def _name(self, scenarios: Sequence[Scenario], policy: Policy) -> str:
        """Of the study: another scenario, trace, policy, space or slice is another study in the same file."""
        content = repr([(s.sha256, s.file.model_dump(mode="json")) for s in scenarios] + [self.plan.policy, self.space])
        parts = repr([(c.scenario.duration_s, c.scenario.file.warmup_s) for c in self._parts])
        text = content + parts + of_files(scenarios, policy)
        return f"{self.plan.policy} {blake2b(text.encode(), digest_size=8).hexdigest()}"

    def run(self, workers: Workers, progress: Callable[[float], None] | None = None) -> Tuned:
        """All trials that are not done yet, then the finals."""
        study, whole = self.study, self.trials + len(_FINAL_MISSES) + 1

        def tell_progress(done: int) -> None:
            if progress is not None:
                progress(min(done / whole, 1.0))

        while len(study.tried) < self.trials:
            asked = study.pending() or study.ask(min(_GENERATION, self.trials - len(study.tried)))
            attempts = [Attempt(self._parts, self.plan.policy, p, _STOP_AT) for _, p in asked]
            for i, score in workers.each(evaluate, attempts):
                study.tell(asked[i][0], score)
                tell_progress(len(study.tried))
        finals = self._finals(workers, lambda done: tell_progress(self.trials + done))
        best = min(finals, key=lambda f: f.rank)
        return Tuned(self.plan.policy, best, finals[0], tuple(finals), tuple(study.tried), given=self._given)

    def _finals(self, workers: Workers, progress: Callable[[int], None]) -> list[Final]:
        """The defaults first, then the finalists, on the whole scenarios. Defaults are not their own rivals."""
        chosen: list[dict[str, Any]] = [{}]
        for enough in _FINAL_MISSES:
            ranked = [t.params for t in best_first(self.study.tried, enough)]
            chosen += [p for p in ranked[:1] if p not in chosen and not self._are_defaults(p)]
        known = self._judged()
        missing = [p for p in chosen if key_of(p) not in known]
        for done, (i, score) in enumerate(
            workers.each(evaluate, [Attempt(self._whole, self.plan.policy, p) for p in missing]), 1
        ):
            self.study.tell_final(missing[i], score)
            progress(done)
        known = self._judged()
        return [Final(p, known[key_of(p)]) for p in chosen if known[key_of(p)].refused is None]

    def _judged(self) -> dict[str, Score]:
        """Scores on the whole scenarios to their end, by the options as JSON: without a slice, those of trials too."""
        seen = () if self.sliced else self.study.tried
        return {key_of(t.params): t.score for t in seen if not t.score.stopped} | self.study.finals()

    def _are_defaults(self, params: Mapping[str, Any]) -> bool:
        """Whether these are what the policy does without them."""
        return all(
            self.study.rounded({key: getattr(own, key) for key in params}) == params for own in self._own_options
        )
