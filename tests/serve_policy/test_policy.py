"""What the policy answers: following, holding, falling back, coming back, and never raising."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from leadtime_serve_policy import LeadtimePolicy, PlanError, ServeRule, parse_plan, settings_of, sighting
from tests.fakes.serve_context import PERIOD_S, Context, Followed, plan, plan_text


def test_the_plans_target_is_the_answer() -> None:
    followed = Followed()
    followed.see(1000.0)
    assert followed.answer() == 3


def test_a_plan_may_raise_at_once_and_lowers_only_when_it_has_come_in_for_three_periods() -> None:
    followed = Followed()
    answers = []
    for tick in range(6):
        followed.now_s = tick * PERIOD_S
        followed.see(1000.0 + followed.now_s, targets={"chat/llm": 3 if tick == 0 else 1})
        answers.append(followed.answer())
    assert answers == [3, 3, 3, 1, 1, 1]


def test_a_plan_older_than_three_periods_gives_way_to_serves_rule_with_serves_delay() -> None:
    followed = Followed(upscale_delay_s=30.0)
    followed.see(1000.0)
    followed.answer()
    followed.context = Context(current_num_replicas=3, target_num_replicas=3, requests=10.0)
    answers = {}
    for tenth in range(600):
        followed.now_s = tenth / 10
        level, _ = followed.policy(followed.context)
        answers[followed.now_s] = level
    assert {level for now_s, level in answers.items() if now_s < 45.1} == {3}  # 15 s of plan, 30 s of delay
    assert answers[45.1] == 5  # 10 requests in flight, 2 for each


def test_without_any_plan_serves_rule_decides_from_the_first_call() -> None:
    followed = Followed(upscale_delay_s=0.0)
    followed.context.requests = 9.0
    assert followed.answer() == 5


def test_the_return_of_the_plan_does_not_throw_away_what_serves_rule_added() -> None:
    followed = Followed(upscale_delay_s=0.0)
    followed.see(1000.0)
    assert followed.answer() == 3
    followed.now_s = 100.0
    followed.context.current_num_replicas, followed.context.requests = 3, 12.0
    assert followed.answer() == 6
    levels = []
    for tick in range(1, 6):
        followed.now_s = 100.0 + tick * PERIOD_S
        followed.see(1000.0 + followed.now_s)
        levels.append(followed.answer())
    assert levels == [6, 6, 6, 3, 3]


def test_a_link_that_comes_and_goes_never_lowers_a_level() -> None:
    """Plans for one period, then none for longer than three: the plan may not lower, Serve's rule waits 600 s."""
    followed = Followed()
    followed.context.target_num_replicas = followed.context.current_num_replicas = 6
    levels = set()
    for step in range(400):
        followed.now_s = step * 1.0
        if step % 25 < 5:
            followed.see(1000.0 + followed.now_s, targets={"chat/llm": 2})
        levels.add(followed.answer())
    assert levels == {6}


def test_a_deployment_that_is_held_stays_where_it_is() -> None:
    followed = Followed()
    followed.context.requests = 50.0
    for tick in range(8):
        followed.now_s = tick * PERIOD_S
        followed.see(1000.0 + followed.now_s, targets={}, held=["chat/llm"])
        assert followed.answer() == 2


def test_a_dry_run_or_a_follower_is_not_followed() -> None:
    followed = Followed(upscale_delay_s=0.0)
    followed.see(1000.0, acts=False, targets={"chat/llm": 9})
    followed.context.requests = 8.0
    assert followed.answer() == 4


def test_a_target_of_zero_waits_for_requests_in_flight() -> None:
    followed = Followed()
    followed.context = Context(1, 1, requests=0.5)
    for tick in range(5):
        followed.now_s = tick * PERIOD_S
        followed.see(1000.0 + followed.now_s, targets={"chat/llm": 0})
        assert followed.answer() == 1
    followed.context.requests = 0.0
    assert followed.answer() == 0


def test_a_deployment_that_the_plan_does_not_name_is_left_to_serve(caplog: pytest.LogCaptureFixture) -> None:
    followed = Followed(upscale_delay_s=0.0)
    followed.see(1000.0, targets={"chat/other": 3})
    followed.context.requests = 8.0
    with caplog.at_level(logging.WARNING, "ray.serve"):
        assert followed.answer() == 4
    assert "the plan does not name chat/llm" in caplog.text


