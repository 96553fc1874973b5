"""References that know the traffic, and policies sized by history, on whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.base import Policy, PolicyError
from policies.references.hindsight import HindsightOptions
from policies.registry import create_policy
from simulator.experiments.references.completion import Search, hindsight, missing_past
from simulator.experiments.references.known import known_world, past_demand
from simulator.experiments.simulation import simulate
from simulator.result import Result
from simulator.run import Choice, Outputs, make_policy
from simulator.scenario.load import Scenario, load_scenario
from simulator.timeline import Row
from tests.simulator.scenarios import SMALL, TWO_TENANTS, write

PAST = SMALL.replace(
    "    workload:\n", "    history: {workload: true}\n    workload:\n      start_s: 7200\n"
).replace("        duration_s: 300\n", "        duration_s: 7500\n").replace(
    "{at_s: 60, width_s: 90, factor: 3}", "{every_s: 3600, at_s: 60, width_s: 90, factor: 3}"
)  # fmt: skip


def play(scenario: Scenario, name: str, **options: Any) -> Result:
    return simulate(scenario, make_policy(scenario, Choice(name, options)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return load_scenario(write(tmp_path_factory.mktemp("small"), PAST))


@pytest.fixture(scope="module")
def results(small: Scenario) -> dict[str, Result]:
    names = ("oracle", "oracle_lead", "hindsight", "static", "predictive", "hpa_ongoing", "ray_serve", "knative")
    return {name: play(small, name) for name in names}


def cost(result: Result) -> float:
    assert result.cost_usd is not None
    return result.cost_usd


def test_nobody_who_reaches_the_target_is_under_the_plan_and_the_plan_not_under_the_bound(
    results: dict[str, Result],
) -> None:
    assert results["oracle_lead"].reaches_target
    assert cost(results["oracle"]) <= cost(results["oracle_lead"])
    reaching = {name: cost(r) for name, r in results.items() if r.reaches_target and not name.startswith("oracle")}
    assert reaching
    assert min(reaching.values()) >= cost(results["oracle_lead"])


def test_they_are_marked_and_say_how_they_were_found(results: dict[str, Result]) -> None:
    for name in ("oracle", "oracle_lead", "hindsight", "static"):
        assert results[name].clairvoyant
        assert results[name].document()["clairvoyant"] is True
    assert "computed and not simulated" in results["oracle"].notes[-1]
    assert "simulations of this very traffic" in results["oracle_lead"].notes[-1]
    assert results["hindsight"].policy == "hindsight"
    assert results["hindsight"].policy_options["target_fraction"] is not None


def test_the_bounds_result_is_a_result_with_all_its_keys(small: Scenario, results: dict[str, Result]) -> None:
    document, other = results["oracle"].document(), results["static"].document()
    assert document.keys() == other.keys()
    assert document["requests"] == document["completed"] == other["requests"]
    assert document["slo_attainment_fraction"] >= 0.99
    assert document["ttft_s"]["p99"] is None
    assert document["gpu_hours"]["billed"] > 0


def test_hindsight_is_no_dearer_than_the_default_where_that_reaches(results: dict[str, Result]) -> None:
    default = results["hpa_ongoing"]
    assert results["hindsight"].reaches_target or not default.reaches_target
    if default.reaches_target:
        assert cost(results["hindsight"]) <= cost(default)


def test_the_best_plan_with_its_settings_gives_the_same_run_again(small: Scenario, results: dict[str, Result]) -> None:
    found = results["oracle_lead"]
    again = play(small, "oracle_lead", **found.policy_options)
    assert cost(again) == cost(found)
    assert again.attainment_fraction == found.attainment_fraction


def test_a_timeline_of_the_bound_has_a_row_for_each_tick(small: Scenario) -> None:
    rows: list[Row] = []

    class Rows:
        def write(self, row: Row) -> None:
            rows.append(row)

    simulate(small, make_policy(small, Choice("oracle")), Outputs(timeline=Rows()))
    assert [r.time_s for r in rows] == [5.0 * (i + 1) for i in range(60)]
    assert sum(r.arrivals_rps * 5.0 for r in rows) == pytest.approx(
        len(known_world(small).deployments[0].traffic.arrival_s)
    )
    assert {r.running for r in rows} > {1}


def test_the_bound_counts_nodes_that_can_be_bought(tmp_path: Path) -> None:
    """Pools of nodes of 2 and of 4 GPUs: fewer nodes than GPU hours / 4 cannot have that many GPUs."""
    bound = play(load_scenario(write(tmp_path, TWO_TENANTS)), "oracle").document()
    assert bound["gpu_hours"]["billed"] > 0
    assert bound["node_hours"] == pytest.approx(bound["gpu_hours"]["billed"] / 4)


def test_tenants_that_share_pools_get_one_bound_and_a_plan_each(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, TWO_TENANTS))
    bound, plan = play(scenario, "oracle"), play(scenario, "oracle_lead", density=0.6)
    assert [str(d.key) for d in bound.deployments] == ["chat/llm", "code/llm"]
    assert 0 < cost(bound) < cost(plan)
    searched = play(scenario, "oracle_lead")
    assert set(searched.policy_options["density"]) == {"chat/llm", "code/llm"}


class Pretend:
    """A `run` without a simulator: the HPA reaches the target up to a share, and costs less the higher it is."""

    def __init__(self, like: Result, reaches_up_to: float) -> None:
        self.like, self.reaches_up_to = like, reaches_up_to
        self.tried: list[tuple[float, float]] = []

    def __call__(self, policy: Policy) -> Result:
        fraction, window_s = policy.options.target_fraction, policy.options.scale_down_stabilization_s
        self.tried.append((fraction, window_s))
        bill = replace(self.like.pools[0], cost_usd=(10.0 + window_s / 100.0) / fraction, billed_node_s=1.0)
        return replace(self.like, pools=(bill,), reaches_target=fraction <= self.reaches_up_to)


def test_hindsight_finds_the_highest_target_that_reaches_and_the_best_window(results: dict[str, Result]) -> None:
    run = Pretend(results["static"], 0.95)
    search = hindsight(run)
    assert search.best is not None
    assert (search.best.options.target_fraction, search.best.options.scale_down_stabilization_s) == (0.9, 60.0)
    assert len(run.tried) == search.trials <= 16


def test_hindsight_is_never_dearer_than_a_setting_it_is_told_of(results: dict[str, Result]) -> None:
    run = Pretend(results["static"], 0.95)
    told = HindsightOptions(target_fraction=0.949, scale_down_stabilization_s=0.0)
    search = hindsight(run, also=[told])
    assert search.best is not None
    assert search.best.options == told


def test_where_nothing_reaches_the_target_the_least_misses_win(results: dict[str, Result]) -> None:
    search = Search(lambda policy: results[policy.name], 5)
    good, bad = results["static"], results["hpa_ongoing"]
    assert good.reaches_target
    search.run = lambda policy: replace(bad, reaches_target=False)
    search.attempt(make_policy_named("static", replicas=1))
    search.run = lambda policy: replace(good, reaches_target=False)
    search.attempt(make_policy_named("static", replicas=2))
    assert search.best is not None
    better = 2 if (good.attainment_fraction or 0) > (bad.attainment_fraction or 0) else 1
    assert search.best.options.replicas == better


def make_policy_named(name: str, **options: Any) -> Policy:
    return create_policy(name, options)


# ---------------------------------------------------------------- by history


def test_history_becomes_demand_in_replicas(small: Scenario) -> None:
    (past,) = past_demand(small, "schedule").values()
    assert past.ends_s[-1] == 0.0
    assert len(past.ends_s) == 120
    assert sum(past.rates_rps) / 120 == pytest.approx(42.0, rel=0.05)  # 40, and three times for 90 s of an hour
    assert 20 < past.capacity_rps < 80


def test_schedule_and_mean_are_derived_and_say_what_they_found(small: Scenario) -> None:
    by_hour = play(small, "schedule")
    assert set(by_hour.policy_options["floors"]) == {"chat/llm"}
    assert by_hour.clairvoyant is False
    mean = play(small, "static_mean")
    assert mean.policy_options["fleet"]["chat/llm"] >= 1
    assert mean.deployments[0].starts == 0, "a constant fleet is complete from the start"


def test_without_history_they_are_refused_and_left_out_of_all(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, SMALL))
    with pytest.raises(PolicyError, match="policy schedule: without options it is derived from history, and chat/llm"):
        play(scenario, "schedule")
    assert set(missing_past(scenario, ["predictive", "schedule", "static_mean"])) == {"schedule", "static_mean"}
    assert missing_past(scenario, ["predictive"]) == {}
    assert play(scenario, "static_mean", replicas=3).policy_options["replicas"] == 3


# ---------------------------------------------------------------- what views carry


class Watches:
    """Another policy that keeps what it was shown."""

    def __init__(self, inner: Policy) -> None:
        self.inner = inner
        self.views: list[Any] = []
        self.reads_metrics = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def prepare(self, knowledge: Any) -> Any:
        return self

    def propose(self, fleet: Any, state: Any, now_s: float) -> Any:
        self.views.append(fleet.deployments[0])
        return self.inner.propose(fleet, state, now_s)


def test_views_carry_totals_profile_and_batch_that_fit_what_happened(tmp_path: Path) -> None:
    text = SMALL.replace("tick_s: 5", "tick_s: 5\ntelemetry: {profile: ideal}").replace("factor: 3", "factor: 1")
    scenario = load_scenario(write(tmp_path, text))
    watches: Any = Watches(make_policy_named("static", replicas=3))
    result = simulate(scenario, watches)
    last = watches.views[-1]
    document = result.document()
    assert last.totals.arrivals == pytest.approx(document["requests"], rel=0.04)
    assert last.totals.ttft_s / last.totals.first_tokens == pytest.approx(document["ttft_s"]["mean"], rel=0.1)
    assert last.totals.prompt_tokens / last.totals.first_tokens == pytest.approx(
        document["prompt_tokens"] / document["requests"], rel=0.05
    )
    assert 0 < last.totals.itl_s / last.totals.gaps < document["itl_s"]["p99"]
    assert last.profile is scenario.deployments[0].profile
    assert last.capacity_batch > 10
