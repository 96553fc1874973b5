"""The status of Autoscaler objects: figures and conditions of a plan; few writes, the most urgent first, none lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from autoscaler.common.errors import LeadtimeError, NotFound, Unavailable
from autoscaler.core import guards
from autoscaler.core.tenants import Asked, Scope
from autoscaler.core.types import DeploymentPlan, DeploymentSettings, GuardRecord, Observation, Plan, PoolSettings
from autoscaler.kuberay.autoscaler_status import (
    AT_LEAST_EVERY_S,
    FIGURES_EVERY_S,
    MOST_A_TICK,
    Governed,
    Status,
    StatusBook,
    StatusWriter,
    governed_by,
    status_of,
)
from autoscaler.kubernetes.resources import ClusterApi
from autoscaler.sources.kuberay.autoscalers import AutoscalerView, ConditionView, Wanted
from autoscaler.sources.kubernetes.autoscalers import AutoscalerReading
from policies.base import DeploymentKey
from policies.base.forecast import Forecast
from policies.base.view import Duration, LeadTimes

LLM, RAG = DeploymentKey.parse("llm/chat-llm/chat/llm"), DeploymentKey.parse("llm/chat-llm/rag/llm")
SETTINGS = DeploymentSettings("llm/*/*/*", node_pools=("h100",), gpus_per_replica=4)
POOLS = {"h100": PoolSettings("h100", gpus_per_node=8, price_usd_per_hour=80.0)}
TIMES = LeadTimes(Duration(60.0), Duration(90.0), Duration(300.0))
RISING = Forecast("x", 1000.0, (60.0, 600.0), (0.5, 0.9), ((2.0, 3.0), (20.0, 30.0)), True)
SEEN = Observation(LLM, running=2, fresh=True, attained_fraction=0.98765)
UP = DeploymentPlan(LLM, 4, 2, 4, sentence="Demand doubles in 4 minutes.")


def view(name: str = "chat", **changes: Any) -> AutoscalerView:
    return replace(AutoscalerView("llm", name, name, 3, 1.0, Wanted("RayService", Scope("llm", "chat-llm"))), **changes)


def reading(name: str = "chat", **wanted: Any) -> AutoscalerReading:
    says = Wanted("RayService", **{"scope": Scope("llm", "chat-llm"), **wanted})
    return AutoscalerReading(view(name, wanted=says), says)


def plan(*deployments: DeploymentPlan, **more: Any) -> Plan:
    return Plan(1, 1000.0, True, **{"dry_run": False, "deployments": deployments, "observations": (SEEN,), **more})


def told(
    made: Plan, *refusals: str, paused: bool = False, one: AutoscalerReading | None = None
) -> tuple[dict[str, Any], dict[str, tuple[bool, str, str]]]:
    governed = Governed(one or reading(), refusals, made.deployments)
    return status_of(governed, made, lambda key: SETTINGS, POOLS, lambda key: paused)


# ---------------------------------------------------------------- what it says


def test_the_figures_are_those_of_the_plan() -> None:
    figures, conditions = told(plan(UP, forecasts={LLM: RISING}, lead_times={LLM: TIMES}))

    lead_s = TIMES.new_node.quantile(0.9)
    assert figures == {
        "deployments": 1,
        "current": 2,
        "desired": 4,
        "forecastRps": float(f"{RISING.quantile(lead_s, 0.5):.3g}"),
        "leadTimeSeconds": round(lead_s),
        "attainedFraction": 0.9877,
        "costUsdPerHour": 80.0,  # two replicas of four GPUs, a node of eight costs 80
        "reason": "Demand doubles in 4 minutes.",
    }
    assert {kind: so for kind, (so, _, _) in conditions.items()} == {
        "Ready": True, "Acting": True, "Limited": False, "SourceStale": False, "Paused": False, "DryRun": False,
    }  # fmt: skip


def test_what_is_unknown_is_left_out_and_is_not_zero() -> None:
    figures, _ = told(plan(replace(UP, observed_target=None, target=None, sentence=""), observations=()))

    assert figures == {"deployments": 1, "reason": ""}


def test_of_two_deployments_one_of_which_is_unknown_there_is_no_sum() -> None:
    figures, _ = told(plan(UP, DeploymentPlan(RAG, 3, 3, 3)))

    assert (figures["deployments"], figures["desired"]) == (2, 7)
    assert "current" not in figures
    assert "costUsdPerHour" not in figures


@pytest.mark.parametrize(
    ("made", "kind", "expected"),
    [
        (plan(UP, dry_run=True), "Acting",
         (False, "DryRun", "config.dry_run is true: leadtime only says what it would do")),
        (plan(UP, dry_run=True), "DryRun", (True, "DryRun", "nothing is written to Ray")),
        (plan(replace(UP, blocked="set external_scaler_enabled: true")), "Acting",
         (False, "Blocked", "set external_scaler_enabled: true")),
        (plan(replace(UP, target=None, sentence="metrics are missing")), "Acting",
         (False, "Withheld", "metrics are missing")),
        (plan(replace(UP, guards=(GuardRecord(guards.MAXIMUM, LLM, 9, 8, "replicas.max is 8"),))), "Limited",
         (True, "AtLimit", "replicas.max is 8")),
        (plan(UP, observations=(replace(SEEN, fresh=False, why_stale="the head is silent"),)), "SourceStale",
         (True, "Stale", "the head is silent")),
        (plan(), "Ready", (False, "NoDeployments", "nothing that runs in the target matches yet")),
    ],
)  # fmt: skip
def test_each_condition_says_why(made: Plan, kind: str, expected: tuple[bool, str, str]) -> None:
    assert told(made)[1][kind] == expected


def test_a_deployment_without_settings_is_only_observed_and_does_not_count() -> None:
    made = plan(UP, DeploymentPlan(RAG, None, 1, None, sentence="no match covers it"))

    figures, conditions = status_of(
        Governed(reading(), (), made.deployments), made, {LLM: SETTINGS}.get, POOLS, lambda key: False
    )

    assert (figures["deployments"], figures["desired"], conditions["Acting"][0]) == (1, 4, True)


def test_what_is_refused_stands_in_ready() -> None:
    _, conditions = told(plan(UP), "spec.replicas.max: 9 is above the 8 of 'llm/*/*/*'")

    assert conditions["Ready"] == (False, "Refused", "spec.replicas.max: 9 is above the 8 of 'llm/*/*/*'")


@pytest.mark.parametrize("by", ["object", "switch"])
def test_a_pause_by_anybody_is_told(by: str) -> None:
    _, conditions = told(plan(UP), paused=by == "switch", one=reading(paused=by == "object"))

    assert conditions["Paused"][0]
    assert conditions["Acting"] == (False, "Paused", "a person paused it")


def test_a_deployment_stands_in_the_status_of_its_narrowest_object_alone() -> None:
    wide, narrow = (
        reading("wide"),
        reading("narrow", scope=Scope("llm", "chat-llm", "rag"), asked=Asked(max_replicas=1)),
    )

    found = governed_by([wide, narrow], lambda one: (), (UP, DeploymentPlan(RAG, 1, 1, 1)), lambda key: (narrow, wide))

    assert {one.reading.view.name: [p.key for p in one.plans] for one in found} == {"wide": [LLM], "narrow": [RAG]}


# ---------------------------------------------------------------- when it is written


def status(name: str, current: int = 1, acting: bool = True, attained: float = 0.9) -> Status:
    figures = {"deployments": 1, "current": current, "attainedFraction": attained}
    return view(name), figures, {"Acting": (acting, "Acting" if acting else "Paused", "words")}


def write(book: StatusBook, statuses: Sequence[Status], now_s: float) -> list[str]:
    found = book.due(statuses, now_s)
    for one in found:
        book.tried(one, now_s, written=True)
    return [one.view.name for one in found]


def test_one_object_is_written_on_change_and_at_most_every_half_minute() -> None:
    book = StatusBook()
    assert write(book, [status("a")], 0.0) == ["a"]
    assert write(book, [status("a")], 100.0) == []
    assert write(book, [status("a", current=2)], 100.0) == ["a"]
    assert write(book, [status("a", current=3)], 110.0) == []
    assert write(book, [status("a", current=3)], 100.0 + AT_LEAST_EVERY_S) == ["a"]


def test_a_controller_that_has_just_begun_does_not_say_that_nothing_is_there() -> None:
    book, (one, figures, conditions) = StatusBook(), status("a")
    nothing: Status = (one, {**figures, "deployments": 0}, conditions)

    assert write(book, [nothing], 0.0) == []
    assert write(book, [nothing], AT_LEAST_EVERY_S) == ["a"]


def test_figures_that_drift_are_written_seldom() -> None:
    book = StatusBook()
    write(book, [status("a")], 0.0)

    assert write(book, [status("a", attained=0.8)], FIGURES_EVERY_S - 1.0) == []
    assert write(book, [status("a", attained=0.8)], FIGURES_EVERY_S) == ["a"]


def test_of_a_hundred_ten_are_written_a_tick_the_most_urgent_first_and_none_is_lost() -> None:
    book, names = StatusBook(), [f"o{i:03}" for i in range(100)]
    for tick in range(10):
        assert len(write(book, [status(name) for name in names], tick * 10.0)) == MOST_A_TICK
    assert write(book, [status(name) for name in names], 200.0) == []

    def changed() -> list[Status]:
        return [status(n, current=2, acting=i < 95) for i, n in enumerate(names)]

    first = write(book, changed(), 300.0)
    assert first[:5] == names[95:]
    later = [name for tick in range(9) for name in write(book, changed(), 310.0 + tick * 10.0)]
    assert sorted([*first, *later]) == names


def test_a_write_that_failed_is_tried_again_after_half_a_minute() -> None:
    book = StatusBook()
    (first,) = book.due([status("a")], 0.0)
    book.tried(first, 0.0, written=False)

    assert book.due([status("a")], AT_LEAST_EVERY_S - 1.0) == []
    assert [one.view.name for one in book.due([status("a")], AT_LEAST_EVERY_S)] == ["a"]


def test_a_condition_keeps_its_time_while_its_status_stays_also_over_a_restart() -> None:
    book = StatusBook()
    (first,) = book.due([status("a")], 0.0)
    book.tried(first, 0.0, written=True)
    (second,) = book.due([status("a", current=2)], 100.0)
    assert second.status["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    book.tried(second, 100.0, written=True)
    (third,) = book.due([status("a", current=2, acting=False)], 200.0)
    assert third.status["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:03:20Z"

    known = view("a", conditions={"Acting": ConditionView("True", "2026-01-01T00:00:00Z")})
    (anew,) = StatusBook().due([(known, *status("a")[1:])], 300.0)
    assert anew.status["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_every_condition_says_of_which_generation_it_is() -> None:
    (one,) = StatusBook().due([status("a")], 0.0)

    assert one.status["observedGeneration"] == one.status["conditions"][0]["observedGeneration"] == 3


class _Api:
    """Notes patches; fails as told."""

    def __init__(self, *errors: LeadtimeError | None) -> None:
        self.errors, self.names = list(errors), list[str]()

    async def patch(self, resource: Any, namespace: str, name: str, *args: Any, **options: Any) -> None:
        self.names.append(name)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def test_a_write_that_fails_is_told_and_keeps_none_of_the_others_back() -> None:
    api = _Api(Unavailable("the API is away"), NotFound("gone"), None)
    writer = StatusWriter(cast(ClusterApi, api), now_s=lambda: 0.0)

    asyncio.run(writer.write([status("a"), status("b"), status("c")], lambda: True))

    assert api.names == ["a", "b", "c"]
    assert writer.why == "the API is away"


def test_who_does_not_lead_any_more_writes_nothing() -> None:
    api = _Api()

    asyncio.run(StatusWriter(cast(ClusterApi, api), now_s=lambda: 0.0).write([status("a")], lambda: False))

    assert api.names == []
