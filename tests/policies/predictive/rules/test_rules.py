"""The shadow family: what rules would have cost and missed, the price of a miss, and which rule is followed."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.predictive.rules.family import Family, Floats
from policies.predictive.rules.fleet import (
    MISSED,
    ROWS,
    STARTS,
    RuleSimulation,
    SimulationMemory,
    missed_share,
    patience,
)
from policies.predictive.rules.fluid_queue import Quantiles, QueueParams
from policies.predictive.rules.horizons import Horizons
from policies.predictive.rules.level_histogram import BUCKETS, levels_of, remember
from policies.predictive.rules.minute_of_hour import MinuteOfHourBank, MinuteOfHourMemory
from policies.predictive.rules.shadow_price import Account, PriceSettings, choose, hull_slope, lower_hull
from policies.predictive.rules.simulate import SimulatedFleets
from policies.predictive.rules.sizing import CHOOSE_EVERY_S, Closed, Frame, Got, Sizing, SizingMemory

FAMILY = Family()
BIN_S = 10.0
FRAME = Frame(lead_bins=18, bin_s=BIN_S, bounds=(1, 50), allowed_share=0.01)
LEVELS = FAMILY.array_of_levels


def flat(demand: float, spread: float = 0.0) -> Floats:
    """Quantiles around a demand: the spread is reached at the lowest and highest level."""
    return np.asarray(np.maximum(demand + spread * (2 * LEVELS - 1), 0.0))


def play(
    sizing: Sizing,
    memory: SizingMemory,
    demand: Floats,
    frame: Frame = FRAME,
    ahead: Floats | None = None,
    spread: float = 0.0,
    start_s: float = 0.0,
) -> list[int]:
    """Feed a series; the forecast is `ahead` (today's demand where none is given). The targets followed, bin by bin."""
    expected = np.array([flat(value, spread) for value in (demand if ahead is None else ahead)])
    closed = of_one(start_s + BIN_S * np.arange(1, len(demand) + 1), demand, expected)
    wanted: list[int] = []
    while len(wanted) < len(demand):
        rule = memory.account.rule
        bins = 1 if rule < 0 else min(len(demand) - len(wanted), round(CHOOSE_EVERY_S / BIN_S) - memory.bins, ROWS)
        sizing.close([memory], [frame], closed.some(len(wanted), len(wanted) + bins))
        told = sizing.shadow(memory, frame).targets[np.arange(memory.shadow.rows - bins, memory.shadow.rows) % ROWS]
        wanted += [*told[:-1, rule].tolist(), sizing.target(memory) or 0]
    return wanted


def memory_end(memory: SizingMemory) -> float:
    assert memory.closed_at_s is not None
    return memory.closed_at_s


def of_one(ends_s: Floats, demand: Floats, expected: Floats) -> Closed:
    """Bins of one deployment; `expected`: (bins, levels)."""
    return Closed(ends_s[None], demand[None], Horizons(*(expected[None],) * 3))


# ---------------------------------------------------------------- the fluid fleet


def fleets_of_one(first: int = 1, rows: int = 0) -> SimulatedFleets:
    one = SimulatedFleets([SimulationMemory()], FAMILY, [first])
    one.rows[:] = rows
    return one


def terms(
    lead_bins: int = 18,
    use: float = 1.0,
    bounds: tuple[int, int] = (1, 50),
    quantum: int = 1,
    soft: float = 0.0,
    lasts_s: float = 0.0,
    bin_s: float = BIN_S,
) -> QueueParams:
    """Of one deployment."""
    bins, numbers = np.full((1, 1), lead_bins), (*bounds, quantum, use, lasts_s, 2.0, 1.0)
    return QueueParams(bin_s, soft, bins, bins, *(np.full((1, 1), float(number)) for number in numbers))


def tell(fleets: SimulatedFleets, demand: Floats, s: QueueParams) -> None:
    """Bins of one deployment closed, and everybody expects what there is."""
    quantiles = np.repeat(demand[None, :, None], len(LEVELS), axis=2)
    fleets.play(demand[None], Quantiles(*(quantiles,) * 4), s)


def brute_force(targets: list[int], demand: list[float], lead: int, use: float) -> tuple[float, float, int]:
    """Replicas one by one: each asked for at a moment, the youngest given up first."""
    asked: list[int] = []
    missed = cost = starts = 0.0
    backlog = 0.0
    for i, (target, d) in enumerate(zip(targets, demand, strict=True)):
        while len(asked) < target:
            asked.append(i)
            starts += 1
        del asked[target:]
        running = sum(1 for at in asked if i - at >= lead)
        backlog = max(0.0, backlog + (d - running) * BIN_S)
        missed += d if d > running * use or backlog > 2.0 * running else 0.0
        backlog = min(backlog, 120.0 * max(running, 1))
        cost += target
    return missed, cost, int(starts)


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 5)), min_size=30, max_size=200), st.integers(1, 20))
def test_what_runs_is_the_least_that_was_wanted_within_the_lead_time(rows: list[tuple[int, float]], lead: int) -> None:
    """Against a fleet whose replicas are counted one by one."""
    fleets, s = fleets_of_one(0, rows=1), terms(lead, use=0.9)
    missed = 0.0
    for target, demand in rows:
        fleets.targets[0, (fleets.rows[0] - 1) % ROWS] = target
        told = fleets.targets[:, [(fleets.rows[0] - back) % ROWS for back in (2, 1)]].transpose(1, 0, 2)
        found = fleets.score(np.array([demand]), s)
        fleets.rows += 1
        fleets.book(np.array([[demand]]), found[:, None], told, s)
        missed += float(found[0, 0])
    expected, _, starts = brute_force([t for t, _ in rows], [d for _, d in rows], lead, 0.9)
    assert missed == pytest.approx(expected)
    assert float(fleets.record[0, 0, STARTS, 0]) == pytest.approx(starts, rel=0.05)


