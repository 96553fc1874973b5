"""Settings by annotation: read whole or not at all, but a pause and an opt-out are always heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.tenants import Asked
from autoscaler.core.types import DeploymentSettings, Follows
from autoscaler.sources.kuberay.annotations import Annotations, read_annotations, settings_for_service
from policies.base import DeploymentKey, Slo

GOOD = (
    ("enabled", "true"),
    ("max-replicas", "8"),
    ("min-replicas", "2"),
    ("slo-itl-s", "0.03"),
    ("slo-ttft-s", "1.5"),
    ("target-fraction", "0.995"),
)
WITHIN = Annotations(True, False, 2, 3, 4.0, 0.1, 0.95)
READ = Annotations(True, False, 2, 8, 1.5, 0.03, 0.995)


def test_of_many_unknown_annotations_only_some_are_named() -> None:
    reading = read_annotations([(f"odd-{i}", "x") for i in range(500)])

    assert len(reading.problems) == 16


def test_all_annotations_are_read() -> None:
    reading = read_annotations(GOOD)

    assert (reading.annotations, reading.problems) == (READ, ())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("min-replicas", "two", "leadtime.dev/min-replicas: 'two'; allowed: a whole number from 0 to 100000"),
        ("min-replicas", "-1", "a whole number from 0 to 100000"),
        ("min-replicas", "1.5", "a whole number from 0 to 100000"),
        ("min-replicas", "", "a whole number from 0 to 100000"),
        ("min-replicas", "²", "a whole number from 0 to 100000"),
        ("max-replicas", "0", "a whole number from 1 to 100000"),
        ("max-replicas", "100001", "a whole number from 1 to 100000"),
        ("min-replicas", "9" * 400, "a whole number from 0 to 100000"),
        ("min-replicas", "9" * 9000, "a whole number from 0 to 100000"),
        ("slo-ttft-s", "0", "seconds > 0"),
        ("slo-ttft-s", "nan", "seconds > 0"),
        ("slo-itl-s", "inf", "seconds > 0"),
        ("target-fraction", "1", "a share >= 0.5 and < 1"),
        ("target-fraction", "99%", "a share >= 0.5 and < 1"),
        ("enabled", "yes", '"true" or "false"'),
        ("max-replica", "3", "no such annotation; did you mean 'max-replicas'?"),
    ],
)
def test_a_wrong_one_is_named_with_what_is_allowed_and_the_set_is_not_used(name: str, text: str, words: str) -> None:
    reading = read_annotations([*((k, v) for k, v in GOOD if k != name), (name, text)])

    assert reading.annotations == Annotations()
    assert len(reading.problems) == 1
    assert words in reading.problems[0]


def test_a_minimum_above_the_maximum_is_a_problem() -> None:
    reading = read_annotations([("min-replicas", "5"), ("max-replicas", "4")])

    assert reading.annotations == Annotations()
    assert "is above" in reading.problems[0]


def test_the_last_set_that_was_right_stays_in_force() -> None:
    wrong = [*GOOD[:-1], ("target-fraction", "2")]

    assert read_annotations(wrong, READ).annotations == READ


@pytest.mark.parametrize("text", ["true", "True", "yes", "please", ""])
def test_a_pause_is_heard_whatever_else_is_wrong_and_however_it_is_written(text: str) -> None:
    reading = read_annotations([("paused", text), ("max-replicas", "many")], READ)

    assert reading.annotations.paused
    assert reading.annotations.max_replicas == 8


def test_an_opt_out_is_heard_whatever_else_is_wrong() -> None:
    reading = read_annotations([("enabled", "false"), ("max-replicas", "many")], READ)

    assert reading.annotations.enabled is False


@given(st.lists(st.tuples(st.sampled_from([k for k, _ in GOOD] + ["paused", "x"]), st.text(max_size=8))))
def test_no_text_makes_it_fail_or_half_applied(found: list[tuple[str, str]]) -> None:
    reading = read_annotations(found)

    assert not reading.problems or reading.annotations.asked == Asked()


# ---------------------------------------------------------------- over the settings file

FILE = (
    DeploymentSettings("chat/LLMServer:*", min_replicas=1, max_replicas=4, weight=2.0, slo=Slo(2.0, 0.05, 0.99)),
    DeploymentSettings("*/*/chat/OpenAiIngress", follows=Follows("chat/LLMServer:x"), min_replicas=2, max_replicas=9),
    DeploymentSettings("other/*/*/*", max_replicas=3),
)


def first(settings: tuple[DeploymentSettings, ...], deployment: str) -> DeploymentSettings | None:
    key = DeploymentKey("llm", "chat-llm", "chat", deployment)
    return next((entry for entry in (*settings, *FILE) if key.matches(entry.match)), None)


def test_annotations_lie_over_every_entry_that_could_match_and_keep_its_other_settings() -> None:
    made, problems = settings_for_service(FILE, "llm", "chat-llm", WITHIN)

    assert problems == ()
    assert [entry.match for entry in made] == ["llm/chat-llm/chat/LLMServer:*", "llm/chat-llm/chat/OpenAiIngress"]
    entry = first(made, "LLMServer:x")
    assert entry is not None
    assert (entry.min_replicas, entry.max_replicas, entry.weight) == (2, 3, 2.0)
    assert entry.slo == Slo(4.0, 0.1, 0.95)


def test_what_the_entry_does_not_allow_is_named_and_not_used() -> None:
    made, problems = settings_for_service(FILE, "llm", "chat-llm", READ)
    entry = first(made, "LLMServer:x")

    assert entry is not None
    assert (entry.min_replicas, entry.max_replicas, entry.slo) == (2, 4, FILE[0].slo)
    assert problems == (
        "leadtime.dev/max-replicas: 8 is above the 4 of 'chat/LLMServer:*'",
        "leadtime.dev/slo-ttft-s: 1.5 s is stricter than the 2 s of 'chat/LLMServer:*'",
        "leadtime.dev/slo-itl-s: 0.03 s is stricter than the 0.05 s of 'chat/LLMServer:*'",
        "leadtime.dev/target-fraction: 0.995 is stricter than the 0.99 of 'chat/LLMServer:*'",
    )


def test_a_follower_keeps_its_own_numbers() -> None:
    made, _ = settings_for_service(FILE, "llm", "chat-llm", READ)
    entry = first(made, "OpenAiIngress")

    assert entry is not None
    assert (entry.min_replicas, entry.max_replicas) == (2, 9)


def test_another_service_is_not_touched() -> None:
    made, _ = settings_for_service(FILE, "llm", "chat-llm", READ)

    assert not any(DeploymentKey("llm", "chat-2", "chat", "LLMServer:x").matches(entry.match) for entry in made)


def test_without_settings_in_the_file_a_maximum_is_enough() -> None:
    made, _ = settings_for_service((), "llm", "chat-llm", Annotations(enabled=True, max_replicas=6))

    assert [(e.match, e.min_replicas, e.max_replicas) for e in made] == [("llm/chat-llm/*/*", 1, 6)]


def test_without_a_maximum_and_without_the_file_there_are_no_settings() -> None:
    assert settings_for_service((), "llm", "chat-llm", Annotations(enabled=True, min_replicas=2)) == ((), ())


def test_a_minimum_above_the_files_maximum_is_a_problem_and_not_used() -> None:
    made, problems = settings_for_service(FILE[:1], "llm", "chat-llm", Annotations(min_replicas=5))

    assert "5 is above the maximum 4" in problems[0]
    assert (made[0].min_replicas, made[0].max_replicas) == (1, 4)


def test_annotations_that_say_nothing_of_settings_make_no_entries() -> None:
    assert settings_for_service(FILE, "llm", "chat-llm", Annotations(enabled=True, paused=True)) == ((), ())
