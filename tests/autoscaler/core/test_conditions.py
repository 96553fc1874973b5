"""What is wrong and lasts is told by every way there is, and its end too."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.api.deployment_metrics import deployment_families
from autoscaler.api.status import status_view
from autoscaler.api.telemetry import Telemetry
from autoscaler.core import conditions, forecast, observe
from autoscaler.core.build import new_controller
from autoscaler.core.conditions import KINDS, Candidate, lasting
from autoscaler.core.controller import Controller
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentSettings,
    DeploymentSignals,
    Plan,
    ReplicaSignal,
    Signals,
)
from autoscaler.kubernetes.events import ObjectRef, notices_of
from autoscaler.runtime.messages import TickLog
from policies.base import DeploymentKey
from tests.autoscaler.build import KEY, inventory, metrics
from tests.wanting import WantingPolicy

OTHER = DeploymentKey.parse("code/llm")
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "runbooks" / "condition.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KINDS)
def test_every_condition_is_explained_and_has_a_mend(name: str) -> None:
    kind = KINDS[name]
    assert PAGE.count(f"| `{name}` |") == 2
    assert f"| `{name}` | {kind.reason} | {kind.severity} |" in PAGE
    assert kind.reason[0].isupper()
    assert kind.reason.isalpha()
    assert kind.mend


def test_no_two_conditions_share_an_event_reason() -> None:
    assert len({kind.reason for kind in KINDS.values()}) == len(KINDS)


# ---------------------------------------------------------------- lasting


def test_a_condition_is_told_when_it_has_lasted_and_forgotten_when_it_is_over() -> None:
    seen: dict[str, float] = {}
    wrong = Candidate(conditions.FAILING, KEY, "503", after_s=60.0)
    assert lasting(seen, [wrong], 100.0) == ()
    assert lasting(seen, [wrong], 159.0) == ()
    [told] = lasting(seen, [wrong], 160.0)
    assert (told.name, told.deployment, told.since_s) == (conditions.FAILING, KEY, 100.0)
    assert lasting(seen, [], 165.0) == ()
    assert seen == {}
    assert lasting(seen, [wrong], 170.0) == ()


def test_another_mark_begins_anew() -> None:
    seen: dict[str, float] = {}
    for now_s, mark in ((0.0, "3"), (50.0, "4"), (100.0, "5")):
        assert lasting(seen, [Candidate(conditions.NOT_DONE, KEY, "", 60.0, mark)], now_s) == ()
    assert len(lasting(seen, [Candidate(conditions.NOT_DONE, KEY, "", 60.0, "5")], 160.0)) == 1


def test_a_clock_that_goes_back_makes_no_condition_older_than_now() -> None:
    seen: dict[str, float] = {}
    lasting(seen, [Candidate(conditions.FAILING, KEY, "")], 1000.0)
    [told] = lasting(seen, [Candidate(conditions.FAILING, KEY, "")], 400.0)
    assert told.since_s == 400.0


# ---------------------------------------------------------------- from the core


def controller(**wants: int) -> Controller:
    entries = (DeploymentSettings("*/*", min_replicas=1, max_replicas=9),)
    config = ControllerConfig(deployments=entries, dry_run=False, full_guards=True)
    return new_controller(config, None, WantingPolicy({KEY: wants.get("llm", 3), OTHER: wants.get("other", 2)}))


def names(plan: Plan) -> list[str]:
    return [one.name for one in plan.conditions]


def one(now_s: float, key: DeploymentKey = KEY, **fields: object) -> DeploymentSignals:
    return DeploymentSignals(key, inventory(now_s, **fields), metrics(now_s))  # type: ignore[arg-type]


def test_a_level_that_serve_accepts_and_never_takes_is_told_after_two_minutes() -> None:
    subject = controller(llm=5)
    told = [names(subject.step(Signals((one(now_s, target=2),)), now_s)) for now_s in range(0, 185, 5)]
    assert all(conditions.NOT_DONE not in found for found in told[:24])
    assert conditions.NOT_DONE in told[-1]


def test_a_level_that_is_taken_is_not_told() -> None:
    subject = controller(llm=5)
    plan = subject.step(Signals((one(0.0, target=2),)), 0.0)
    for now_s in range(5, 300, 5):
        target = plan.deployments[0].target
        plan = subject.step(Signals((one(now_s, target=target),)), now_s)
        assert conditions.NOT_DONE not in names(plan)


def test_replicas_that_end_before_they_run_are_a_crash_loop_with_their_message() -> None:
    subject = controller(llm=3)
    running = tuple(ReplicaSignal(f"r{i}", "RUNNING", 0.0) for i in range(2))
    plan = None
    for tick in range(40):
        now_s = 5.0 * tick
        new = ReplicaSignal(f"n{tick // 4}", "STARTING", now_s)
        seen = one(now_s, target=3, replicas=(*running, new), message="CUDA out of memory")
        plan = subject.step(Signals((seen,)), now_s)
    assert plan is not None
    [told] = [c for c in plan.conditions if c.name == conditions.CRASH_LOOP]
    assert "CUDA out of memory" in told.why
    healthy = (*running, ReplicaSignal("n9", "RUNNING", 195.0))
    plan = subject.step(Signals((one(200.0, target=3, replicas=healthy),)), 200.0)
    assert conditions.CRASH_LOOP not in names(plan)


def test_unknown_data_is_told_after_three_lead_times() -> None:
    subject = controller()
    lead_s = subject.step(Signals((one(0.0),)), 0.0).lead_times[KEY].new_node.median_s
    stale = replace(one(0.0), metrics=None)
    for share, expected in ((0.1, False), (2.9, False), (3.2, True)):
        now_s = 5.0 + share * lead_s
        seen = replace(stale, inventory=inventory(now_s))
        plan = subject.step(Signals((seen,)), now_s)
        assert (conditions.HOLDING_ON_UNKNOWN in names(plan)) is expected, share


# ---------------------------------------------------------------- one deployment's failure


@pytest.mark.parametrize("where", ["observe", "_forecast", "plan"])
def test_one_deployment_that_fails_keeps_its_level_and_the_others_are_decided(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = controller(llm=3, other=4)
    real_look, real_plan = observe.observe, Controller._plan

    def bad_look(config, spec, state, signals, *rest):  # type: ignore[no-untyped-def]
        if signals.key == KEY:
            raise ZeroDivisionError("odd")
        return real_look(config, spec, state, signals, *rest)

    def bad_plan(self, d, *rest):  # type: ignore[no-untyped-def]
        if d.key == KEY:
            raise OverflowError("odd")
        return real_plan(self, d, *rest)

    if where == "observe":
        monkeypatch.setattr(observe, "observe", bad_look)
    elif where == "plan":
        monkeypatch.setattr(Controller, "_plan", bad_plan)
    else:
        entries = (DeploymentSettings("*/*", min_replicas=1, max_replicas=9),)
        subject = new_controller(ControllerConfig(deployments=entries, dry_run=False, full_guards=True))
        real = forecast._forecast

        def bad_forecast(spec, forecaster, *rest):  # type: ignore[no-untyped-def]
            if forecaster is subject.state.forecasters[KEY.full]:
                raise FloatingPointError("odd")
            return real(spec, forecaster, *rest)

        monkeypatch.setattr(forecast, "_forecast", bad_forecast)
    plan = subject.step(Signals((one(0.0, target=2), one(0.0, OTHER, target=2))), 0.0)
    by_key = {d.key: d for d in plan.deployments}
    assert by_key[KEY].target is None
    assert by_key[KEY].observed_target == 2
    assert "odd" in by_key[KEY].guards[0].why
    assert by_key[OTHER].target is not None
    assert [(c.name, c.deployment) for c in plan.conditions if c.name == conditions.DECISION_FAILED] == [
        (conditions.DECISION_FAILED, KEY)
    ]


def test_what_a_failed_deployment_holds_keeps_its_part_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (DeploymentSettings("*/*", min_replicas=0, max_replicas=9, gpu="h100", gpus_per_replica=1),)
    config = ControllerConfig(deployments=entries, dry_run=False, full_guards=True, gpu_budget={"h100": 6})
    subject = new_controller(config, None, WantingPolicy({KEY: 1, OTHER: 9}))
    real = observe.observe

    def bad(config, spec, state, signals, *rest):  # type: ignore[no-untyped-def]
        if signals.key == KEY:
            raise ZeroDivisionError("odd")
        return real(config, spec, state, signals, *rest)

    monkeypatch.setattr(observe, "observe", bad)
    held = tuple(ReplicaSignal(f"r{i}", "RUNNING", 0.0) for i in range(4))
    plan = None
    for now_s in (0.0, 5.0, 10.0):
        seen = (one(now_s, target=4, replicas=held), one(now_s, OTHER, target=1, replicas=held[:1]))
        plan = subject.step(Signals(seen), now_s)
    assert plan is not None
    assert {d.key: d.target for d in plan.deployments} == {KEY: None, OTHER: 2}


# ---------------------------------------------------------------- told by every way


def told_board() -> tuple[Telemetry, Plan]:
    config = ControllerConfig(deployments=(DeploymentSettings("*/*"),), dry_run=False)
    telemetry = Telemetry(config, 30.0)
    plan = replace(
        Plan(1, 100.0, True, False, ()),
        conditions=lasting({}, [Candidate(conditions.CRASH_LOOP, KEY, "out of memory")], 100.0),
    )
    telemetry.report(conditions.STATE_NOT_SAVED, "disk full")
    telemetry.take_conditions(plan, 60.0)
    telemetry.take_conditions(plan, 100.0)
    return telemetry, plan


def test_status_metric_event_and_log_tell_it_and_the_log_tells_its_end(caplog: pytest.LogCaptureFixture) -> None:
    telemetry, plan = told_board()
    shown = status_view(telemetry, 100.0)["conditions"]
    assert [(c["name"], c["deployment"], c["severity"]) for c in shown] == [
        (conditions.CRASH_LOOP, str(KEY), "critical"),
        (conditions.STATE_NOT_SAVED, None, "warning"),
    ]
    families = {family.name: family for family in deployment_families(telemetry, plan)}
    labels = [sample.labels["condition"] for sample in families["leadtime_condition"].samples]
    assert labels == [conditions.CRASH_LOOP, conditions.STATE_NOT_SAVED]
    [notice] = notices_of(plan, (), lambda key: ObjectRef("RayService", "llm", "chat"))
    assert (notice.reason, notice.warning) == ("StartsFail", True)
    log = TickLog()
    with caplog.at_level(logging.INFO, "leadtime"):
        for _ in range(5):
            log.conditions(telemetry.conditions)
        log.conditions(())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4
    assert sum("out of memory" in line for line in lines) == 1
    assert sum(line.endswith(": over") for line in lines) == 2