def test_every_rule_starts_from_the_same_record_of_nothing() -> None:
    shadow = RuleSimulation(SimulationMemory(), FAMILY, 3)
    assert not shadow.record.any()
    assert (shadow.target == 3).all()


def test_a_rule_that_holds_keeps_what_it_wanted_for_a_lead_time() -> None:
    fleets, s = fleets_of_one(), terms()
    series = np.array([4.0] + [0.9] * 40)
    wanted = []
    for i in range(len(series)):
        tell(fleets, series[i : i + 1], s)
        wanted.append(dict(zip(FAMILY.names, fleets.target[0].tolist(), strict=True)))
    held = [row["hold 0.95"] for row in wanted]
    assert held == [4] * 19 + [1] * 22
    assert [row["early 0.95"] for row in wanted] == [4] * 13 + [1] * 28
    assert [row["keep 0.95"] for row in wanted] == [4] + [1] * 40
    assert [row["reactive 1/60 s"] for row in wanted] == [4] * 6 + [1] * 35
    assert wanted[0]["reactive 0.5/60 s"] == 8


def test_a_fleet_at_an_edge_between_two_numbers_does_not_go_to_and_fro() -> None:
    """Three replicas' demand, a per cent more and less in turn; at last a tenth less."""
    fleets, s = fleets_of_one(), terms()
    wanted = []
    for demand in [3.03, 2.97] * 30 + [2.7] * 40:
        tell(fleets, np.array([demand]), s)
        wanted.append(fleets.target[0].tolist())
    settled = wanted[30:]
    for name, told in zip(FAMILY.names, zip(*settled, strict=True), strict=True):
        if name.startswith(("hold", "early", "keep", "reactive 1/60")):
            fours = told.count(4)
            assert told == (4,) * fours + (3,) * (len(told) - fours), name
            assert 30 <= fours < 60, name


