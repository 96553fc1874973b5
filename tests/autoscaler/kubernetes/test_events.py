"""Kubernetes Events: what is said of a plan, and how little of it is repeated."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core import guards
from autoscaler.core.conditions import CERTIFICATE_NOT_RENEWED, STATE_NOT_SAVED
from autoscaler.core.outages import Outage
from autoscaler.core.types import Applied, Condition, DeploymentPlan, GuardRecord, Outcome, Plan
from autoscaler.kubernetes.events import (
    EventBook,
    EventLimits,
    Notice,
    ObjectRef,
    Saying,
    event_object,
    notices_of,
    own_notices,
)
from autoscaler.kubernetes.resources import micro_time
from autoscaler.wiring.kubernetes import own_pod
from policies.base import DeploymentKey

KEY = DeploymentKey("llm", "chat-llm", "chat", "LLMServer:llama-70b")
REF = ObjectRef("RayService", "llm", "chat-llm", "u1")
LASTING = Notice(REF, "ClampedByMax", "chat/x: 9 -> 8: replicas.max is 8", "chat/x max_replicas", warning=True)


def plan(*deployments: DeploymentPlan, leader: bool = True, dry_run: bool = False) -> Plan:
    return Plan(1, 1000.0, leader, dry_run, deployments)


def outcome(name: str, why: str = "") -> Outcome:
    return Outcome("ray_serve", (Applied("ray_serve", str(KEY), name, 4, why),))


def said(made: Plan, *outcomes: Outcome) -> list[tuple[str, str, bool]]:
    return [(n.reason, n.note, n.warning) for n in notices_of(made, outcomes, lambda key: REF)]


UP = DeploymentPlan(KEY, 4, 2, 4, sentence="Demand doubles in 4 minutes.")


def test_a_scaling_that_was_applied_is_told_with_its_reason() -> None:
    assert said(plan(UP), outcome("ok")) == [
        ("Scaled", "chat/LLMServer:llama-70b: 2 -> 4 replicas. Demand doubles in 4 minutes.", False)
    ]


@pytest.mark.parametrize("name", ["unchanged", "withheld"])
def test_nothing_is_told_of_what_was_not_done(name: str) -> None:
    assert said(plan(UP), outcome(name)) == []


def test_a_failed_write_is_a_warning_with_what_was_said() -> None:
    assert said(plan(UP), outcome("forbidden", "answered 403")) == [
        ("ScaleFailed", "chat/LLMServer:llama-70b: 4 replicas not set: forbidden: answered 403", True)
    ]


def test_a_blocked_deployment_is_a_warning_with_the_mend() -> None:
    blocked = DeploymentPlan(KEY, 4, 2, 4, blocked="set external_scaler_enabled: true")

    assert [(reason, warning) for reason, _, warning in said(plan(blocked), outcome("conflict"))] == [
        ("ScalingBlocked", True)
    ]


def test_only_guards_that_people_should_hear_of_are_told() -> None:
    records = tuple(
        GuardRecord(name, KEY, 9, 8, "why") for name in (guards.MAXIMUM, guards.STABILIZATION, guards.UNKNOWN)
    )

    reasons = [reason for reason, _, _ in said(plan(DeploymentPlan(KEY, 8, 8, 9, guards=records)))]

    assert reasons == ["ClampedByMax", "InputStale"]


@pytest.mark.parametrize("options", [{"leader": False}, {"dry_run": True}])
def test_followers_and_dry_runs_say_nothing(options: dict[str, bool]) -> None:
    assert said(plan(UP, **options), outcome("ok")) == []


def test_a_deployment_without_an_object_is_skipped() -> None:
    assert notices_of(plan(UP), [outcome("ok")], lambda key: None) == []


def test_what_is_wrong_as_a_whole_is_told_of_the_pod_and_not_of_a_tenants_service() -> None:
    """The reason may name the deployment of somebody else."""
    pod = ObjectRef("Pod", "lt", "lt-0", "u9", "v1")
    own = Condition(CERTIFICATE_NOT_RENEWED, None, 900.0, "they do not fit")
    of_service = Condition(STATE_NOT_SAVED, KEY, 900.0, "no")
    outages = (Outage("reading", 900.0, "nothing can be read: source x: 403"), Outage("writing", 990.0, "no"))

    notices = own_notices(pod, (own, of_service), outages, 1000.0)

    assert [(n.regarding, n.reason, n.warning) for n in notices] == [
        (pod, "NothingReadable", True),
        (pod, "CertificateNotRenewed", True),
    ]
    assert notices[0].note == "nothing can be read: source x: 403; levels stay"
    assert notices[1].note.startswith("they do not fit; write a certificate")
    assert len(own_notices(pod, (), outages, 1020.0)) == 2


def test_an_event_of_the_pod_is_one_that_kubectl_describe_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POD_NAME", "POD_NAMESPACE", "POD_UID"):
        monkeypatch.delenv(name, raising=False)
    assert own_pod() is None
    monkeypatch.setenv("POD_NAME", "lt-0")
    monkeypatch.setenv("POD_NAMESPACE", "lt")
    monkeypatch.setenv("POD_UID", "u9")
    pod = own_pod()
    assert pod is not None
    (notice,) = own_notices(pod, (), (Outage("writing", 0.0, "no"),), 1000.0)
    made = event_object(notice, "e", datetime.fromtimestamp(0, UTC), "me")
    assert made["metadata"]["namespace"] == "lt"
    assert made["regarding"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "lt", "name": "lt-0", "uid": "u9"}


# ---------------------------------------------------------------- limits


def test_what_lasts_is_one_event_whose_count_rises_now_and_then() -> None:
    book = EventBook()
    written = [saying for tick in range(720) if (saying := book.take(LASTING, 5.0 * tick)) is not None]

    assert [w.count for w in written] == [1, *range(61, 721, 60)]
    assert len({w.name for w in written}) == 1


def test_after_a_long_silence_it_is_a_new_event() -> None:
    book = EventBook()
    first, second = book.take(LASTING, 0.0), book.take(LASTING, 1801.0)

    assert first is not None
    assert second is not None
    assert (second.count, second.name == first.name) == (1, False)


def test_an_object_that_flaps_gets_a_burst_and_then_a_trickle() -> None:
    book = EventBook()
    for tick in range(720):
        book.take(Notice(REF, "Scaled", "", f"{tick} -> {tick + 1}"), 5.0 * tick)

    assert 720 - book.suppressed == 10 + 3595 // 60


def test_one_object_does_not_silence_another() -> None:
    book = EventBook()
    for tick in range(50):
        book.take(Notice(REF, "Scaled", "", str(tick)), 0.0)

    assert book.take(Notice(ObjectRef("RayService", "llm", "other"), "Scaled", "", "x"), 0.0) is not None


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abc"), st.floats(0, 30)), max_size=400))
def test_the_total_is_bounded_whatever_comes(arrivals: list[tuple[int, str, float]]) -> None:
    limits = EventLimits(burst=5, every_s=10.0, most_remembered=20)
    book, now_s, written = EventBook(limits), 0.0, 0
    for number, subject, pause_s in arrivals:
        now_s += pause_s
        ref = ObjectRef("RayService", "llm", f"s{number}")
        written += book.take(Notice(ref, "Scaled", "", subject), now_s) is not None

    assert written <= limits.burst + now_s / limits.every_s
    assert len(book._said) <= 20
    assert len(book._objects) <= 20


def test_what_could_not_be_written_is_said_anew() -> None:
    book = EventBook()
    first = book.take(LASTING, 0.0)
    book.forget(LASTING)
    again = book.take(LASTING, 5.0)

    assert isinstance(first, Saying)
    assert isinstance(again, Saying)
    assert again.count == 1


def test_an_event_has_the_shape_and_the_lengths_that_servers_accept() -> None:
    notice = Notice(REF, "Scaled", "x" * 5000, "s")
    event = event_object(notice, "chat-llm.1", datetime(2026, 3, 1, 10, 0, 0, 5, UTC), "p" * 300)

    assert event["eventTime"] == "2026-03-01T10:00:00.000005Z" == micro_time(datetime(2026, 3, 1, 10, 0, 0, 5, UTC))
    assert len(event["note"]) == 1024
    assert len(event["reportingInstance"]) == 128
    assert event["regarding"]["uid"] == "u1"