@pytest.mark.parametrize(
    ("service", "keys", "found"),
    [
        ("", ["llm/a/chat/llm"], 7),
        ("", ["llm/a/chat/llm", "llm/b/chat/llm"], None),
        ("llm/b", ["llm/a/chat/llm", "llm/b/chat/llm"], 7),
        ("llm/c", ["llm/a/chat/llm"], None),
        ("default/local", ["chat/llm"], 7),
        ("", ["notchat/llm"], None),
    ],
)
def test_the_service_tells_which_key_is_meant(service: str, keys: list[str], found: int | None) -> None:
    followed = Followed(service=service)
    named = keys[-1]
    followed.see(1000.0, targets={key: 7 if key == named else 1 for key in keys})
    assert followed.answer() == (2 if found is None else found)


def test_reasons_that_take_turns_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    followed = Followed()
    with caplog.at_level(logging.INFO, "ray.serve"):
        for second in range(600):
            followed.now_s = float(second)
            followed.policy._reader.why = ("no answer in time", "connection refused")[second % 2]
            followed.answer()
        assert len(caplog.records) <= 11
        followed.see(1600.0)
        followed.see(1601.0)
        followed.now_s += 15.0
        followed.see(1616.0)
        followed.answer()
    assert caplog.records[-1].message == "leadtime: chat/llm: follows leadtime's plan"


# ---------------------------------------------------------------- nothing raises


@pytest.mark.parametrize("requests", [None, "many", float("nan"), float("inf"), RuntimeError("no metrics")])
def test_whatever_serve_shows_the_level_stays_and_nothing_is_raised(requests: Any) -> None:
    followed = Followed(upscale_delay_s=0.0)
    followed.context.requests = requests
    assert followed.answer() == 2
    followed.see(1000.0, targets={"chat/llm": 0})
    followed.now_s = 4 * PERIOD_S
    followed.see(1020.0, targets={"chat/llm": 0})
    assert followed.answer() in (1, 2)


@pytest.mark.parametrize(
    "kwargs",
    [
        {}, {"plan": 7}, {"plan": "leadtime:8080"}, {"plan": "http://a:b@c:1"}, {"plan": "http://h:99999"},
        {"plan": "relative/file"}, {"plan": "/a", "service": "chat"}, {"plan": "/a", "timeout_s": 0},
        {"plan": "/a", "upscale_delay_s": "30"}, {"plan": "/a", "token_file": "token"}, {"plan": "/a", "planet": 1},
    ],
)  # fmt: skip
def test_wrong_arguments_are_named_and_serves_rule_decides(
    kwargs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "ray.serve"):
        policy = LeadtimePolicy(**kwargs)
    assert "policy_kwargs." in caplog.text
    assert "allowed: " in caplog.text
    assert "a:b@" not in caplog.text
    assert policy(Context(2, 2, requests=4.0)) == (2, {})
    assert settings_of(kwargs)[1]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"null", b"{", b'"x"', b"[" * 100_000, plan_text(version=2), plan_text(issued_at_s="now"),
        plan_text(issued_at_s=float("nan")), plan_text(period_s=0), plan_text(period_s=1e9), plan_text(targets=[1]),
        plan_text(targets={"chat/llm": -1}), plan_text(targets={"chat/llm": 1.5}), plan_text(held=[1]),
        plan_text(targets={"chat/llm": True}), plan_text(targets={"chat/llm": "3"}),
        plan_text(targets={"chat/llm": 10**9}),
        plan_text(held="chat/llm"), plan_text(withheld=None), b"\xff\xfe",
    ],
)  # fmt: skip
def test_an_answer_that_is_no_plan_is_refused_as_a_whole(text: bytes) -> None:
    with pytest.raises(PlanError) as caught:
        parse_plan(text)
    assert len(str(caught.value)) < 300