def test_a_fleet_that_is_full_every_other_bin_keeps_what_it_then_needs() -> None:
    """Four replicas are full from 3.52 on, and the rule foresees 3.3: a fifth one came and went with every bin."""
    sizing, memory, frame = Sizing(), SizingMemory(), replace(FRAME, lasts_s=60.0)
    demand = np.tile([3.40, 3.60], 200)
    told = []
    for i, value in enumerate(demand):
        closed = of_one(BIN_S * np.array([i + 1.0]), np.array([value]), flat(3.3)[None])
        sizing.close([memory], [frame], closed)
        told.append(sizing.target(memory, FAMILY.names.index("hold 0.95")))
    settled = told[60:]
    assert set(settled) == {5}


def test_a_newsvendor_buys_certainty_and_leaves_the_tail_where_it_is_dear() -> None:
    rare = np.where(LEVELS < 0.99, 1.0, 20.0)[None]
    found, _ = FAMILY.wants(rare, rare, rare, np.ones((1, len(FAMILY.steady_shares))), np.ones((1, 3)), np.ones((1, 1)))
    wants = dict(zip(FAMILY.names, found[0].tolist(), strict=True))
    assert wants["clock vendor 2"] == 1
    assert wants["clock vendor 128"] == 20


def test_a_steady_rule_holds_the_level_above_which_its_share_of_the_last_days_came() -> None:
    """A tenth of the bins carry six times the demand: 40 % of it all. Half may lie above the low level."""
    past = np.zeros((1, BUCKETS), dtype=np.float32)
    for i in range(8640):
        remember(past, np.array([12.0 if i % 10 == 0 else 2.0]), BIN_S)
    low, high, all_of_it = levels_of(past, (0.5, 0.05, 0.0))[0].tolist()
    assert low == pytest.approx(2.0, rel=0.07)
    assert high == all_of_it == pytest.approx(12.0, rel=0.07)


def test_a_steady_rule_does_not_move_while_the_days_are_alike() -> None:
    rng = np.random.default_rng(5)
    fleets, s, wanted = fleets_of_one(), terms(), list[int]()
    for demand in rng.gamma(9.0, 0.5, (288, 30)):
        tell(fleets, demand, s)
        wants = fleets.wants[0, np.arange(len(wanted), len(wanted) + 30) % ROWS]
        wanted += wants[:, FAMILY.names.index("steady 0.01")].tolist()
    assert len(set(wanted[2000:])) <= 2


def test_a_memory_of_another_family_is_begun_anew() -> None:
    memory = SizingMemory()
    play(Sizing(), memory, np.full(500, 3.0))
    memory.shadow.steady = bytearray()
    assert not RuleSimulation(memory.shadow, FAMILY, 2).record.any()


def test_a_record_of_bins_of_another_width_is_begun_anew_and_what_users_got_stays() -> None:
    sizing, memory = Sizing(), SizingMemory()
    play(sizing, memory, np.full(500, 3.0))
    memory.account.seen, memory.account.missed = 1500.0, 15.0
    wide = replace(FRAME, bin_s=6 * BIN_S)
    assert sizing.ready(memory, BIN_S)
    memory.met(wide.bin_s)
    assert not sizing.ready(memory, wide.bin_s)
    assert (memory.account.seen, memory.account.missed) == pytest.approx((250.0, 2.5))
    sizing.close([memory], [wide], of_one(np.array([6000.0]), np.array([3.0]), np.array([flat(3.0, 0.0)])))
    assert memory.shadow.rows == 1


@pytest.mark.parametrize("name", ["targets", "wants", "demand", "record", "block", "past"])
def test_a_memory_that_was_cut_off_is_refused_where_it_is_read(name: str) -> None:
    memory = SizingMemory()
    play(Sizing(), memory, np.full(10, 3.0))
    saved = msgspec.to_builtins(memory.shadow)
    assert msgspec.convert(saved, SimulationMemory).rows == 10
    cut = base64.b64encode(base64.b64decode(saved[name])[:-4]).decode()
    with pytest.raises(msgspec.ValidationError, match=f"{name} holds"):
        msgspec.convert({**saved, name: cut}, SimulationMemory)


