"""Hints in the forecast: they raise within a ceiling, ahead of their beginning, and expire; the reasons name them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core import guards, journal, scheduled_load
from autoscaler.core.build import new_controller
from autoscaler.core.controller import Controller
from autoscaler.core.state import ControllerState, HintMemory
from autoscaler.core.types import ControllerConfig, DeploymentPlan, DeploymentSettings, Hint, Plan, RecurringLoad
from policies.base import DeploymentKey, Forecast, Slo
from policies.capacity.load import load_profile
from policies.registry import create_policy
from tests.autoscaler.build import KEY, config, inventory, metrics, signals

LEVELS = (0.5, 0.9, 0.99)
NOON_S = 1_700_000_000.0 // 86400 * 86400 + 12 * 3600


def hint(rps: float | None = 40.0, start_s: float = 500.0, end_s: float = 800.0, **changes: object) -> Hint:
    return Hint("launch", KEY, start_s, end_s, rps, **changes)  # type: ignore[arg-type]


def forecast(now_s: float = 0.0) -> Forecast:
    """10 to 30 req/s by level, a little more at longer horizons."""
    rows = tuple((10.0 + i, 20.0 + i, 30.0 + i) for i in range(3))
    return Forecast("seasonal", now_s, (100.0, 400.0, 1600.0), LEVELS, rows, True)


def scheduled_loads(
    *announced: Hint,
    now_s: float = 0.0,
    ceiling_rps: float | None = None,
    memories: dict[str, HintMemory] | None = None,
    rate_rps: float | None = 8.0,
    known: Forecast | None = None,
    farthest_s: float = 1600.0,
) -> tuple[scheduled_load.ScheduledLoad, ...]:
    memories = {} if memories is None else memories
    return scheduled_load.scheduled_loads(
        memories, announced, KEY, now_s, farthest_s, ceiling_rps, rate_rps, known or forecast(now_s), lambda _: 1.0
    )


# ---------------------------------------------------------------- merging


def test_horizons_that_reach_its_window_are_raised_and_shorter_ones_are_not() -> None:
    merged = scheduled_load.merge(forecast(), scheduled_loads(hint()))
    assert merged.quantile(498.0, 0.9) == pytest.approx(forecast().quantile(498.0, 0.9), abs=0.01)
    assert merged.quantile(500.0, 0.5) == 40.0
    assert merged.quantile(1600.0, 0.99) == 40.0
    assert merged.edges_s == (499.0, 500.0)
    assert set(forecast().horizons_s) < set(merged.horizons_s)


def test_a_lower_hint_than_what_is_expected_changes_nothing() -> None:
    merged = scheduled_load.merge(forecast(), scheduled_loads(hint(rps=5.0)))
    for horizon_s in (100.0, 400.0, 1600.0):
        for level in LEVELS:
            assert merged.quantile(horizon_s, level) == forecast().quantile(horizon_s, level)


def test_it_counts_while_it_lasts_and_expires_at_its_end() -> None:
    assert scheduled_load.merge(forecast(799.0), scheduled_loads(hint(), now_s=799.0)).quantile(100.0, 0.5) == 40.0
    assert scheduled_loads(hint(), now_s=800.0) == ()


def test_hints_of_others_beyond_the_horizon_or_without_confidence_do_not_count() -> None:
    other = replace(hint(), key=DeploymentKey.parse("chat/other"))
    assert scheduled_loads(other, hint(start_s=2000.0, end_s=3000.0), hint(confidence_fraction=0.0)) == ()


def test_of_two_with_one_id_the_later_one_counts() -> None:
    (one,) = scheduled_loads(hint(rps=40.0), hint(rps=50.0))
    assert one.hint.rps == 50.0


def test_so_many_hints_count_and_no_more() -> None:
    many = [replace(hint(), id=f"h{i}", start_at_s=500.0 + i) for i in range(3 * scheduled_load.MOST)]
    scheduled = scheduled_loads(*many)
    assert [one.hint.id for one in scheduled] == [f"h{i}" for i in range(scheduled_load.MOST)]
    assert len(scheduled_load.merge(forecast(), scheduled).horizons_s) <= 3 + 2 * scheduled_load.MOST


def test_the_ceiling_holds_for_levels_and_for_multipliers() -> None:
    level, times = scheduled_loads(
        hint(rps=500.0), replace(hint(rps=None), id="sale", multiplier=50.0), ceiling_rps=25.0
    )
    assert level.capped
    assert times.capped
    merged = scheduled_load.merge(forecast(), (level, times))
    assert [merged.quantile(600.0, q) for q in LEVELS] == [25.0, 25.0, pytest.approx(31.2, abs=0.1)]


def test_a_multiplier_multiplies_what_was_expected_before_it_began() -> None:
    memories: dict[str, HintMemory] = {}
    sale = replace(hint(rps=None), multiplier=3.0)
    before = scheduled_load.merge(forecast(490.0), scheduled_loads(sale, now_s=490.0, memories=memories))
    assert before.quantile(1600.0, 0.5) == 36.0
    # It came true: what is seen now is three times as much, and is not multiplied again.
    rows = tuple(tuple(3.0 * v for v in row) for row in forecast().values_rps)
    risen = replace(forecast(600.0), values_rps=rows)
    scheduled = scheduled_loads(sale, now_s=600.0, memories=memories, known=risen, rate_rps=24.0)
    during = scheduled_load.merge(risen, scheduled)
    assert during.quantile(1600.0, 0.5) == 36.0
    assert scheduled[0].announcement is not None
    assert scheduled[0].announcement.rps == 24.0
    # It did not come true yet: it still may.
    assert (
        scheduled_load.merge(forecast(600.0), scheduled_loads(sale, now_s=600.0, memories=memories)).quantile(
            1600.0, 0.5
        )
        == 36.0
    )
    scheduled_loads(now_s=610.0, memories=memories)
    assert memories == {}, "a hint that is gone is forgotten"


def test_a_multiplier_of_an_unknown_demand_says_nothing() -> None:
    (one,) = scheduled_loads(replace(hint(rps=None), multiplier=3.0), rate_rps=None)
    assert one.announcement is None


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 200.0), st.floats(0.0, 1.0), st.floats(-100.0, 1500.0), st.floats(1.0, 3000.0),
            st.booleans(), st.booleans(),
        ),
        max_size=6,
    ),
    st.one_of(st.none(), st.floats(0.0, 100.0)),
)  # fmt: skip
def test_hints_only_raise_and_never_above_the_ceiling(
    drawn: list[tuple[float, float, float, float, bool, bool]], ceiling_rps: float | None
) -> None:
    announced = [
        Hint(
            f"h{i}", KEY, start_s, start_s + length_s,
            None if times else size, size / 20 if times else None, confidence,
        )
        for i, (size, confidence, start_s, length_s, times, _) in enumerate(drawn)
    ]  # fmt: skip
    merged = scheduled_load.merge(forecast(), scheduled_loads(*announced, ceiling_rps=ceiling_rps))
    for horizon_s in (50.0, 317.0, 1000.0, *merged.horizons_s):
        values = [merged.quantile(horizon_s, level) for level in LEVELS]
        base = [forecast().quantile(horizon_s, level) for level in LEVELS]
        assert all(v >= b - 1e-6 for v, b in zip(values, base, strict=True))
        assert all(a <= b + 1e-6 for a, b in itertools.pairwise(values))
        # Between the forecast's own horizons both are interpolated, so the ceiling is exact only at those.
        if ceiling_rps is not None and horizon_s in merged.horizons_s:
            assert all(v <= max(ceiling_rps, base[-1]) + 1e-6 for v in values)


# ---------------------------------------------------------------- words


def test_words_name_it_its_time_and_who_asked() -> None:
    one = Hint("launch", KEY, NOON_S + 1800, NOON_S + 5400, rps=40.0, asked_by="marketing")
    (scheduled,) = scheduled_loads(one, now_s=NOON_S, farthest_s=3600.0)
    assert scheduled.announcement is not None
    assert scheduled.announcement.words == "hint launch: 40 req/s from 12:30 to 13:30 UTC (asked by marketing)"


def test_words_tell_confidence_ceiling_and_another_day() -> None:
    one = Hint("launch", KEY, NOON_S + 86400, NOON_S + 90000, rps=40.0, confidence_fraction=0.6)
    (scheduled,) = scheduled_loads(one, now_s=NOON_S, ceiling_rps=20.0, farthest_s=1e6)
    assert scheduled.announcement is not None
    assert scheduled.announcement.words == (
        "hint launch: 40 req/s (hints may raise to 20) from 2023-11-15 12:00 to 13:00 UTC, 60% sure"
    )


def test_a_scenarios_times_count_from_its_start() -> None:
    (scheduled,) = scheduled_loads(hint())
    assert scheduled.announcement is not None
    assert scheduled.announcement.words == "hint launch: 40 req/s from 500 to 800 s"


# ---------------------------------------------------------------- through the controller and the flagship


PROFILE = load_profile("llama-3.1-8b/h100/tp1")


def controller(min_replicas: int = 0, profile: bool = True, **changes: object) -> Controller:
    deployment = DeploymentSettings(
        "chat/llm", PROFILE if profile else None, min_replicas=min_replicas, max_replicas=20, slo=Slo()
    )
    return new_controller(config(deployment, **changes), policy=create_policy("predictive", {}))


def at_zero(c: Controller, now_s: float, *announced: Hint) -> tuple[Plan, DeploymentPlan]:
    """A tick of a fleet that is at zero and has never seen a request."""
    given = signals(inventory(now_s, running=0, target=0), metrics(now_s), hints=announced)
    plan = c.step(given, now_s)
    return plan, plan.deployments[0]


def test_without_history_and_at_zero_replicas_a_hint_has_them_ready_when_it_begins() -> None:
    c = controller()
    launch = hint(start_s=1000.0, end_s=2000.0, asked_by="marketing")
    asked_at_s = None
    for now_s in range(0, 1100, 5):
        plan, decision = at_zero(c, float(now_s), launch)
        if decision.target and asked_at_s is None:
            asked_at_s = now_s
            assert decision.sentence.startswith("0 → ")
            assert "hint launch: 40 req/s from 1000 to 2000 s (asked by marketing)" in decision.sentence
            assert decision.terms[0].name == "hint"
    assert asked_at_s is not None
    lead = plan.lead_times[KEY].free_gpu
    assert lead.quantile(0.85) < 1000.0 - asked_at_s < lead.quantile(0.95) + 20.0
    capacity = plan.capacities_rps[KEY]
    assert capacity is not None
    assert decision.target is not None
    assert decision.target * capacity >= 40.0
    assert (decision.target - 2) * capacity < 40.0


def test_after_its_end_the_fleet_goes_back_to_zero() -> None:
    c = controller()
    launch = hint(start_s=0.0, end_s=300.0)
    _, during = at_zero(c, 0.0, launch)
    assert during.target
    targets = [at_zero(c, now_s, launch)[1].target for now_s in (290.0, 300.0, 1500.0, 1505.0)]
    assert targets[0] == during.target
    assert targets[-1] == 0


def test_where_nothing_tells_what_a_replica_carries_one_is_started() -> None:
    _, decision = at_zero(controller(profile=False), 0.0, hint(start_s=10.0, end_s=600.0))
    assert decision.target == 1
    assert "what a replica carries is not known" in decision.sentence


def test_longer_requests_weigh_more() -> None:
    launch = hint(start_s=10.0, end_s=600.0)
    short = at_zero(controller(), 0.0, launch)[1].target
    long = at_zero(controller(), 0.0, replace(launch, prompt_tokens=6000.0, output_tokens=1500.0))[1].target
    assert short is not None
    assert long is not None
    assert long > short


def test_the_ceiling_is_recorded_as_a_guard_and_does_not_claim_the_number() -> None:
    c = controller(hint_max_rps=30.0)
    plan, decision = at_zero(c, 0.0, hint(rps=4000.0, start_s=10.0, end_s=600.0))
    (record,) = decision.guards
    assert (record.name, record.before, record.after) == (guards.HINT_CEILING, 4000, 30)
    assert record.why == "hint launch asks for 4000 req/s; hints may raise demand to 30"
    assert decision.target == at_zero(controller(), 0.0, hint(rps=30.0, start_s=10.0, end_s=600.0))[1].target
    assert "hint launch: 4000 req/s (hints may raise to 30)" in decision.sentence
    assert [g["name"] for g in journal.decision_record(plan)["guards"]] == [guards.HINT_CEILING]


def test_no_hint_goes_past_the_maximum() -> None:
    c = new_controller(
        config(DeploymentSettings("chat/llm", PROFILE, min_replicas=0, max_replicas=2)),
        policy=create_policy("predictive", {}),
    )
    _, decision = at_zero(c, 0.0, hint(rps=4000.0, start_s=10.0, end_s=600.0))
    assert decision.target == 2


def test_a_hint_never_lowers_what_is_wanted_without_it() -> None:
    with_hint, without = controller(min_replicas=1), controller(min_replicas=1)
    for tick in range(60):
        now_s = 5.0 * tick
        page = metrics(now_s, arrivals=20.0 * now_s, ongoing=10.0)
        small = signals(inventory(now_s, running=4), page, hints=(hint(rps=1.0, start_s=0.0, end_s=1e4),))
        target = with_hint.step(small, now_s).deployments[0].target
        assert target == without.step(signals(inventory(now_s, running=4), page), now_s).deployments[0].target


def test_a_restart_in_the_middle_of_a_hint_that_multiplies_changes_nothing() -> None:
    sale = replace(hint(rps=None, start_s=400.0, end_s=1200.0), multiplier=3.0)
    going_on = controller(min_replicas=1)
    restarted: Controller | None = None
    arrivals = 0.0
    for tick in range(240):
        now_s = 5.0 * tick
        arrivals += 5.0 * (12.0 if now_s >= 400.0 else 4.0)
        given = signals(inventory(now_s, running=4), metrics(now_s, arrivals=arrivals, ongoing=8.0), hints=(sale,))
        plan = going_on.step(given, now_s)
        if restarted is not None:
            again = restarted.step(given, now_s)
            assert journal.encode(journal.decision_record(plan)) == journal.encode(journal.decision_record(again))
        elif now_s >= 600.0:
            state = ControllerState.from_bytes(going_on.state.to_bytes())
            restarted = new_controller(going_on.config, state, create_policy("predictive", {}))


def test_recorded_hints_replay_to_the_same_decision() -> None:
    c, again = controller(), controller()
    given = signals(
        inventory(0.0, running=0, target=0), metrics(0.0), hints=(hint(start_s=10.0, end_s=600.0, asked_by="x"),)
    )
    plan = c.step(given, 0.0)
    record = journal.tick_record(given, plan)
    read = journal.decode_signals(record)
    assert read.hints == given.hints
    assert journal.comparable(journal.tick_record(read, again.step(read, 0.0))) == journal.comparable(record)


def test_settings_carry_the_ceiling_into_the_journal() -> None:
    settings = ControllerConfig(hint_max_rps=12.5)
    record = journal.checkpoint_record(ControllerState(), settings)
    assert journal.decode_settings(record).hint_max_rps == 12.5


# ---------------------------------------------------------------- what recurs by a calendar

MORNING = RecurringLoad("morning", "0 9 * * 1-5", "Europe/Berlin", 7200.0, rps=40.0)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def recurring(load: RecurringLoad, now: str, farthest_s: float = 3600.0) -> list[tuple[str, float]]:
    """Id, and seconds until it begins, of what begins within the horizon or has begun."""
    now_s = at(now)
    hints = scheduled_load.recurring_hints([load], KEY, now_s, farthest_s)
    return [(one.id, one.start_at_s - now_s) for one in hints if one.start_at_s <= now_s + farthest_s]


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ("2026-01-05T07:59:00+01:00", []),  # a Monday
        ("2026-01-05T08:01:00+01:00", [("morning 2026-01-05 09:00+0100", 3540.0)]),
        ("2026-01-05T10:59:59+01:00", [("morning 2026-01-05 09:00+0100", -7199.0)]),
        ("2026-01-05T11:00:00+01:00", []),
        ("2026-01-10T09:30:00+01:00", []),  # a Saturday
        ("2026-07-06T08:30:00+02:00", [("morning 2026-07-06 09:00+0200", 1800.0)]),  # summer time
        ("2026-07-06T07:00:00+00:00", [("morning 2026-07-06 09:00+0200", 0.0)]),
    ],
)
def test_it_counts_from_one_horizon_ahead_until_its_end_by_the_clock_of_its_zone(
    now: str, found: list[tuple[str, float]]
) -> None:
    assert recurring(MORNING, now) == found


def test_on_the_day_of_a_clock_change_it_comes_once() -> None:
    night = RecurringLoad("night", "30 2 * * *", "Europe/Berlin", 1800.0, rps=1.0)
    spring = {one for hour in range(24) for one, _ in recurring(night, f"2026-03-29T{hour:02}:10:00+01:00")}
    autumn = {one for hour in range(24) for one, _ in recurring(night, f"2026-10-25T{hour:02}:10:00+01:00")}

    assert len([one for one in spring if "03-29" in one]) == 1
    assert len([one for one in autumn if "10-25" in one]) == 1


@given(st.floats(0, 4e9), st.floats(0, 20000))
def test_at_any_time_the_answer_is_that_of_the_calendar_itself(now_s: float, farthest_s: float) -> None:
    """Answers are kept for ten minutes of time and whole hours ahead: nothing is lost by it."""
    hourly = RecurringLoad("x", "15 * * * *", "UTC", 1200.0, rps=1.0)
    hints = scheduled_load.recurring_hints([hourly], KEY, now_s, farthest_s)
    counts = {one.start_at_s for one in hints if one.start_at_s <= now_s + farthest_s}
    first = int((now_s - 1200.0) // 3600) - 1
    begins = (h * 3600.0 + 900.0 for h in range(first, int((now_s + farthest_s) // 3600) + 2))

    assert counts == {b for b in begins if b + 1200.0 > now_s and b <= now_s + farthest_s}


@pytest.mark.parametrize(
    ("cron", "zone", "duration_s", "problem"),
    [
        ("0 9 * * 1-5", "Europe/Berlin", 7200.0, None),
        ("0 0 * * *", "Europe/Berlin", 86400.0, None),
        ("0 9 * *", "UTC", 60.0, ("cron", f"'0 9 * *': 4 fields; allowed: {scheduled_load.CRON_WORDS}")),
        ("0 25 * * *", "UTC", 60.0, ("cron", f"'0 25 * * *': bad hour; allowed: {scheduled_load.CRON_WORDS}")),
        ("0 0 30 2 *", "UTC", 60.0, ("cron", f"'0 0 30 2 *': bad day-of-month; allowed: {scheduled_load.CRON_WORDS}")),
        ("@daily", "UTC", 60.0, ("cron", f"'@daily': 1 fields; allowed: {scheduled_load.CRON_WORDS}")),
        ("0 * * * *", "UTC", 7300.0,
         ("duration_s", "7300; it begins again after 3600 s; allowed: no longer than that")),
        ("0 9 * * *", "Berlin", 60.0,
         ("time_zone", "'Berlin'; allowed: a time zone of the IANA, as Europe/Berlin or UTC")),
        ("0 9 * * *", "../etc/passwd", 60.0,
         ("time_zone", "'../etc/passwd'; allowed: a time zone of the IANA, as Europe/Berlin or UTC")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_recurring_load_is_said(
    cron: str, zone: str, duration_s: float, problem: tuple[str, str] | None
) -> None:
    assert scheduled_load.schedule_problem(cron, zone, duration_s) == problem


def test_what_the_settings_announce_is_not_held_by_the_ceiling_for_hints() -> None:
    own = scheduled_load.recurring_hints([MORNING], KEY, at("2026-01-05T08:30:00+01:00"), 3600.0)
    (one,) = scheduled_load.scheduled_loads(
        {}, [], KEY, at("2026-01-05T08:30:00+01:00"), 3600.0, 10.0, 8.0, None, lambda _: 1.0, own
    )

    assert one.announcement is not None
    assert one.announcement.rps == 40.0
    assert one.announcement.words == (
        "hint morning 2026-01-05 09:00+0100: 40 req/s from 08:00 to 10:00 UTC (asked by schedule)"
    )


def test_a_schedule_of_the_settings_has_replicas_ready_when_it_begins() -> None:
    entry = DeploymentSettings("chat/llm", PROFILE, min_replicas=0, max_replicas=20, schedule=(MORNING,))
    c = new_controller(config(entry), policy=create_policy("predictive", {}))
    begins_s = at("2026-01-05T09:00:00+01:00")
    asked_at_s = None
    for now_s in (begins_s - 1000.0 + 5.0 * tick for tick in range(210)):
        plan, decision = at_zero(c, now_s)
        if decision.target and asked_at_s is None:
            asked_at_s = now_s
            assert "hint morning 2026-01-05 09:00+0100: 40 req/s" in decision.sentence

    assert asked_at_s is not None
    lead = plan.lead_times[KEY].free_gpu
    assert lead.quantile(0.85) < begins_s - asked_at_s < lead.quantile(0.95) + 20.0
