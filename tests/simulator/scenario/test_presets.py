"""Every shipped scenario can be read and run, and says what its documentation says that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoscaler.core import guards
from policies.base import TokenMix
from policies.capacity import capacity
from simulator.experiments.simulation import simulate
from simulator.kernel.draws import component_seed
from simulator.run import Choice, make_policy
from simulator.scenario.load import Deployment, load_scenario, preset_names, scenario_path
from simulator.workload.synthetic import Synthetic, generate

HOUR_S = 3600.0
DOCUMENTED = Path(__file__).parents[3] / "docs" / "scenarios.md"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_runs_under_its_policy_and_serves_requests(name: str) -> None:
    quiet_s = 3900 if name == "scale-from-zero-chat" else 300
    scenario = load_scenario(f"preset:{name}", [f"duration_s={quiet_s}"])
    found = simulate(scenario, make_policy(scenario, Choice()))
    assert sum(d.outcomes.requests for d in found.deployments) > 0
    assert guards.INVARIANT not in found.guards, "no decision breaks what must hold of every one"
    assert guards.DECISION_FAILED not in found.guards, "a bug in a decision looks like a level that is held"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_explains_itself_and_is_documented(name: str) -> None:
    path = scenario_path(f"preset:{name}")
    assert path.read_text().startswith("# ")
    assert load_scenario(f"preset:{name}").name == name
    assert f"`preset:{name}`" in DOCUMENTED.read_text()


def test_nobody_pays_for_replicas_before_the_first_question() -> None:
    scenario = load_scenario("preset:scale-from-zero-chat", ["duration_s=1200"])
    found = simulate(scenario, make_policy(scenario, Choice()))
    assert sum(d.outcomes.requests for d in found.deployments) == 0
    assert sum(d.allocated_gpu_s for d in found.deployments) == 0  # a warm node is another matter


# ---------------------------------------------------------------- what the texts say, by the traffic alone


def rate_rps(d: Deployment, from_s: float, to_s: float) -> float:
    """Mean rate in [from_s, to_s) of the scenario's clock."""
    assert isinstance(d.traffic, Synthetic)
    trace = generate(d.traffic, component_seed(1, f"synthetic/{d.key.full}"))
    start_s = d.start_s
    times_s = np.arange(len(trace.rps)) * d.traffic.bin_s - start_s
    return float(trace.rps[(times_s >= from_s) & (times_s < to_s)].mean())


def test_a_morning_doubles_and_a_group_fills_a_node() -> None:
    scenario = load_scenario("preset:data-parallel-gangs")
    [d] = scenario.deployments
    assert rate_rps(d, 5 * HOUR_S, 6 * HOUR_S) > 1.9 * rate_rps(d, 0.0, HOUR_S)
    assert d.block.gang_size * d.gpus == scenario.pools[0].gpus_per_node


def carries_rps(d: Deployment) -> float:
    """What one replica carries within the SLO, for the mean lengths of its requests."""
    assert d.prompt_tokens is not None
    assert d.output_tokens is not None
    found = capacity(d.profile, TokenMix(d.prompt_tokens.mean_s, d.output_tokens.mean_s), d.slo)
    return found.rps


def only(name: str) -> Deployment:
    return load_scenario(f"preset:{name}").deployments[0]


def test_the_lunch_peak_is_sharp_and_the_evening_broad() -> None:
    d = only("lunch-peak")
    night, before, lunch, evening = (
        rate_rps(d, a * HOUR_S, b * HOUR_S) for a, b in ((2, 5), (11, 12), (12, 13.5), (19, 21.5))
    )
    assert lunch > 1.7 * before
    assert lunch > evening > 1.5 * night


def test_the_flash_crowds_are_four_times_as_much_and_only_the_first_is_announced() -> None:
    d = only("flash-crowd")
    for begin_s in (3600.0, 9600.0):
        before, after = rate_rps(d, begin_s - 600, begin_s), rate_rps(d, begin_s, begin_s + 1200)
        assert after == pytest.approx(4 * before, rel=0.15)
    (hint,) = d.block.hints
    assert (hint.start_s, hint.end_s) == (3600, 4800)


def test_nobody_asks_before_eight() -> None:
    d = only("scale-from-zero-chat")
    assert rate_rps(d, 0, HOUR_S) == 0
    assert rate_rps(d, HOUR_S, 3 * HOUR_S) == pytest.approx(6, rel=0.1)


def test_the_batch_runs_from_midnight_to_two_and_the_chat_fades() -> None:
    chat, batch = load_scenario("preset:night-batch").deployments
    assert rate_rps(batch, 0, 3 * HOUR_S) == 0
    assert rate_rps(batch, 3 * HOUR_S, 5 * HOUR_S) == pytest.approx(12, rel=0.1)
    assert rate_rps(batch, 5 * HOUR_S, 6 * HOUR_S) == 0
    assert rate_rps(chat, 0, HOUR_S) > 2 * rate_rps(chat, 5 * HOUR_S, 6 * HOUR_S)


def test_the_tenants_peaks_together_do_not_fit_and_each_alone_does() -> None:
    shop, newcomer = load_scenario("preset:two-tenants").deployments

    def gpus(from_s: float, to_s: float) -> tuple[float, float]:
        return (
            rate_rps(shop, from_s, to_s) / carries_rps(shop),
            rate_rps(newcomer, from_s, to_s) / carries_rps(newcomer),
        )

    assert sum(gpus(5400, 7200)) > 10  # 12:30 to 13:00
    assert sum(gpus(3600, 5400)) < 10
    assert sum(gpus(7200, 9000)) < 10


def test_the_stock_out_covers_the_peak() -> None:
    scenario = load_scenario("preset:stock-out")
    (d,), (spot, _) = scenario.deployments, scenario.pools
    (stockout,) = spot.stockouts
    assert stockout.start_s <= 3600
    assert stockout.end_s >= 9000
    assert rate_rps(d, 3600, 9000) == pytest.approx(3.5 * rate_rps(d, 0, 3600), rel=0.1)


def test_the_redeploy_falls_into_the_peak_and_names_less_than_half_of_the_replicas_it_needs() -> None:
    scenario = load_scenario("preset:redeploy-at-peak")
    (d,), (fault,) = scenario.deployments, scenario.file.faults
    needed = rate_rps(d, fault.at_s, fault.at_s + 600) / carries_rps(d)
    assert 3600 < fault.at_s < 9000
    assert needed > 2.5 * d.initial


def test_the_articles_figures_are_what_their_texts_say() -> None:
    chat, shop = only("article-8xa100"), only("article-ecommerce")
    assert carries_rps(chat) == pytest.approx(5.2, abs=0.1)
    assert rate_rps(chat, 2 * HOUR_S, 3 * HOUR_S) == pytest.approx(7, abs=0.3)
    assert rate_rps(shop, 3 * HOUR_S, 4 * HOUR_S) / carries_rps(shop) == pytest.approx(27, abs=1)