def test_a_clock_that_was_cut_off_is_refused_where_it_is_read() -> None:
    memory = SizingMemory()
    play(Sizing(), memory, np.full(10, 3.0))
    saved = msgspec.to_builtins(memory.clock)
    cut = base64.b64encode(base64.b64decode(saved["origins"])[:-8]).decode()
    with pytest.raises(msgspec.ValidationError, match="origins"):
        msgspec.convert({**saved, "origins": cut}, MinuteOfHourMemory)


def test_what_rules_of_another_family_told_their_fleets_is_nobodys_target() -> None:
    """As after an upgrade to more rules, until the first bin closes: their numbers lie elsewhere in the memory."""
    old, memory = Sizing(family=Family(utilizations=(0.5, 0.8))), SizingMemory()
    play(old, memory, np.full(500, 3.0))
    assert old.ready(memory, FRAME.bin_s)
    assert old.target(memory) is not None
    assert not Sizing().ready(memory, FRAME.bin_s)
    assert Sizing().target(memory) is None


def test_replicas_are_wanted_in_whole_nodes_where_one_more_costs_nothing() -> None:
    fleets = fleets_of_one()
    tell(fleets, np.array([2.3]), terms(bounds=(1, 7), quantum=4))
    assert set(fleets.target[0].tolist()) <= {4, 7}


# ---------------------------------------------------------------- the clock


def learn(clocks: MinuteOfHourBank, begin: int, demand: Floats, lead_bins: int) -> None:
    """These bins of the one clock closed, one after the other."""
    for number, seen in enumerate(demand.tolist(), start=begin):
        clocks.learn(np.array([[number]]), np.array([[seen]]), np.array([lead_bins]))


def after(clocks: MinuteOfHourBank, number: int, demand: float, lead_bins: int) -> Floats:
    """What it says when this bin has closed."""
    numbers, seen = np.array([[number]]), np.array([[demand]])
    return np.asarray(clocks.quantiles(numbers, seen, np.array([lead_bins]), LEVELS)[0, 0])


def test_the_clock_knows_the_minute_of_a_storm_and_not_its_hour() -> None:
    """Every second hour at :30, for two minutes, three times the demand; the lead time is three minutes."""
    clock, lead = MinuteOfHourBank([MinuteOfHourMemory()], BIN_S), 18
    series = np.full(4 * 8640, 2.0)
    for hour in range(0, 96, 2):
        series[hour * 360 + 180 : hour * 360 + 192] = 6.0
    learn(clock, 0, series, lead)
    calm = after(clock, len(series), 2.0, lead)
    learn(clock, len(series) + 1, np.full(180 + 4 - lead, 2.0), lead)
    storm = after(clock, len(series) + 180 + 5 - lead, 2.0, lead)
    high = FAMILY.levels.index(0.95)
    assert calm[high] < 2.5
    assert storm[high] > 5.5


def test_the_hull_leaves_out_who_costs_more_and_misses_more() -> None:
    missed, cost = np.array([0.0, 0.01, 0.02, 0.03, 0.04]), np.array([9.0, 5.0, 8.0, 4.9, 3.0])
    assert lower_hull(missed, cost) == [(0.0, 9.0), (0.01, 5.0), (0.04, 3.0)]


@pytest.mark.parametrize("bin_s", [150.0, 300.0, 3600.0])
def test_the_clock_bears_bins_wider_than_its_memory_of_the_level(bin_s: float) -> None:
    clock = MinuteOfHourBank([memory := MinuteOfHourMemory()], bin_s)
    learn(clock, 0, np.where(np.arange(300) % 7 == 0, 40.0, 0.0), 2)
    assert 0.0 <= memory.level <= 40.0


def test_the_clock_says_nothing_before_it_has_seen_enough() -> None:
    clock = MinuteOfHourBank([MinuteOfHourMemory()], BIN_S)
    learn(clock, 0, np.ones(359), 6)
    assert np.isnan(after(clock, 359, 1.0, 6)).all()


# ---------------------------------------------------------------- the price


