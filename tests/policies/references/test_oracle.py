"""What knowing the future is worth: needs by hand, the best plan of a level against every other, the bound below."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import DeploymentKey, PolicyError, Slo, TokenMix
from policies.base.durations import Duration
from policies.base.knowledge import KnownDeployment, KnownPool, KnownWorld
from policies.capacity.load import load_profile
from policies.references.oracle import OracleLeadOptions, OracleLeadPolicy, Steps, lower_bound
from policies.references.oracle_levels import Covered, Need, Run, Terms, cover, cover_all, needs_of
from policies.references.oracle_need import BIN_S, Traffic, best_capacity, overflow, work_of
from policies.registry import create_policy
from tests.policies.build import KEY, fleet, view

PROFILE = load_profile("llama-3.1-8b/h100/tp1")
FREE = Terms(lead_s=60.0, tail_s=40.0, begin_s=0.0, end_s=1000.0)

# ---------------------------------------------------------------- needs


def test_work_that_waits_longer_than_it_may_is_a_need_for_more() -> None:
    # Bins of 5 s; 6 replica-seconds come in each: one replica does 5, the queue grows by 1 up to 2 s of its time.
    over = overflow(np.array([6.0] * 5), 2.0, np.array([0.0, 1.0, 2.0]))
    assert over[:, 0].tolist() == [6.0] * 5
    assert over[:, 1].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert over[:, 2].tolist() == [0.0] * 5


def test_bins_of_overflow_become_needs_with_the_requests_that_would_miss() -> None:
    over = np.array([0.0, 1.0, 2.0, 0.0, 3.0])
    assert needs_of(over, np.full(5, 10.0), 0.0) == [Need(5.0, 15.0, 30.0), Need(20.0, 25.0, 30.0)]
    long = needs_of(np.full(30, 1.0), np.full(30, 10.0), 0.0)
    assert long == [Need(0.0, 60.0, 120.0), Need(60.0, 120.0, 120.0), Need(120.0, 150.0, 60.0)], "cut at the minutes"
    assert needs_of(over, np.full(5, 10.0), 10.0) == [Need(5.0, 15.0, 20.0), Need(20.0, 25.0, 30.0)]


def traffic(arrival_s: list[float], prompt: int = 800, output: int = 150) -> Traffic:
    n = len(arrival_s)
    return Traffic(
        np.array(arrival_s), np.full(n, prompt, np.int32), np.full(n, output, np.int32), np.zeros(n, np.int32)
    )


def test_all_work_is_counted_and_none_is_invented() -> None:
    """So many requests take so many replica-seconds as their rate takes replicas; the end may cut off a little."""
    arrivals = np.arange(0.0, 1200.0, 0.05).tolist()
    mix_rps = best_capacity(PROFILE, TokenMix(800, 150), Slo()).rps
    work = work_of(traffic(arrivals), PROFILE, Slo(), 1300.0)
    assert work.replica_s.sum() == pytest.approx(len(arrivals) / mix_rps, rel=1e-6)
    middle = work.replica_s[60:180] / BIN_S
    assert middle == pytest.approx(np.full(120, 20.0 / mix_rps), rel=0.02)
    assert (work.replica_s * work.requests_per_replica_s)[60:180].sum() == pytest.approx(20.0 * 600, rel=0.02)


def test_what_falls_due_after_the_end_is_no_work_of_the_last_minutes() -> None:
    """A steady load is as steady up to the end: requests that outlast it are not squeezed in before it."""
    known = traffic(np.arange(0.0, 1200.0, 0.05).tolist(), output=3000)
    until_the_end, longer = (work_of(known, PROFILE, Slo(), end_s).replica_s for end_s in (1200.0, 1400.0))
    assert until_the_end == pytest.approx(longer[:240])
    assert until_the_end[-1] == pytest.approx(until_the_end[200], rel=0.02)
    assert longer[240:].sum() > 0


def test_longer_requests_take_more_of_a_blocks_work() -> None:
    short, long = (
        traffic([float(t) for t in range(100)], 200, 50),
        traffic([float(t) for t in range(150, 250)], 2000, 400),
    )
    both = Traffic(*(np.concatenate([getattr(short, n), getattr(long, n)]) for n in Traffic.__slots__))
    by_bin = work_of(both, PROFILE, Slo(), 300.0).replica_s
    assert by_bin[30:].sum() > 5 * by_bin[:30].sum() > 0


# ---------------------------------------------------------------- one level


def test_a_gap_is_bridged_when_coming_back_costs_more() -> None:
    needs = [Need(200.0, 300.0, 1e9), Need(390.0, 500.0, 1e9)]
    # a gap of 90 s: staying costs 90, going and coming back 40 + 60
    covered = cover(needs, FREE, 1.0, there_at_start=False)
    assert covered.runs == (Run(140.0, 200.0, 500.0),)
    assert covered.billed_s == 60 + 300 + 40
    needs[1] = Need(410.0, 500.0, 1e9)
    covered = cover(needs, FREE, 1.0, there_at_start=False)
    assert covered.runs == (Run(140.0, 200.0, 300.0), Run(350.0, 410.0, 500.0))
    assert covered.billed_s == 60 + 100 + 40 + 60 + 90 + 40


def test_a_need_is_left_unserved_when_its_misses_are_cheaper() -> None:
    needs = [Need(200.0, 210.0, 3.0)]
    assert cover(needs, FREE, 36.0, there_at_start=False) == Covered(0.0, 3.0, ())  # 108 s against 60 + 10 + 40
    assert cover(needs, FREE, 37.0, there_at_start=False).misses == 0.0


def test_what_is_there_at_the_start_needs_no_lead_but_lingers() -> None:
    assert cover([], FREE, 1.0, there_at_start=True).billed_s == 40.0
    covered = cover([Need(80.0, 100.0, 1e9)], FREE, 1.0, there_at_start=True)
    assert covered.runs == (Run(0.0, 0.0, 100.0),)
    covered = cover([Need(500.0, 600.0, 1e9)], FREE, 1.0, there_at_start=True)
    assert covered.runs == (Run(0.0, 0.0, 0.0), Run(440.0, 500.0, 600.0))


def test_the_bill_is_cut_at_both_ends_and_closed_times_are_asked_before() -> None:
    terms = Terms(60.0, 40.0, begin_s=100.0, end_s=1000.0, closed=((400.0, 600.0),))
    assert terms.billed_s(50.0, 150.0) == 50.0
    assert terms.billed_s(990.0, 2000.0) == 10.0
    assert terms.asked_s(459.0) == 399.0 - 0.0
    assert terms.asked_s(500.0) == 399.0  # 440 is closed
    assert terms.asked_s(30.0) == 0.0


def brute_force(needs: list[Need], terms: Terms, price: float, there: bool) -> float:
    """Every choice of needs to serve and of gaps to bridge."""
    best = float("inf")
    for served in product((True, False), repeat=len(needs)):
        chosen = [n for n, s in zip(needs, served, strict=True) if s]
        missed = sum(n.misses for n, s in zip(needs, served, strict=True) if not s)
        for bridges in product((True, False), repeat=len(chosen)):
            runs: list[list[float]] = [[0.0, 0.0]] if there else []
            for need, bridge in zip(chosen, bridges, strict=True):
                if bridge and runs:
                    runs[-1][1] = need.end_s
                else:
                    runs.append([terms.asked_s(need.start_s), need.end_s])
            bill = sum(terms.billed_s(a, b + terms.tail_s) for a, b in runs)
            best = min(best, bill + price * missed)
    return best


spans = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 50)), max_size=5)


@settings(max_examples=200, deadline=None)
@given(spans, st.sampled_from([0.0, 0.5, 3.0, 1e9]), st.booleans(), st.integers(0, 200), st.integers(0, 200))
def test_a_levels_plan_is_the_best_of_all(
    gaps: list[tuple[int, int, int]], price: float, there: bool, lead: int, tail: int
) -> None:
    needs, at = [], 0.0
    for gap, length, misses in gaps:
        at += 5.0 * gap
        needs.append(Need(at, at + 5.0 * length, float(misses)))
        at += 5.0 * length
    terms = Terms(float(lead), float(tail), 50.0, 600.0)
    found = cover(needs, terms, price, there)
    assert found.billed_s + price * found.misses == pytest.approx(brute_force(needs, terms, price, there))


@settings(max_examples=50, deadline=None)
@given(st.lists(spans, min_size=1, max_size=3), st.integers(0, 120))
def test_the_bound_is_never_above_a_plan_with_so_few_misses(
    levels: list[list[tuple[int, int, int]]], budget: int
) -> None:
    all_needs = []
    for gaps in levels:
        at, needs = 0.0, []
        for gap, length, misses in gaps:
            at += 5.0 * gap
            needs.append(Need(at, at + 5.0 * length, float(misses)))
            at += 5.0 * length
        all_needs.append(needs)
    plan, bound = cover_all(all_needs, FREE, 0, float(budget))
    assert sum(c.misses for c in plan) <= budget + 1e-9
    assert bound <= sum(c.billed_s for c in plan) + 1e-6
    # the cheapest of all choices of needs to leave out that stays within the budget
    flat = [(j, i) for j, needs in enumerate(all_needs) for i in range(len(needs))]
    best = float("inf")
    for keep in product((True, False), repeat=len(flat)) if len(flat) <= 8 else ():
        kept = [[n for i, n in enumerate(needs) if keep[flat.index((j, i))]] for j, needs in enumerate(all_needs)]
        missed = sum(all_needs[j][i].misses for k, (j, i) in zip(keep, flat, strict=True) if not k)
        if missed <= budget:
            best = min(best, sum(cover(needs, FREE, 1e12, False).billed_s for needs in kept))
    assert bound <= best + 1e-6


# ---------------------------------------------------------------- a world


def world(rates: list[tuple[float, float, float]], end_s: float, **pool: object) -> KnownWorld:
    """Rates (from, to, req/s) of one deployment on one pool of single GPUs."""
    arrivals = [t for a, b, rps in rates for t in np.arange(a, b, 1.0 / rps).tolist()]
    d = KnownDeployment(KEY, traffic(sorted(arrivals)), PROFILE, Slo(), 1, ("h100",), 1, 8, 1, Duration(30.0))
    known = {"floor_nodes": 1, "initial_nodes": 1, "max_nodes": 8} | pool
    return KnownWorld(
        0.0,
        end_s,
        (d,),
        (KnownPool("h100", 1, 1, node_s=Duration(70.0), linger_s=200.0, price_usd_per_hour=36.0, **known),),  # type: ignore[arg-type]
    )


def test_the_bound_of_a_step_up_and_down_by_hand() -> None:
    each = best_capacity(PROFILE, TokenMix(800, 150), Slo()).rps
    steps = [(0.0, 1000.0, 0.5 * each), (1000.0, 1600.0, 1.5 * each), (1600.0, 3000.0, 0.5 * each)]
    (bound,) = lower_bound(world(steps, 3000.0))
    # The first node all along; the second 100 s ahead (30 + 70), the 600 s of the step, and 200 s after it. Of the
    # requests of 2100 replica-seconds those of 21 may miss, and without the second those of 300 would: that share of
    # it is not needed.
    assert bound.node_s == pytest.approx(3000 + (100 + 600 + 200) * (1 - 21 / 300), abs=10)
    assert bound.cost_usd == pytest.approx(bound.node_s * 0.01)
    assert bound.starts == 1
    assert [bound.nodes_at(t) for t in (0.0, 800.0, 1300.0, 2999.0)] == [1, 1, 2, 1]


def test_a_budget_of_misses_buys_out_a_short_peak() -> None:
    each = best_capacity(PROFILE, TokenMix(800, 150), Slo()).rps
    steps = [(0.0, 1000.0, 0.5 * each), (1000.0, 1015.0, 1.8 * each), (1015.0, 3000.0, 0.5 * each)]
    (bound,) = lower_bound(world(steps, 3000.0))
    assert bound.node_s == pytest.approx(3000.0)
    assert 0 < bound.misses <= 0.01 * 3000 * each


def test_an_achievable_plan_asks_one_lead_time_before() -> None:
    each = best_capacity(PROFILE, TokenMix(800, 150), Slo()).rps
    steps = [(0.0, 1000.0, 0.5 * each), (1000.0, 1600.0, 1.5 * each), (1600.0, 3000.0, 0.5 * each)]
    policy = OracleLeadPolicy(OracleLeadOptions(density=1.0)).with_workload(world(steps, 3000.0))
    plan = policy.plan[KEY.full]
    assert plan.replicas == (1, 2, 1)
    assert plan.at_s[1] == pytest.approx(905.0, abs=10)


def test_before_a_stock_out_it_asks_for_what_is_needed_in_it_and_for_no_more() -> None:
    """Long requests come at the same rate until the end, in the midst of a stock-out: no last-minute peak is bought."""
    each = best_capacity(PROFILE, TokenMix(800, 3000), Slo()).rps
    known = world([(0.0, 10.0, 1.0)], 3000.0, closed=((1000.0, 3000.0),))
    low, high = np.arange(0.0, 1500.0, 2.0 / each), np.arange(1500.0, 3000.0, 1.0 / (1.7 * each))
    deployment = replace(known.deployments[0], traffic=traffic([*low.tolist(), *high.tolist()], output=3000))
    known = replace(known, deployments=(deployment,))
    plan = OracleLeadPolicy(OracleLeadOptions(density=1.0)).with_workload(known).plan[KEY.full]
    assert plan.replicas == (1, 2, 1)
    assert plan.at_s[1] == 999.0
    assert plan.at_s[2] > 2900.0


def test_alone_in_its_pool_it_fills_whole_nodes() -> None:
    each = best_capacity(PROFILE, TokenMix(800, 150), Slo()).rps
    pool = KnownPool("h100", 2, 1, 1, 1, 8, Duration(70.0), 200.0, 72.0)
    assert pool.replicas_per_node(1) == 2
    assert KnownPool("x", 8, 4, 0, 0, 1, Duration(1.0), 1.0, None).replicas_per_node(3) == 2
    known = world([(0.0, 1000.0, 0.5 * each), (1000.0, 1600.0, 2.5 * each), (1600.0, 3000.0, 0.5 * each)], 3000.0)
    plan = OracleLeadPolicy(OracleLeadOptions(density=1.0)).with_workload(replace(known, pools=(pool,))).plan[KEY.full]
    assert plan.replicas == (2, 4, 2)


def test_it_proposes_the_most_until_the_next_decision() -> None:
    steps = Steps((0.0, 100.0, 103.0, 200.0), (1, 3, 2, 1))
    assert [steps.most(t, t + 5.0) for t in (0.0, 95.0, 96.0, 100.0, 103.0, 200.0)] == [1, 1, 3, 3, 2, 1]
    policy = OracleLeadPolicy(OracleLeadOptions(density=1.0))
    policy.plan = {KEY.full: steps}
    assert policy.propose(fleet(view()), policy.new_state(), 96.0).replicas[KEY].replicas == 3


def test_deployments_that_share_a_pool_are_one_problem() -> None:
    base = world([(0.0, 10.0, 1.0)], 100.0)
    d, pool = base.deployments[0], base.pools[0]

    def with_pools(name: str, *pools: str) -> KnownDeployment:
        return replace(d, key=DeploymentKey.parse(name), pools=pools)

    members = (with_pools("a/x", "p"), with_pools("b/x", "q"), with_pools("c/x", "r"), with_pools("d/x", "p", "q"))
    shared = KnownWorld(0.0, 100.0, members, tuple(replace(pool, name=n) for n in "pqr"))
    groups = [([str(d.key) for d in ds], [p.name for p in ps]) for ds, ps in shared.groups()]
    assert sorted(groups) == [(["a/x", "b/x", "d/x"], ["p", "q"]), (["c/x"], ["r"])]


def test_a_density_that_is_no_number_is_named() -> None:
    with pytest.raises(PolicyError, match="option density: null; only the simulator can find it"):
        OracleLeadPolicy(OracleLeadOptions()).with_workload(world([(0.0, 10.0, 1.0)], 100.0))
    with pytest.raises(PolicyError, match="option density: chat/llm: None; allowed: a number > 0"):
        create_policy("oracle_lead", {"density": {"x/y": 1.0}}).with_workload(world([(0.0, 10.0, 1.0)], 100.0))  # type: ignore[attr-defined]
