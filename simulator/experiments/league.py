"""The league: scenarios under policies, on the same traffic and the same luck, summed up so that they can be judged.

Every policy meets each seed, so differences are paired: what one saves against another is averaged over seeds before
its spread is judged. Runs are independent and spread over processes. The verdict (`reaches_target`, who is cheaper) is
here; tables and pages are made from it elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from autoscaler.common.errors import ScenarioError
from simulator.experiments.parallel.workers import Workers
from simulator.experiments.references.completion import missing_past
from simulator.experiments.simulation import simulate
from simulator.result import Result, reaches_target
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import load_scenario
from simulator.scenario.overrides import refuse_lost_options
from simulator.timeline import Strip, StripSink

COMPARE_VERSION = 1
DEFAULT_POLICIES = ("predictive", "static", "hpa_ongoing", "ray_serve")
_NOTHING_TO_DECIDE = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the league."""

    scenario: str
    overrides: tuple[str, ...]
    policy: str
    seed: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run's result as plain data, and its day for pictures."""

    job: Job
    document: dict[str, Any]
    targets: dict[str, float]
    strips: dict[str, Strip]
    capacities_rps: dict[str, float | None]
    """What one replica carries within the SLO at the mix that was served, by deployment."""
    starts: dict[str, tuple[tuple[float, str], ...]]
    """When each replica start ended, and whether it was hidden, exposed or cancelled, by deployment."""