def test_the_price_is_what_the_next_miss_less_costs_on_the_hull() -> None:
    missed, cost = np.array([0.0, 1.0, 2.0, 4.0]), np.array([10.0, 6.0, 5.9, 4.0])
    assert hull_slope(missed, cost, 0.5) == pytest.approx(4.0)
    assert hull_slope(missed, cost, 2.0) == pytest.approx(2.0 / 3.0)  # (2, 5.9) lies above the hull
    assert hull_slope(missed, cost, 4.0) == 0.0
    assert hull_slope(missed + 1.0, cost, 0.5) == math.inf


def record(shadow: RuleSimulation, missed: Floats, cost: Floats, demand: float = 1000.0) -> None:
    """The same faded sums in both records."""
    shadow.record[:, 0], shadow.record[:, 1] = missed, cost
    shadow.record[:, 3] = missed * missed / 1000.0
    shadow.memory.demand_sums, shadow.memory.weights = [demand, demand], [8640.0, 8640.0]


def family_of_two() -> tuple[RuleSimulation, Account]:
    """Rule 0 misses nothing and costs 2000, rule 1 misses 3 % and costs 1200; the others cost more than both."""
    shadow = RuleSimulation(SimulationMemory(), FAMILY, 1)
    missed, cost = np.full(FAMILY.size, 50.0), np.full(FAMILY.size, 5000.0)
    missed[:2], cost[:2] = (0.0, 30.0), (2000.0, 1200.0)
    record(shadow, missed, cost)
    return shadow, Account()


def test_a_debt_of_misses_is_repaid_and_a_credit_spent() -> None:
    settings = PriceSettings()
    shadow, account = family_of_two()
    account.seen, account.missed = 14000.0, 14000.0 * 0.02
    assert choose(shadow, account, 0.01, BIN_S, 18, settings) == 0
    assert account.share_now == pytest.approx(0.01 * settings.aim_share * settings.least_share)
    shadow, account = family_of_two()
    account.seen, account.missed = 14000.0, 0.0
    now = account.share_now
    assert choose(shadow, account, 0.01, BIN_S, 18, settings) in (0, 1)
    assert account.share_now > now
    assert account.share_now <= 0.01 * settings.aim_share * settings.most_share


def test_no_miss_is_bought_for_more_than_the_cap() -> None:
    shadow, account = family_of_two()
    shadow.record[:, 1, 0] = 1e6  # 33,000 replica-bins for a missed one
    assert choose(shadow, account, 0.01, BIN_S, 18, PriceSettings()) == 1
    assert account.capped
    assert account.price == pytest.approx(1600.0)
    assert choose(shadow, account, 0.001, BIN_S, 18, PriceSettings()) == 1
    assert account.price == pytest.approx(2000.0)
    shadow.record[:, 1, 0] = 1e9
    assert choose(shadow, account, 0.0001, BIN_S, 18, PriceSettings()) == 1
    assert account.price == pytest.approx(20000.0)


def test_before_much_was_seen_one_burst_does_not_make_everybody_buy() -> None:
    """All of rule 1's misses came in one event, or in thirty: only then is the dear rule followed."""
    for squares, rule in ((30.0**2, 1), (30.0, 0)):
        shadow, account = family_of_two()
        shadow.record[:, 3, 1] = squares
        account.seen, account.missed = 14000.0, 14000.0 * 0.02
        assert choose(shadow, account, 0.01, BIN_S, 18, PriceSettings()) == rule


def test_the_followed_rule_is_left_only_for_one_that_is_better_by_a_margin() -> None:
    shadow, account = family_of_two()
    first = choose(shadow, account, 0.01, BIN_S, 18, PriceSettings())
    bill = shadow.record[0, 1] + account.price * shadow.record[0, 0]
    other = 5
    shadow.record[:, 0, other], shadow.record[:, 1, other] = 0.0, bill[first] * 0.999
    assert choose(shadow, account, 0.01, BIN_S, 18, PriceSettings()) == first


