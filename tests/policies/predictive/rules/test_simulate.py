"""Deployments whose rules are replayed side by side remember, bit for bit, what each would have by itself."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import BacktestTrace, DeploymentKey, DeploymentView, Forecast, LeadTimes
from policies.base.durations import Duration
from policies.predictive import PredictiveOptions, PredictivePolicy
from policies.predictive.rules.family import LEVELS
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.sizing import Closed, Frame, Got, Sizing, SizingMemory
from policies.predictive.state import PredictiveState
from tests.policies.build import fleet, view

BIN_S = 30.0

FRAMES = st.builds(
    Frame,
    lead_bins=st.integers(1, 200),
    bin_s=st.just(BIN_S),
    bounds=st.tuples(st.integers(0, 3), st.integers(3, 40)),
    allowed_share=st.sampled_from([0.01, 0.05]),
    quantum=st.integers(1, 4),
    stop_bins=st.integers(0, 20),
    patience_s=st.sampled_from([0.5, 2.0]),
    serve_bins=st.integers(0, 30),
    lasts_s=st.sampled_from([0.0, 7.0, 300.0]),
)
CALLS = st.lists(st.integers(1, 70), min_size=1, max_size=3)
"""How many bins at a time."""


def made_up(seed: int, deployments: int, bins: int, begin: int) -> Closed:
    """Demand that comes and goes, and forecasts that know little of it; bins counted from `begin`."""
    rng = np.random.default_rng([seed, begin])
    demand = rng.gamma(2.0, 2.0, (deployments, bins)) * (rng.random((deployments, bins)) < 0.9)
    expected = np.sort(rng.gamma(2.0, 2.0, (3, deployments, bins, len(LEVELS))), axis=-1)
    ends_s = np.tile(BIN_S * np.arange(begin + 1, begin + bins + 1), (deployments, 1))
    return Closed(ends_s, demand, Horizons(*expected))


def of_one(closed: Closed, i: int, at: int) -> Closed:
    """One bin of one deployment."""
    some, one = closed.some(at, at + 1), slice(i, i + 1)
    ahead = Horizons(some.ahead.lead[one], some.ahead.early[one], some.ahead.keep[one])
    return Closed(some.ends_s[one], some.demand[one], ahead)


@settings(max_examples=10, deadline=None)
@given(st.lists(FRAMES, min_size=1, max_size=4), CALLS, st.integers(0, 9))
def test_side_by_side_and_many_bins_at_once_is_the_same_as_one_by_one(
    frames: list[Frame], calls: list[int], seed: int
) -> None:
    together, alone = [[SizingMemory() for _ in frames] for _ in range(2)]
    sizing, begin = Sizing(), 0
    for bins in calls:
        closed = made_up(seed, len(frames), bins, begin)
        got = [Got(3.0 + i, 0.02 * i) if i % 3 else None for i in range(len(frames))]
        sizing.close(together, frames, closed, got)
        for i, frame in enumerate(frames):
            for at in range(bins):
                sizing.close([alone[i]], [frame], of_one(closed, i, at), got[i : i + 1] if at == 0 else ())
        begin += bins
    assert together == alone


def test_who_comes_later_joins_those_who_are_there() -> None:
    sizing, frame = Sizing(), Frame(9, BIN_S, (1, 20), 0.01, lasts_s=60.0)
    old, new, lone = (SizingMemory() for _ in range(3))
    sizing.close([old], [frame], made_up(1, 1, 100, 0))
    both = made_up(2, 2, 40, 100)
    sizing.close([old, new], [frame, frame], both)
    for at in range(40):
        sizing.close([lone], [frame], of_one(both, 1, at))
    assert new == lone
    assert (old.shadow.rows, new.shadow.rows) == (140, 40)


def test_a_replay_that_looks_back_as_far_as_is_remembered_still_takes_bins_together() -> None:
    sizing, frame = Sizing(), Frame(500, BIN_S, (1, 20), 0.01)
    together, alone = SizingMemory(), SizingMemory()
    closed = made_up(3, 1, 150, 0)
    sizing.close([together], [frame], closed)
    for at in range(150):
        sizing.close([alone], [frame], of_one(closed, 0, at))
    assert together == alone


def of_some(closed: Closed, who: list[int]) -> Closed:
    """The bins of some of the deployments."""
    a = closed.ahead
    return Closed(closed.ends_s[who], closed.demand[who], Horizons(a.lead[who], a.early[who], a.keep[who]))


def test_those_that_close_again_and_again_lie_side_by_side_and_remember_what_each_would_alone() -> None:
    frames = [
        Frame(9, BIN_S, (1, 20), 0.01, lasts_s=60.0),
        Frame(4, BIN_S, (0, 9), 0.05),
        Frame(2, BIN_S, (1, 8), 0.01),
    ]
    together, alone = [[SizingMemory() for _ in frames] for _ in range(2)]
    sizing = Sizing()
    companies = (
        [[0, 1, 2]] * 35 + [[0, 2]] * 3 + [[0, 1, 2]] + [[1]] * 3 + [[0, 1, 2]] * 4 + [[0], [2]] + [[0, 1, 2]] * 3
    )
    for at, who in enumerate(companies):
        closed = made_up(5, len(frames), 1, at)
        got = [Got(3.0 + i, 0.02 * i) for i in who]
        sizing.close([together[i] for i in who], [frames[i] for i in who], of_some(closed, who), got)
        for i, one in zip(who, got, strict=True):
            Sizing().close([alone[i]], [frames[i]], of_one(closed, i, 0), [one])
        assert together == alone
        assert [sizing.target(one) for one in together] == [Sizing().target(one) for one in alone]
    assert all(isinstance(one.shadow.record, memoryview) for one in together)  # nothing was copied for the last bins
    assert msgspec.json.encode(together) == msgspec.json.encode(alone)


def test_memories_that_lay_side_by_side_are_saved_and_go_on_by_themselves() -> None:
    frame, sizing = Frame(9, BIN_S, (1, 20), 0.01, lasts_s=60.0), Sizing()
    memories = [SizingMemory(), SizingMemory()]
    for at in range(5):
        sizing.close(memories, [frame, frame], made_up(6, 2, 1, at))
    restored = msgspec.convert(msgspec.to_builtins(memories), list[SizingMemory])
    later = made_up(6, 2, 1, 5)
    sizing.close(restored, [frame, frame], later)
    assert restored != memories
    sizing.close(memories, [frame, frame], later)
    assert restored == memories


# ---------------------------------------------------------------- the policy


def deployments(count: int) -> list[DeploymentView]:
    """Of different lead times, sizes and limits; one without a forecast, one whose forecast has horizons of its own."""
    found = []
    for i in range(count):
        lead = LeadTimes(*(Duration(40.0 + 35.0 * i, 0.2),) * 3)
        d = view(key=DeploymentKey.parse(f"app{i}/llm"), lead_times=lead, min_replicas=i % 2, max_replicas=6 + i)
        found.append(replace(d, capacity_rps=1.5 + i, capacity_batch=40.0 * (i % 3) or None))
    return found


def seen(d: DeploymentView, i: int, tick: int) -> DeploymentView:
    """Its view at a tick: some close two bins in one, some one they did not see."""
    rng = np.random.default_rng([i, tick])
    now_s, rates = (tick + 1) * BIN_S, (8.0 + 4.0 * rng.random(2)).tolist()
    horizons = (BIN_S, 4 * BIN_S, 40 * BIN_S) if i % 3 else (BIN_S, 2 * BIN_S, 50 * BIN_S, 90 * BIN_S)
    rows = tuple(tuple(7.0 + n + 6.0 * level for level in LEVELS) for n in range(len(horizons)))
    forecast = None if i == 1 else Forecast("mixture", now_s, horizons, LEVELS, rows, True, "a test")
    bins = ((now_s - BIN_S, None if tick % 3 else rates[1]), (now_s, rates[0]))[(i + tick) % 4 > 0 :]
    return replace(d, rate_rps=rates[0], bins=bins, forecast=forecast, judged_requests=200.0, judged_missed=float(i))


def diary(i: int) -> BacktestTrace:
    rng = np.random.default_rng(i)
    bins, horizons = 190 + 35 * i, (60.0, 120.0, 480.0, 3840.0)
    rates = rng.gamma(4.0, 2.0, bins).astype(np.float32)
    rows = np.sort(rng.gamma(4.0, 2.0, (bins // 2, 4, len(LEVELS))), axis=-1).astype(np.float16)
    return BacktestTrace(BIN_S, 2, 0.0, horizons, LEVELS, 1.0, bytearray(rates.tobytes()), bytearray(rows.tobytes()))


def test_a_fleet_is_proposed_what_each_of_it_would_be_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = PredictivePolicy(PredictiveOptions(bin_s=BIN_S))
    there = deployments(5)
    together, alone = PredictiveState(), [PredictiveState() for _ in there]
    for i in (0, 2, 3, 4):
        policy.warm_start(together, there[i].key, diary(i))
        policy.warm_start(alone[i], there[i].key, diary(i))
    for tick in range(90):
        now_s = (tick + 1) * BIN_S
        views = [seen(d, i, tick) for i, d in enumerate(there)]
        sharing = sum(memory.shadow.diary is not None for memory in together.deployments.values())
        monkeypatch.setattr("policies.predictive.warm_start._REHEARSED_AT_ONCE", 25 * sharing)
        found = policy.propose(fleet(*views, now_s=now_s), together, now_s).replicas
        monkeypatch.setattr("policies.predictive.warm_start._REHEARSED_AT_ONCE", 25)
        for one, state in zip(views, alone, strict=True):
            own = policy.propose(fleet(one, now_s=now_s), state, now_s).replicas
            assert own[one.key] == found[one.key]
    for one, state in zip(there, alone, strict=True):
        mine = together.deployments[one.key.full]
        assert msgspec.json.encode(mine) == msgspec.json.encode(state.deployments[one.key.full])
        assert mine.shadow.diary is None
        assert mine.shadow.sizing.account.rule >= 0
