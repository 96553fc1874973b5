"""What became of requests: the SLO, latencies in bounded memory, cold starts that were hidden, felt or withdrawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import Slo
from simulator.kernel.outcomes import (
    FAILED,
    OK,
    TIMED_OUT,
    UNFINISHED,
    Batches,
    Ended,
    Outcomes,
    StartWindow,
    cold_starts,
)
from simulator.kernel.samples import Samples

SLO = Slo(ttft_s=2.0, itl_s=0.05, target_fraction=0.99)
Request = tuple[float, float | None, float, int, int]
"""Arrival, TTFT (None: no token came), end, output tokens, status."""


def ended(*requests: Request) -> Ended:
    arrival, ttft, end, output, status = zip(*requests, strict=True)
    return Ended(
        arrival_s=np.array(arrival, float),
        prompt_tokens=np.full(len(arrival), 100),
        output_tokens=np.array(output),
        ttft_s=np.array([np.nan if t is None else t for t in ttft]),
        end_s=np.array(end, float),
        queue_s=np.zeros(len(arrival)),
        status=np.array(status),
    )


def outcomes(*requests: Request, slo: Slo = SLO, since_s: float = 0.0) -> Outcomes:
    found = Outcomes(slo, since_s, 7200.0)
    if requests:
        found.add(ended(*requests))
    return found


def test_a_request_is_within_the_slo_when_it_completed_with_both_parts_of_it() -> None:
    found = outcomes(
        (0, 1.0, 2.0, 30, OK),
        (0, 2.5, 3.0, 30, OK),  # first token late
        (0, 1.0, 9.0, 30, OK),  # tokens too far apart
        (0, 1.0, 1.0, 1, OK),  # one token has no gap
        (0, None, 1.0, 0, FAILED),
        (0, 1.0, 60.0, 5, TIMED_OUT),
        (0, None, 1.0, 0, UNFINISHED),
    )
    assert found.counts == [4, 1, 1, 1]
    assert found.within_slo == 2
    assert found.attainment_fraction == pytest.approx(2 / 7)
    assert found.ttft_s.count == 4
    assert found.itl_s.count == 3


def test_what_was_not_promised_cannot_be_missed() -> None:
    assert outcomes((0, 50.0, 60.0, 5, OK), slo=Slo(None, None)).within_slo == 1
    assert outcomes((0, 50.0, 60.0, 5, OK), slo=Slo(None, None)).misses.sum() == 0
    assert outcomes().attainment_fraction is None


def test_requests_before_the_window_are_left_out() -> None:
    found = outcomes((5, 1.0, 7.0, 2, OK), (15, 1.0, 17.0, 2, OK), since_s=10.0)
    assert found.requests == 1


def test_a_promise_is_broken_in_the_second_it_was_due_or_the_request_failed() -> None:
    found = outcomes(
        (10, 9.0, 30.0, 5, OK),
        (20, None, 20.5, 0, FAILED),
        (30, None, 100.0, 0, UNFINISHED),
        (40, None, 41.0, 0, UNFINISHED),
    )
    assert np.flatnonzero(found.misses).tolist() == [12, 20, 32]
    assert found.waits_s[[12, 20, 32]].tolist() == [9.0, 0.5, 70.0]


def test_the_worst_hour_is_judged_only_with_enough_requests() -> None:
    good, bad = (0.0, 1.0, 1.2, 5, OK), (3700.0, 9.0, 9.5, 5, OK)
    few = outcomes(*[good] * 600, *[bad] * 400)
    assert few.worst_hour_fraction == 1.0
    many = outcomes(*[good] * 600, *[bad] * 300, *[(3700.0, 1.0, 3701.2, 5, OK)] * 300)
    assert many.worst_hour_fraction == 0.5


def test_cold_starts_are_hidden_exposed_or_cancelled() -> None:
    found = outcomes((100, 9.0, 110.0, 5, OK), (101, 4.0, 110.0, 5, OK), (500, 9.0, 510.0, 5, OK))
    judged = cold_starts(
        [
            StartWindow(90.0, 103.5, cancelled=False),  # both promises broken at 102 and 103
            StartWindow(103.0, 200.0, cancelled=True),  # one of them: felt, though it was withdrawn
            StartWindow(200.0, 300.0, cancelled=False),
            StartWindow(300.0, 400.0, cancelled=True),
        ],
        found,
    )
    assert (judged.hidden, judged.exposed, judged.cancelled) == (1, 2, 1)
    assert judged.missed_requests == 2  # each once, though two starts were under way
    assert judged.waited_s == 13.0
    assert [kind for _, kind in judged.events] == ["exposed", "exposed", "hidden", "cancelled"]


# ---------------------------------------------------------------- distributions in bounded memory


@given(
    values=st.lists(st.floats(1e-4, 1e4), min_size=40, max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)
def test_the_sketch_is_within_half_a_percent_and_does_not_mind_the_pieces(values: list[float], cuts: list[int]) -> None:
    exact, sketch, whole = Samples(), Samples(exact_up_to=20), Samples(exact_up_to=0)
    array = np.array(values)
    whole.add(array)
    for piece in np.split(array, sorted(c for c in cuts if c <= len(values))):
        exact.add(piece)
        sketch.add(piece)
    assert exact.exact
    assert not sketch.exact
    assert (sketch.count, sketch.max) == (len(values), max(values))
    assert sketch.mean == pytest.approx(array.mean())
    levels = (0.5, 0.9, 0.99)
    assert sketch.quantiles(levels) == whole.quantiles(levels)
    for level, found in zip(levels, sketch.quantiles(levels), strict=True):
        below, above = np.quantile(array, level, method="lower"), np.quantile(array, level, method="higher")
        assert below * 0.995 <= (found or 0.0) <= above * 1.005


def test_large_numbers_of_values_have_exact_quantiles_to_a_quarter_percent() -> None:
    values = np.exp(np.random.default_rng(1).normal(-1.0, 1.2, 300_000))
    sketch = Samples(exact_up_to=1000)
    for piece in np.array_split(values, 37):
        sketch.add(piece)
    for level in (0.5, 0.9, 0.95, 0.99):
        assert sketch.quantiles((level,))[0] == pytest.approx(np.quantile(values, level), rel=0.0026)


def test_merging_keeps_exactness_where_it_can() -> None:
    one, two, sketch = Samples(), Samples(), Samples(exact_up_to=2)
    one.add(np.array([1.0, 2.0]))
    two.add(np.array([3.0, 4.0, 5.0]))
    sketch.add(np.array([3.0, 4.0, 5.0]))
    for other in (two, sketch):
        both = Samples()
        both.merge(one)
        both.merge(other)
        assert (both.count, both.mean, both.max) == (5, 3.0, 5.0)
        assert both.quantiles((0.5,))[0] == pytest.approx(3.0, rel=0.003)
        assert both.exact is other.exact


def test_no_values_have_no_distribution() -> None:
    empty = Samples()
    assert (empty.mean, empty.max, empty.quantiles((0.5,))) == (None, None, [None])


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_outcomes_are_the_same_whatever_pieces_requests_come_in(piece: int) -> None:
    rng = np.random.default_rng(3)
    count = 1000
    arrival_s = np.sort(rng.uniform(0.0, 3000.0, count))
    tokens = rng.integers(2, 200, count)
    ttft_s = rng.lognormal(-1.0, 1.5, count)
    everything = Ended(
        arrival_s, tokens, tokens, ttft_s, arrival_s + ttft_s + 0.02 * tokens, 0.1 * ttft_s, np.zeros(count, np.int64)
    )
    made = []
    for size in (piece, count):
        found = Outcomes(Slo(), 10.0, 3600.0)
        batches = Batches(found.add, size=64)
        for start in range(0, count, size):
            batches.add(everything.part(slice(start, start + size)))
        batches.close()
        made.append(found)
    one, other = made
    assert one.requests == other.requests > 900
    assert (one.within_slo, one.output_tokens) == (other.within_slo, other.output_tokens)
    assert one.ttft_s.mean == other.ttft_s.mean  # to the last bit
    assert one.e2e_s.quantiles((0.5, 0.99)) == other.e2e_s.quantiles((0.5, 0.99))
    assert one.waits_s.tolist() == other.waits_s.tolist()
