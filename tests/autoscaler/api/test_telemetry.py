"""What the board counts and shows of plans: guards, coverage, hints."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import generate_latest

from autoscaler.api.metrics import Exporter
from autoscaler.api.status import status_view
from autoscaler.api.telemetry import Telemetry, new_telemetry
from autoscaler.core.build import new_controller
from autoscaler.core.types import DeploymentPlan, GuardRecord, Hint, Plan, Signals
from policies.base import DeploymentKey, ForecastSpec
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

OTHER = DeploymentKey.parse("chat/other")


def plan(**in_force: tuple[str, ...]) -> Plan:
    """One deployment for each keyword, with the guards named."""
    keys = {"llm": KEY, "other": OTHER}
    deployments = tuple(
        DeploymentPlan(keys[word], 1, 1, 1, guards=tuple(GuardRecord(name, keys[word], 2, 1, "") for name in names))
        for word, names in in_force.items()
    )
    return Plan(1, 0.0, True, False, deployments)


def test_a_guard_counts_when_it_comes_into_force_and_not_at_each_tick() -> None:
    telemetry = Telemetry(config(), alive_within_s=30.0)
    for shown in (
        plan(llm=("a",)), plan(llm=("a",)), plan(llm=("a", "b")), plan(llm=("b",)), plan(llm=("a",)),
    ):  # fmt: skip
        telemetry.publish(Signals(), shown, (), 0.0)
    assert dict(telemetry.guards) == {"a": 2, "b": 1}


def test_a_guard_of_two_deployments_counts_for_each() -> None:
    telemetry = Telemetry(config(), alive_within_s=30.0)
    telemetry.publish(Signals(), plan(llm=("a",)), (), 0.0)
    telemetry.publish(Signals(), plan(llm=("a",), other=("a",)), (), 0.0)
    assert dict(telemetry.guards) == {"a": 2}


def ticked(hint: Hint | None = None) -> Telemetry:
    controller = new_controller(config(), policy=Says(1, forecast=ForecastSpec("last", bin_s=10.0)))
    telemetry = Telemetry(controller.config, alive_within_s=30.0)
    for tick in range(150):
        now_s = 5.0 * tick
        page = metrics(now_s, arrivals=50.0 * tick)
        given = signals(inventory(now_s), page, hints=(hint,) if hint else ())
        telemetry.publish(given, controller.step(given, now_s), (), 0.001)
    return telemetry


def test_the_status_shows_how_often_the_forecast_held() -> None:
    status = status_view(ticked(), 750.0)
    coverage = status["deployments"]["chat/llm"]["forecast"]["coverage"]
    assert set(coverage) == {"0.5", "0.9", "0.95", "0.99"}
    assert all(0.0 <= share <= 1.0 for share in coverage.values())


def test_a_hint_that_comes_nearer_makes_no_series_of_its_own() -> None:
    hint = Hint("launch", KEY, 800.0, 900.0, 100.0, asked_by="marketing")

    def horizons(telemetry: Telemetry) -> set[str]:
        lines = generate_latest(Exporter(telemetry, lambda: 750.0).registry).decode().splitlines()
        found = [line for line in lines if line.startswith("leadtime_forecast_rps{")]
        return {line.partition('horizon="')[2].partition('"')[0] for line in found}

    hinted = ticked(hint)
    assert horizons(hinted) == horizons(ticked())
    status = status_view(hinted, 750.0)
    assert 55.0 in status["deployments"]["chat/llm"]["forecast"]["horizons_s"]
    assert status["hints"][0]["asked_by"] == "marketing"


def _turns(count: int, names_of: int = 0, limit: int | None = 500) -> Telemetry:
    """`count` deployments whose level somebody moves at each of 60 ticks; `names_of`: ticks until they have others."""
    telemetry = new_telemetry(replace(config(), namespace_deployments=limit))
    for tick in range(60):
        turn = tick // names_of if names_of else 0
        keys = [DeploymentKey("hostile", "svc", f"{turn}-{i}", "llm") for i in range(count)]
        keys.append(DeploymentKey("own", "svc", "chat", "llm"))
        deployments = tuple(DeploymentPlan(key, 1, 1 + tick % 7, 1) for key in keys)
        telemetry.publish(Signals(), Plan(tick, 5.0 * tick, True, False, deployments), (), 0.0)
    return telemetry


def test_a_namespace_of_many_deployments_keeps_as_many_decisions_as_one_of_twenty() -> None:
    kept = {key: len(those) for key, those in _turns(400).decisions.items()}
    own = kept.pop(DeploymentKey("own", "svc", "chat", "llm"))
    assert (own, set(kept.values())) == (60, {25})
    assert {len(those) for those in _turns(400, limit=None).decisions.values()} == {60}


def test_names_that_come_and_go_are_forgotten_where_tenants_give_them() -> None:
    telemetry = _turns(10, names_of=1, limit=20)
    assert len(telemetry.decisions) == 20 + 1
    assert len([key for key in telemetry.score.requests if key.namespace == "hostile"]) <= 20
    assert len(_turns(10, names_of=1, limit=None).decisions) == 600 + 1
