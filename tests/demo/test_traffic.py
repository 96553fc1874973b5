"""The demo's traffic: days that are alike but not equal, the same for everybody who scales."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadtime.demo.traffic import DEMANDS, Hump, Shape, arrivals, counted, history, usual_day

CHAT, CODE = DEMANDS
DAY_S = 150.0


def test_the_same_seed_gives_the_same_requests_and_another_seed_others() -> None:
    assert arrivals(CHAT, 1, DAY_S, DAY_S) == arrivals(CHAT, 1, DAY_S, DAY_S)
    assert arrivals(CHAT, 1, DAY_S, DAY_S) != arrivals(CHAT, 2, DAY_S, DAY_S)


def test_a_shorter_demo_sees_the_beginning_of_the_longer_one() -> None:
    whole = arrivals(CODE, 3, DAY_S, DAY_S)
    assert arrivals(CODE, 3, DAY_S, 60.0) == tuple(r for r in whole if r.at_s < 60.0)


def test_all_deployments_together_never_exceed_six_requests_a_second() -> None:
    busiest = max(sum(d.shape.rate_rps(i / 1000) for d in DEMANDS) for i in range(1000))
    assert 4.0 < busiest * 1.15 <= 6.0  # the largest factor that a day may have is 1.15


def test_an_answer_has_at_most_forty_chunks() -> None:
    assert max(r.output_tokens for d in DEMANDS for r in history(d, 1, DAY_S, 7)) <= 40


def test_the_number_of_requests_follows_the_rate() -> None:
    days = 200
    expected = sum(CHAT.shape.rate_rps((i + 0.5) / 1000) for i in range(1000)) / 1000 * DAY_S * days
    assert len(history(CHAT, 5, DAY_S, days)) == pytest.approx(expected, rel=0.03)


def test_days_differ_but_share_their_shape() -> None:
    ends, rates = counted(history(CODE, 5, DAY_S, 7), -7 * DAY_S, 0.0, 15.0)
    days = [rates[i * 10 : (i + 1) * 10] for i in range(7)]
    assert len(set(days)) == 7
    night, office = slice(7, 10), slice(2, 4)
    assert all(sum(day[office]) / 2 > 2 * sum(day[night]) / 3 for day in days)
    assert ends[0] == -7 * DAY_S + 15.0
    assert ends[-1] == 0.0


def test_the_days_before_end_where_today_begins() -> None:
    before = history(CHAT, 1, DAY_S, 7)
    assert -7 * DAY_S <= before[0].at_s < before[-1].at_s < 0.0 <= arrivals(CHAT, 1, DAY_S, DAY_S)[0].at_s


def test_counting_loses_no_request() -> None:
    before = history(CHAT, 1, DAY_S, 7)
    _, rates = counted(before, -7 * DAY_S, 0.0, 5.0)
    assert sum(rates) * 5.0 == pytest.approx(len(before))
    assert sum(usual_day(before, DAY_S, 7, 42)) * DAY_S / 42 * 7 == pytest.approx(len(before))


@given(st.floats(0, 1), st.floats(0.01, 5))
def test_a_hump_stays_between_nothing_and_its_height(phase: float, rps: float) -> None:
    assert 0.0 <= Hump(0.2, 0.4, 0.6, 0.9, rps).rate_rps(phase) <= rps


def test_a_hump_rises_holds_and_is_gone() -> None:
    hump = Hump(0.2, 0.4, 0.6, 0.8, 2.0)
    assert [hump.rate_rps(p) for p in (0.1, 0.3, 0.5, 0.7, 0.9)] == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0])


def test_days_repeat() -> None:
    shape = Shape(1.0, (Hump(0.2, 0.4, 0.6, 0.8, 2.0),))
    assert shape.rate_rps(0.5) == shape.rate_rps(3.5) == 3.0