def test_where_users_miss_less_than_the_replay_counts_a_cheaper_rule_meets_the_target() -> None:
    settings = PriceSettings()
    shadow, account = family_of_two()
    assert choose(shadow, account, 0.01, BIN_S, 18, settings) == 0
    a_day = 0.01 * 1000.0  # of the allowed misses; the record holds a day of demand
    account.compare(0.0, 8.0 * a_day, BIN_S, settings)
    assert account.believed(a_day, settings) == pytest.approx(
        settings.learn_prior_days / (settings.learn_prior_days + 8)
    )
    assert choose(shadow, account, 0.01, BIN_S, 18, settings) == 1


def test_what_may_happen_once_in_a_thousand_is_remembered_for_longer_than_once_in_a_hundred() -> None:
    assert [patience(share) for share in (0.05, 0.01, 0.0025, 1e-9)] == pytest.approx([1.0, 1.0, 2.0, 4.0])
    left = []
    for share in (0.05, 0.01, 0.001):
        memory, frame = SizingMemory(), replace(FRAME, allowed_share=share, bounds=(2, 50))
        play(Sizing(), memory, np.array([1.7] * 360 + [40.0] * 360 + [1.7] * 8640), frame)  # an hour of more, a day ago
        left.append(float(Sizing().shadow(memory, frame).record[0, MISSED].max()))
    assert left[0] == left[1]
    assert left[2] == pytest.approx(left[0] * 2.0 ** (1.0 - 1.0 / patience(0.001)), rel=0.05)


def test_the_replay_is_never_believed_to_count_too_few_and_never_hardly_at_all() -> None:
    settings, account = PriceSettings(), Account()
    assert account.believed(10.0, settings) == 1.0
    account.compare(500.0, 10.0, BIN_S, settings)
    assert account.believed(10.0, settings) == 1.0
    account.compare(0.0, 1e6, BIN_S, settings)
    assert account.believed(10.0, settings) == settings.least_believed


def test_what_users_missed_is_held_against_the_followed_rule_alone_and_against_none_in_a_rehearsal() -> None:
    sizing, memory = Sizing(), SizingMemory()
    play(sizing, memory, np.full(720, 5.0))
    assert (memory.account.users_missed, memory.account.replay_missed) == (0.0, 0.0)
    storm = of_one(memory_end(memory) + BIN_S * np.arange(1, 2), np.array([50.0]), flat(50.0)[None])
    sizing.close([memory], [FRAME], storm, [Got(running=6.0, missed_share=0.25)])
    assert memory.account.users_missed == pytest.approx(12.5)
    assert memory.account.replay_missed == pytest.approx(50.0)  # six of fifty replicas: all of them missed


def test_nothing_is_compared_before_a_rule_is_followed_nor_with_a_fleet_that_is_not_its_own() -> None:
    storm = np.array([50.0]), flat(50.0)[None]
    sizing, young = Sizing(), SizingMemory()
    play(sizing, young, np.full(60, 5.0))
    sizing.close([young], [FRAME], of_one(memory_end(young) + np.array([BIN_S]), *storm), [Got(6.0, 0.0)])
    assert young.account.replay_missed == 0.0
    old = SizingMemory()
    play(sizing, old, np.full(720, 5.0))
    sizing.close([old], [FRAME], of_one(memory_end(old) + np.array([BIN_S]), *storm), [Got(60.0, 0.0, compared=False)])
    assert old.account.replay_missed == 0.0


def test_a_rule_that_an_older_family_numbered_is_not_followed_and_stops_nobody() -> None:
    sizing, memory = Sizing(), SizingMemory()
    play(sizing, memory, np.full(720, 5.0))
    memory.account.rule, memory.account.replay_missed = FAMILY.size + 2, 7.0
    bin_ = of_one(memory_end(memory) + np.array([BIN_S]), np.array([5.0]), flat(5.0)[None])
    sizing.close([memory], [FRAME], bin_, [Got(6.0, 0.0)])
    assert 0 <= memory.account.rule < FAMILY.size
    assert memory.account.replay_missed == 0.0


# ---------------------------------------------------------------- the whole


