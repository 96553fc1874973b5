"""Autoscaler objects: read whole or not at all, but a pause is always obeyed; which of several counts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.scheduled_load import CRON_WORDS
from autoscaler.core.tenants import Asked, Scope
from autoscaler.core.types import RecurringLoad
from autoscaler.sources.kuberay.autoscalers import AutoscalerView, in_force, parse_autoscaler
from autoscaler.wiring.kubernetes import preset
from tests.fakes.kubernetes import objects

LOAD = {"name": "morning", "cron": "0 9 * * 1-5", "timeZone": "Europe/Berlin", "durationSeconds": 7200, "rps": 40}
FULL = objects.autoscaler(
    target={"kind": "RayService", "application": "chat", "deployment": "LLMServer:llama-70b"},
    replicas={"min": 1, "max": 6},
    slo={"ttftSeconds": 2, "itlSeconds": 0.05, "targetFraction": 0.95},
    profile="llama-3.1-8b/h100/tp1",
    nodePools=["h100", "spot"],
    weight=0.5,
    priority=-3,
    schedule=[LOAD],
)
PRESETS = "the name of a preset (`leadtime profiles` lists them)"
POOLS = "a list of 1 to 16 different names of node pools"
A_NAME = "a name without * ? [ ] /, or * for all"
BAD: tuple[tuple[str, Any, str], ...] = (
    ("target.kind", "Deployment", "spec.target.kind: 'Deployment'; allowed: RayService or RayCluster"),
    ("target.application", "chat*", f"spec.target.application: 'chat*'; allowed: {A_NAME}"),
    ("target.application", "", f"spec.target.application: ''; allowed: {A_NAME}"),
    ("target.deployment", "a/b", f"spec.target.deployment: 'a/b'; allowed: {A_NAME}"),
    ("target.deployment", 7, f"spec.target.deployment: '7'; allowed: {A_NAME}"),
    ("replicas.min", -1, "spec.replicas.min: '-1'; allowed: a whole number from 0 to 100000"),
    ("replicas.min", 7, "spec.replicas.min: 7 is above spec.replicas.max: 6"),
    ("replicas.max", 0, "spec.replicas.max: '0'; allowed: a whole number from 1 to 100000"),
    ("replicas.max", 10**30, f"spec.replicas.max: '{10**30}'; allowed: a whole number from 1 to 100000"),
    ("replicas.max", 2.5, "spec.replicas.max: '2.5'; allowed: a whole number from 1 to 100000"),
    ("replicas.max", True, "spec.replicas.max: 'True'; allowed: a whole number from 1 to 100000"),
    ("slo.ttftSeconds", 2000, "spec.slo.ttftSeconds: '2000'; allowed: seconds > 0 and <= 600"),
    ("slo.itlSeconds", 0, "spec.slo.itlSeconds: '0'; allowed: seconds > 0 and <= 10"),
    ("slo.targetFraction", 99, "spec.slo.targetFraction: '99'; allowed: a share >= 0.5 and < 1"),
    ("slo.targetFraction", 1.0, "spec.slo.targetFraction: '1.0'; allowed: a share >= 0.5 and < 1"),
    ("profile", "/etc/passwd", f"spec.profile: '/etc/passwd'; allowed: {PRESETS}"),
    ("profile", ["a"], f"spec.profile: \"['a']\"; allowed: {PRESETS}"),
    ("nodePools", [], f"spec.nodePools: '[]'; allowed: {POOLS}"),
    ("nodePools", ["a", "a"], f"spec.nodePools: \"['a', 'a']\"; allowed: {POOLS}"),
    ("nodePools", "h100", f"spec.nodePools: 'h100'; allowed: {POOLS}"),
    ("weight", 0, "spec.weight: '0'; allowed: a number > 0"),
    ("weight", float("nan"), "spec.weight: 'nan'; allowed: a number > 0"),
    ("priority", 2000, "spec.priority: '2000'; allowed: a whole number from -1000 to 1000"),
    ("schedule", [], "spec.schedule: '[]'; allowed: a list of 1 to 16 recurring loads"),
    ("schedule", [LOAD, LOAD], "spec.schedule: 'morning, morning'; allowed: each name only once"),
    ("schedule", [{**LOAD, "cron": "0 9 * *"}], f"spec.schedule[0].cron: '0 9 * *': 4 fields; allowed: {CRON_WORDS}"),
    ("schedule", [{**LOAD, "multiplier": 2}], "spec.schedule[0]: exactly one of rps and multiplier is needed"),
    ("schedule", [{**LOAD, "rps": 0}], "spec.schedule[0].rps: '0'; allowed: requests per second > 0 and <= 1000000"),
    ("schedule", [{**LOAD, "durationSeconds": 5}],
     "spec.schedule[0].durationSeconds: '5'; allowed: 60 to 604800 seconds"),
    ("schedule", [{**LOAD, "confidenceFraction": 2}],
     "spec.schedule[0].confidenceFraction: '2'; allowed: a share > 0 and <= 1"),
    ("schedule", [{**LOAD, "name": 7}], "spec.schedule[0].name: '7'; allowed: a name"),
    ("schedule", [{**LOAD, "timeZone": "Berlin"}],
     "spec.schedule[0].timeZone: 'Berlin'; allowed: a time zone of the IANA, as Europe/Berlin or UTC"),
    ("schedule", [{**LOAD, "cron": "0 * * * *", "durationSeconds": 8000}],
     "spec.schedule[0].durationSeconds: 8000; it begins again after 3600 s; allowed: no longer than that"),
    ("paused", "yes", "spec.paused: 'yes'; allowed: true or false"),
)  # fmt: skip
"""Field, value, what is said of it."""


def with_value(field: str, value: Any) -> dict[str, Any]:
    """FULL with another value at a field of its spec."""
    made = copy.deepcopy(FULL)
    *above, name = field.split(".")
    node = made["spec"]
    for step in above:
        node = node.setdefault(step, {})
    node[name] = value
    return made


def read(obj: dict[str, Any]) -> AutoscalerView:
    return parse_autoscaler(obj, preset)


def view(name: str, created_at_s: float, **target: str) -> AutoscalerView:
    made = read(objects.autoscaler(name, target=target))
    return AutoscalerView(made.namespace, made.name, name, 1, created_at_s, made.wanted)


def test_every_field_is_read() -> None:
    found = read(FULL)

    assert found.problems == ()
    assert found.wanted is not None
    assert found.wanted.scope == Scope("llm", "chat-llm", "chat", "LLMServer:llama-70b")
    profile = preset("llama-3.1-8b/h100/tp1")
    morning = RecurringLoad("morning", "0 9 * * 1-5", "Europe/Berlin", 7200.0, rps=40.0)
    assert found.wanted.asked == Asked(1, 6, 2.0, 0.05, 0.95, profile, ("h100", "spot"), 0.5, -3, (morning,))
    assert profile is not None


def test_only_the_target_is_needed() -> None:
    found = read(objects.autoscaler())

    assert found.wanted is not None
    assert (found.wanted.scope, found.wanted.asked, found.wanted.paused) == (Scope("llm", "chat-llm"), Asked(), False)
    assert found.problems == ()


@pytest.mark.parametrize(("field", "value", "words"), BAD)
def test_a_wrong_value_is_named_with_what_is_allowed(field: str, value: Any, words: str) -> None:
    assert read(with_value(field, value)).problems == (words,)


@pytest.mark.parametrize("name", [None, "", "Upper", "a/b", "x" * 254, 3])
def test_an_object_without_a_target_says_nothing_at_all(name: Any) -> None:
    found = read(with_value("target.name", name))

    assert found.wanted is None
    assert found.problems[0].startswith("spec.target.name: ")


def test_a_pause_that_is_no_boolean_pauses() -> None:
    wanted = read(with_value("paused", "false")).wanted

    assert wanted is not None
    assert wanted.paused


_LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
_NAMES = st.sampled_from([*FULL["spec"], *LOAD, "kind", "min", "max"])
_TREES = st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner))


@given(_TREES)
def test_any_spec_ends_in_a_view(spec: Any) -> None:
    found = read({"metadata": {"namespace": "llm", "name": "x"}, "spec": spec})

    assert found.wanted is not None or found.problems


def test_of_two_with_one_target_the_older_counts() -> None:
    first, others = in_force([view("new", 20.0), view("old", 10.0), view("narrow", 30.0, application="chat")])

    assert [one.name for one in first] == ["narrow", "old"]
    assert others == {("llm", "new"): "spec.target: the older Autoscaler old has the same one; this is unused"}


def test_the_narrowest_stands_first() -> None:
    found, _ = in_force(
        [view("all", 1.0), view("app", 2.0, application="chat"), view("one", 3.0, application="chat", deployment="x")]
    )

    assert [one.name for one in found] == ["one", "app", "all"]