def test_a_plan_of_a_controller_that_knows_no_acts_is_understood() -> None:
    text = plan_text()
    assert parse_plan(text.replace(b'"acts": true, ', b"").replace(b', "held": []', b"")).acts
    older = plan_text(targets={}, withheld={"chat/llm": 3}).replace(b'"acts": true, ', b"")
    assert not parse_plan(older).acts


# ---------------------------------------------------------------- age


def test_the_age_is_counted_here_whatever_the_clocks_say() -> None:
    first = sighting(None, plan(1000.0), now_s=10.0, wall_s=5000.0)  # an hour apart: the date looks old
    assert first is not None
    assert not first.is_fresh(10.0)
    second = sighting(first, plan(1005.0), now_s=15.0, wall_s=5005.0)
    assert second is not None
    assert second.is_fresh(15.0)
    assert second.is_fresh(15.0 + 3 * PERIOD_S)
    assert not second.is_fresh(15.1 + 3 * PERIOD_S)


def test_a_controller_that_hangs_beside_its_successor_is_passed_over() -> None:
    seen = None
    for step in range(40):
        issued_at_s = 1000.0 if step % 2 else 1000.0 + step
        seen = sighting(seen, plan(issued_at_s), float(step), 1000.0 + step)
        assert seen is not None
        assert seen.plan.issued_at_s == 1000.0 + step - step % 2
    seen = sighting(seen, plan(1000.0), 100.0, 1100.0)
    assert seen is not None
    assert not seen.is_fresh(100.0)


def test_the_same_plan_again_does_not_get_younger() -> None:
    seen = None
    for step in range(20):
        seen = sighting(seen, plan(1000.0), float(step), 1000.0 + step)
    assert seen is not None
    assert seen.seen_at_s == 0.0


# ---------------------------------------------------------------- Serve's rule


def test_the_rule_is_serves_own() -> None:
    """Every step of random runs against Ray's functions themselves: total requests, starts, delays."""
    policy = pytest.importorskip("ray.serve.autoscaling_policy")
    config_module = pytest.importorskip("ray.serve.config")
    changes = 0
    for seed in range(30):
        rng = random.Random(seed)
        up_s, down_s = rng.choice([0.0, 3.0, 30.0]), rng.choice([0.0, 5.0, 60.0])
        config = config_module.AutoscalingConfig(
            min_replicas=0, max_replicas=50, target_ongoing_requests=rng.choice([1, 2, 7.5]),
            upscale_delay_s=up_s, downscale_delay_s=down_s,
        )  # fmt: skip
        rule, state, level, running, requests, now_s = ServeRule(up_s, down_s), {}, 2, 2, 4.0, 0.0
        for _ in range(200):
            now_s += rng.uniform(0.1, 3.0)
            requests = max(0.0, requests + rng.uniform(-6, 6)) if rng.random() < 0.9 else 0.0
            running = running + (level > running) - (level < running) if rng.random() < 0.5 else running
            context = type("Ctx", (), {
                "current_num_replicas": running, "target_num_replicas": level, "total_num_requests": requests,
                "config": config,
            })()  # fmt: skip
            if running == 0:
                assert rule.replicas(running, level, requests, config.target_ongoing_requests, now_s) == level
                rule, state, running = ServeRule(up_s, down_s), {}, 1
                level = max(level, 1)
                continue
            wanted, _ = policy._core_replica_queue_length_policy(context)
            factored = policy._apply_scaling_factors(wanted, running, config)
            expected, state = policy._apply_delay_logic(max(0, factored), level, config, state, _now=now_s)
            answer = rule.replicas(running, level, requests, config.get_target_ongoing_requests(), now_s)
            assert answer == expected, (seed, running, level, requests)
            changes += answer != level
            level = answer
    assert changes > 100


def test_an_answer_reads_nothing_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's controller waits for it: files and sockets are the thread's."""
    followed = Followed()
    followed.see(1000.0, targets={f"llm/s/app{i}/llm": 1 for i in range(500)} | {"chat/llm": 3})

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("an answer must not wait for anything")

    for name in ("builtins.open", "os.stat", "socket.socket", "socket.getaddrinfo", "urllib.request.build_opener"):
        monkeypatch.setattr(name, forbidden)
    answers = {followed.policy(followed.context)[0] for _ in range(100)}
    monkeypatch.undo()
    assert answers == {3}