def test_constant_demand_with_noise_settles_and_does_not_turn_back() -> None:
    """+-5 % on the demand: at most one change an hour after the first six hours, none undone within the lead time."""
    rng = np.random.default_rng(7)
    demand = 5.3 * (1.0 + 0.05 * rng.uniform(-1, 1, 8640))
    wanted = play(Sizing(), SizingMemory(), demand, spread=0.27)
    settled = wanted[6 * 360 :]
    changes = [i for i in range(1, len(settled)) if settled[i] != settled[i - 1]]
    assert len(changes) <= 18
    ups_after_downs = [
        b - a for a, b in pairwise(changes) if settled[a] < settled[a - 1] and settled[b] > settled[b - 1]
    ]
    assert all(gap > FRAME.lead_bins for gap in ups_after_downs)


def test_a_square_wave_of_two_lead_times_does_not_resonate() -> None:
    """Half of the time 2, half 8, with a lead time of half a period: it stays up, instead of being late each time."""
    period = 2 * FRAME.lead_bins
    demand = np.where(np.arange(2 * 8640) % period < FRAME.lead_bins, 2.0, 8.0)
    sizing, memory = Sizing(), SizingMemory()
    wanted = play(sizing, memory, demand)
    last_day = wanted[8640:]
    running = [min(wanted[max(0, i - FRAME.lead_bins) : i + 1]) for i in range(8640, 2 * 8640)]
    missed = sum(d for d, n in zip(demand[8640:], running, strict=True) if d > n) / demand[8640:].sum()
    assert missed <= 0.02
    assert sum(last_day) <= 1.3 * 9 * len(last_day)


def test_the_first_hour_follows_a_plain_quantile() -> None:
    sizing, memory = Sizing(), SizingMemory()
    play(sizing, memory, np.full(300, 2.8))
    assert sizing.rule(memory) == "hold 0.95"
    assert not sizing.ready(memory, BIN_S)
    assert sizing.target(memory) == 3
    play(sizing, memory, np.full(200, 3.0), start_s=3000.0)
    assert sizing.ready(memory, BIN_S)


def test_a_saved_memory_goes_on_with_the_same_targets() -> None:
    sizing, memory = Sizing(), SizingMemory()
    rng = np.random.default_rng(3)
    demand = rng.gamma(9.0, 0.5, 900)
    play(sizing, memory, demand[:500])
    saved = msgspec.convert(msgspec.json.decode(msgspec.json.encode(memory)), SizingMemory)
    assert saved == memory
    assert play(sizing, saved, demand[500:], start_s=5000.0) == play(sizing, memory, demand[500:], start_s=5000.0)


def test_more_misses_than_the_model_counts_lower_what_is_planned_with_and_fewer_raise_it() -> None:
    worse, better = SizingMemory(), SizingMemory()
    sizing = Sizing()
    for i in range(2000):
        bins = of_one(np.array([10.0 * (i + 1)]), np.array([3.0]), flat(3.0)[None])
        sizing.close([worse], [FRAME], bins, [Got(4.0, 0.2)])
        sizing.close([better], [FRAME], bins, [Got(2.9, 0.0)])
    assert worse.use < 1.0 < better.use
    assert worse.use >= 0.6
    assert better.use <= 1.3


def test_who_misses_nothing_for_days_plans_with_whole_replicas_again() -> None:
    """A single bad hour lowers what is planned with; with room to spare nothing else would ever say that it is over."""
    sizing, memory, shares = Sizing(), SizingMemory(), []
    slow = replace(FRAME, bin_s=300.0)
    for i in range(3 * 288):
        missed = 0.2 if 12 <= i < 24 else 0.0
        bins = of_one(np.array([300.0 * (i + 1)]), np.array([3.0]), flat(3.0)[None])
        sizing.close([memory], [slow], bins, [Got(6.0, missed)])
        shares.append(memory.use)
    assert shares[23] < 0.95
    assert shares[23 + 144] == pytest.approx(1.0 - (1.0 - shares[23]) / 2.0)  # half a day later
    assert shares[-1] > 0.99


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=60), st.integers(1, 400), st.integers(0, 3))
def test_targets_are_within_bounds_whatever_comes(series: list[float], lead_bins: int, least: int) -> None:
    sizing, memory = Sizing(), SizingMemory()
    frame = Frame(lead_bins, BIN_S, (least, 20), 0.01)
    wanted = play(sizing, memory, np.array(series), frame)
    assert all(least <= n <= 20 for n in wanted)