@dataclass(frozen=True, slots=True)
class Short:
    """A deployment that misses its target: its share over all seeds."""

    deployment: str
    slo_attainment_fraction: float
    target_fraction: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A policy on a scenario, over all seeds. Costs in USD; `ci95` are (low, high), None with a single seed."""

    policy: str
    scenario: str
    clairvoyant: bool
    seeds: int
    cost_usd: float | None
    cost_usd_ci95: tuple[float, float] | None
    slo_attainment_fraction: float | None
    reaches_target: bool
    cheaper_and_reaching: tuple[str, ...] = ()
    cost_difference_usd: float | None = None
    cost_difference_usd_ci95: tuple[float, float] | None = None
    missing_target: tuple[Short, ...] = ()
    """The deployments that miss their target, in the scenario's order."""

    def document(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [asdict(v) if isinstance(v, Short) else v for v in value]
    return value


@dataclass(frozen=True, slots=True)
class League:
    """Everything that came out."""

    runs: tuple[Run, ...]
    summaries: tuple[Summary, ...]
    warnings: tuple[str, ...]
    reference: str
    """Differences are against this policy."""

    def document(self) -> dict[str, Any]:
        return {
            "version": COMPARE_VERSION,
            "runs": [r.document for r in self.runs],
            "summary": [s.document() for s in self.summaries],
            "difference_against": self.reference,
            "warnings": list(self.warnings),
        }


def jobs_of(
    scenarios: Sequence[str], overrides: Sequence[str], policies: Sequence[str], seeds: int, first_seed: int | None
) -> list[Job]:
    """Every run, after all scenarios and policies were checked. Errors: ScenarioError, TraceError, PolicyError."""
    jobs = []
    named: dict[str, str] = {}
    for reference in scenarios:
        scenario = load_scenario(reference, overrides)
        namesake = named.setdefault(scenario.name, reference)
        if namesake != reference:
            raise ScenarioError(
                f"{reference}: name: {scenario.name!r}, as in {namesake}; allowed: another name for each"
            )
        refuse_lost_options(overrides, scenario.file.policy.name, policies)
        for policy in policies:
            make_policy(scenario, Choice(policy))
        begin = scenario.file.seed if first_seed is None else first_seed
        jobs += [Job(reference, tuple(overrides), p, begin + k) for k in range(seeds) for p in policies]
    return jobs


def leave_out(scenarios: Sequence[str], overrides: Sequence[str], policies: Sequence[str]) -> dict[str, str]:
    """Policies that cannot run on all of the scenarios as they stand, and why. Errors: ScenarioError, TraceError."""
    found: dict[str, str] = {}
    for reference in scenarios:
        found = {**missing_past(load_scenario(reference, overrides), policies), **found}
    return found


def play(job: Job, progress: Callable[[float], None] | None = None) -> Run:
    """One run. Errors: as `jobs_of`."""
    scenario = load_scenario(job.scenario, job.overrides, job.seed)
    strips = StripSink()
    policy = make_policy(scenario, Choice(job.policy))
    result = simulate(scenario, policy, Outputs(timeline=strips, progress=progress))
    return as_run(job, result, {str(d.key): d.slo.target_fraction for d in scenario.deployments}, strips.strips)


def as_run(job: Job, result: Result, targets: dict[str, float], strips: dict[str, Strip]) -> Run:
    """A result as the league and its pages use it."""
    capacities = {str(d.key): d.capacity_rps for d in result.deployments}
    starts = {str(d.key): d.cold.events for d in result.deployments}
    return Run(job, result.document(), targets, strips, capacities, starts)


def play_all(jobs: Sequence[Job], pool: Workers, done: Callable[[Job], None]) -> list[Run]:
    """All runs, in the order of `jobs` whatever finishes first; `done` is told of each."""
    runs: dict[int, Run] = {}
    for i, found in pool.each(play, jobs):
        runs[i] = found
        done(jobs[i])
    return [runs[i] for i in range(len(jobs))]


def judge(runs: Sequence[Run]) -> League:
    """Sum up and warn. Runs of one scenario hold every policy at every seed."""
    policies = list(dict.fromkeys(r.job.policy for r in runs))
    reference = "predictive" if "predictive" in policies else policies[0]
    summaries: list[Summary] = []
    warnings: list[str] = []
    for scenario in dict.fromkeys(r.job.scenario for r in runs):
        own = [r for r in runs if r.job.scenario == scenario]
        rows = [_summary(p, [r for r in own if r.job.policy == p], own, reference) for p in policies]
        summaries += [_with_cheaper(row, rows) for row in rows]
        warning = _nothing_to_decide(rows)
        warnings += [warning] if warning else []
    return League(tuple(runs), tuple(summaries), tuple(warnings), reference)


def _summary(policy: str, runs: Sequence[Run], all_runs: Sequence[Run], reference: str) -> Summary:
    costs = [r.document["cost_usd"] for r in runs]
    known = [c for c in costs if c is not None]
    attained = [a for a in (r.document["slo_attainment_fraction"] for r in runs) if a is not None]
    of_reference = {r.job.seed: r.document["cost_usd"] for r in all_runs if r.job.policy == reference}
    differences = [c - of_reference[r.job.seed] for r, c in zip(runs, costs, strict=True) if c is not None]
    missing = tuple(_missing(runs))
    return Summary(
        policy=policy,
        scenario=runs[0].document["scenario"],
        clairvoyant=bool(runs[0].document["clairvoyant"]),
        seeds=len(runs),
        cost_usd=_mean(known) if len(known) == len(costs) else None,
        cost_usd_ci95=_ci95(known),
        slo_attainment_fraction=_mean(attained),
        reaches_target=not missing,
        cost_difference_usd=_mean(differences),
        cost_difference_usd_ci95=_ci95(differences),
        missing_target=missing,
    )


def _missing(runs: Sequence[Run]) -> Iterator[Short]:
    """Every deployment whose share, averaged over seeds, is below its target."""
    for key, target in runs[0].targets.items():
        shares = [r.document["deployments"][key]["slo_attainment_fraction"] for r in runs]
        mean = _mean([s for s in shares if s is not None])
        if mean is not None and not reaches_target(mean, target):
            yield Short(key, mean, target)


def _with_cheaper(row: Summary, rows: Sequence[Summary]) -> Summary:
    own = row.cost_usd
    cheaper = [
        r.policy for r in rows if own is not None and r.reaches_target and r.cost_usd is not None and r.cost_usd < own
    ]
    return Summary(**{**{n: getattr(row, n) for n in row.__slots__}, "cheaper_and_reaching": tuple(cheaper)})


def _nothing_to_decide(rows: Sequence[Summary]) -> str | None:
    """Where a constant fleet costs about as much as the best, the scenario tells nothing about autoscaling."""
    static = next((r for r in rows if r.policy == "static"), None)
    priced = [r for r in rows if r.reaches_target and r.cost_usd is not None]
    if static is None or not static.cost_usd or not priced:
        return None
    best = min(priced, key=lambda r: r.cost_usd or 0.0)
    saving = 1 - (best.cost_usd or 0.0) / static.cost_usd
    if saving >= _NOTHING_TO_DECIDE:
        return None
    if best.policy == "static":
        return f"{static.scenario}: nobody meets the target for less than static: is there anything to decide here?"
    return (
        f"{static.scenario}: little to decide here: the cheapest that meets the target ({best.policy}) costs only "
        f"{saving:.1%} less than static"
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _ci95(values: Sequence[float]) -> tuple[float, float] | None:
    """The mean's 95 % interval by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))
    return mean - half, mean + half