def test_nobody_asked_and_nothing_expected_wants_nothing() -> None:
    sizing, memory = Sizing(), SizingMemory()
    frame = Frame(18, BIN_S, (0, 4), 0.05)
    assert play(sizing, memory, np.zeros(400), frame)[-1] == 0


def test_the_rule_that_was_passed_over_is_named_with_the_price_from_which_it_would_be_followed() -> None:
    shadow, account = family_of_two()
    account.seen = 14000.0
    assert choose(shadow, account, 0.05, BIN_S, 18, PriceSettings()) == 1
    assert account.next_rule == 0
    trusted = float(shadow.expected_misses(0, 1.0)[1])
    assert account.next_price == pytest.approx((2000.0 - 1200.0) / trusted)


def test_a_fleet_begins_to_miss_before_it_is_full_and_fails_as_a_whole_only_well_above() -> None:
    carries = np.array([20.0, 11.0, 10.0, 8.0])
    assert missed_share(10.0, carries, 0.1).tolist() == pytest.approx([0.0, 0.0303, 1 / 3, 1.0], abs=1e-3)
    assert missed_share(10.0, carries, 0.0).tolist() == [0.0, 0.0, 0.0, 1.0]


def misses_of_one_fleet(replicas: int, demand: list[float], lasts_s: float) -> list[float]:
    """Of a fleet that stays as it is, bin by bin, as a share."""
    fleets, s = fleets_of_one(replicas, rows=1), terms(3, soft=0.12, lasts_s=lasts_s, bin_s=30.0)
    return [float(fleets.score(np.array([d]), s)[0, 0]) / d for d in demand]


def test_a_short_overload_hardly_hurts_where_requests_stay_and_a_long_one_is_a_miss_for_all() -> None:
    """Ten replicas, demand for 9.5, requests felt for four minutes: what is too much stays in progress and adds up."""
    missed = misses_of_one_fleet(10, [9.5] * 120, lasts_s=240.0)
    assert missed[0] < 0.25
    assert missed[-1] == 1.0
    assert missed == sorted(missed)


def test_what_an_overload_left_behind_is_felt_until_it_ended() -> None:
    calm = misses_of_one_fleet(10, [6.0] * 60, lasts_s=240.0)
    after = misses_of_one_fleet(10, [12.0] * 20 + [6.0] * 60, lasts_s=240.0)[20:]
    assert max(calm) == 0.0
    assert after[0] > 0.5
    assert after[-1] == 0.0


def test_a_replay_serves_after_the_mean_start_where_rules_plan_for_a_slow_one() -> None:
    """Demand doubles on one replica: no rule sees it come, and all miss for as long as the replay's starts take."""
    demand = np.concatenate([np.full(600, 0.8), np.full(60, 1.6)])
    missed = []
    for serve_bins in (12, 30):
        memory = SizingMemory()
        play(Sizing(), memory, demand, replace(FRAME, lead_bins=30, serve_bins=serve_bins))
        missed.append(float(Sizing().shadow(memory, FRAME).record[0, MISSED, FAMILY.names.index("early 0.95")]))
    assert 0.0 < missed[0] < 0.7 * missed[1]


def test_what_stays_on_the_bill_after_a_stop_makes_rules_that_flap_dear() -> None:
    """Rule 0 holds on and costs 2000; rule 1 misses as little for 1200, with 20 starts."""
    for stop_bins, rule in ((0, 1), (90, 0)):
        shadow, account = family_of_two()
        shadow.record[:, MISSED, 1], shadow.record[:, STARTS, 1] = 0.0, 20.0
        assert choose(shadow, account, 0.01, BIN_S, 18, PriceSettings(), stop_bins=stop_bins) == rule
