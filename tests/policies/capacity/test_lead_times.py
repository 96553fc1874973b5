"""Learned lead times: priors count, observations fade, an overdue start is news."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import LeadPath
from policies.base.durations import Duration
from policies.capacity.lead_times import (
    StageBook,
    StagePriors,
    image_pull_key,
    lead_times,
    provision_key,
    replica_key,
    shares,
    stages,
    worker_start_key,
)

PRIOR = Duration.from_median_p99(150.0, 420.0)
KEY = provision_key("h100")
PRIORS = StagePriors(PRIOR, Duration(40.0, 0.4), Duration(20.0, 0.4), Duration(90.0, 0.3))


def seen(*seconds: float) -> StageBook:
    book = StageBook()
    for i, value in enumerate(seconds):
        book.observe(KEY, value, 1000.0 * i)
    return book


def test_the_prior_stands_until_something_is_seen() -> None:
    assert StageBook().estimate(KEY, PRIOR) == PRIOR


def test_one_observation_moves_the_estimate_only_part_of_the_way() -> None:
    found = seen(60.0).estimate(KEY, PRIOR)
    assert 60.0 < found.median_s < 150.0


def test_a_dozen_equal_starts_outweigh_the_prior() -> None:
    found = seen(*[60.0] * 12).estimate(KEY, PRIOR)
    assert found.median_s == pytest.approx(60.0, rel=0.05)
    assert found.quantile(0.9) < 80.0


def test_a_shift_is_within_the_0_9_quantile_after_two_starts_and_in_the_middle_after_six() -> None:
    book = seen(*[60.0] * 10)
    for i in range(2):
        book.observe(KEY, 240.0, 20_000.0 + 600.0 * i)
    assert book.estimate(KEY, PRIOR).quantile(0.9) >= 240.0
    for i in range(4):
        book.observe(KEY, 240.0, 22_000.0 + 600.0 * i)
    assert book.estimate(KEY, PRIOR).median_s > 180.0


def test_the_slowest_of_a_volley_are_not_taken_for_all() -> None:
    """Ten starts asked for together end in order of their length: the last few are the slowest, not the newest."""
    book = StageBook()
    lengths_s = [100.0, 110.0, 120.0, 130.0, 140.0, 150.0, 165.0, 185.0, 220.0, 300.0]
    for seconds in lengths_s:
        book.observe(KEY, seconds, 1000.0 + seconds)
    assert book.estimate(KEY, PRIOR).median_s == pytest.approx(145.0, rel=0.1)


def test_months_without_a_start_give_the_word_back_to_the_prior() -> None:
    fresh, old = seen(60.0, 60.0, 60.0), seen(60.0, 60.0, 60.0)
    fresh.observe(KEY, 60.0, 4000.0)
    old.observe(KEY, 60.0, 365 * 86400.0)
    assert old.estimate(KEY, PRIOR).median_s > fresh.estimate(KEY, PRIOR).median_s


def test_a_start_that_takes_longer_than_expected_pushes_the_estimate_up_and_an_early_one_does_not() -> None:
    book = seen(60.0, 60.0)
    before = book.estimate(KEY, PRIOR)
    book.observe_censored(KEY, 20.0, 3000.0)
    assert book.estimate(KEY, PRIOR) == before
    previous = before.quantile(0.9)
    for elapsed_s in (200.0, 400.0, 800.0):
        book.observe_censored(KEY, elapsed_s, 3000.0 + elapsed_s)
        now = book.estimate(KEY, PRIOR).quantile(0.9)
        assert now > previous
        previous = now


def test_looking_again_at_the_same_overdue_start_changes_nothing_more() -> None:
    once, often = seen(60.0), seen(60.0)
    for i in range(50):
        often.observe_censored(KEY, 290.0 + 0.2 * i, 3000.0 + i)
    once.observe_censored(KEY, 290.0 + 0.2 * 49, 3049.0)
    assert often.estimate(KEY, PRIOR) == once.estimate(KEY, PRIOR)


def test_the_end_of_an_overdue_start_replaces_what_was_feared() -> None:
    book = seen(60.0)
    book.observe_censored(KEY, 500.0, 3000.0)
    book.observe(KEY, 520.0, 3020.0)
    assert book.estimate(KEY, PRIOR) == seen_at([(60.0, 0.0), (520.0, 3020.0)]).estimate(KEY, PRIOR)


def seen_at(rows: list[tuple[float, float]]) -> StageBook:
    book = StageBook()
    for seconds, now_s in rows:
        book.observe(KEY, seconds, now_s)
    return book


def test_an_overdue_first_start_counts_without_any_history() -> None:
    book = StageBook()
    book.observe_censored(KEY, 600.0, 600.0)
    assert book.estimate(KEY, PRIOR).quantile(0.9) > PRIOR.quantile(0.9)


def test_a_stage_that_was_said_to_be_absent_is_learned_when_it_is_there() -> None:
    assert seen(30.0).estimate(KEY, Duration(0.0)).median_s == pytest.approx(30.0)


def test_the_three_paths_add_their_stages() -> None:
    times = lead_times(StageBook(), "chat/llm", "h100", PRIORS)
    assert times.free_gpu == PRIORS.replica
    assert times.warm_node.mean_s == pytest.approx(PRIORS.worker_start.mean_s + PRIORS.replica.mean_s)
    every = (PRIORS.provision, PRIORS.image_pull, PRIORS.worker_start, PRIORS.replica)
    assert times.new_node.mean_s == pytest.approx(sum(stage.mean_s for stage in every))


def test_without_a_pool_all_paths_are_the_replicas_own_start() -> None:
    times = lead_times(StageBook(), "chat/llm", None, PRIORS)
    assert times.free_gpu == times.warm_node == times.new_node == PRIORS.replica


def test_each_stage_learns_under_its_own_key() -> None:
    book = StageBook()
    keys = (provision_key("p"), image_pull_key("p"), worker_start_key("p"), replica_key("chat/llm"))
    for key in keys:
        book.observe(key, 10.0, 0.0)
    assert sorted(book.stages) == sorted(["p/provision", "p/image_pull", "p/worker_start", "chat/llm/replica"])


@given(st.lists(st.tuples(st.floats(0.0, 1e5), st.floats(0, 1e6), st.booleans()), max_size=20))
def test_a_saved_book_reads_back_bit_for_bit(rows: list[tuple[float, float, bool]]) -> None:
    book = StageBook()
    for seconds, now_s, censored in rows:
        (book.observe_censored if censored else book.observe)(KEY, seconds, now_s)
    again = msgspec.json.decode(msgspec.json.encode(book), type=StageBook)
    assert again == book
    assert again.estimate(KEY, PRIOR) == book.estimate(KEY, PRIOR)


@given(st.lists(st.floats(0.0, 1e6), max_size=20), st.floats(0.0, 1e4), st.floats(0.0, 1.5))
def test_an_estimate_is_always_a_duration(seconds: list[float], median_s: float, sigma: float) -> None:
    book = seen(*seconds)
    book.observe_censored(KEY, 1000.0, 1e6)
    found = book.estimate(KEY, Duration(median_s, sigma))
    assert found.quantile(0.5) <= found.quantile(0.9) <= found.quantile(0.99)


# ---------------------------------------------------------------- starts of which only the whole is seen


def test_the_stage_that_is_known_least_takes_the_surprise() -> None:
    known, vague = Duration(100.0, 0.01), Duration(50.0, 0.8)
    first, second = shares([known, vague], 400.0)
    assert first == pytest.approx(100.0, rel=0.02)
    assert second == pytest.approx(300.0, rel=0.02)


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 2)), min_size=1, max_size=4), st.floats(0.1, 5000))
def test_shares_add_up_to_the_whole_and_none_is_negative(stages_of: list[tuple[float, float]], seconds: float) -> None:
    parts = shares([Duration(median_s, sigma) for median_s, sigma in stages_of], seconds)
    assert sum(parts) == pytest.approx(seconds)
    assert min(parts) >= 0.0


def test_a_stage_that_is_absent_stays_absent() -> None:
    assert shares([Duration(0.0), Duration(30.0, 0.3)], 100.0) == [0.0, pytest.approx(100.0)]


@pytest.mark.parametrize("path", ["warm_node", "new_node"])
def test_starts_on_warm_and_new_nodes_teach_the_whole_of_their_path(path: LeadPath) -> None:
    book, parts = StageBook(), stages("d", "p", path, PRIORS)
    expected_s = sum(prior.median_s for prior in parts.values())
    for i in range(8):
        book.observe_together(parts, 3.0 * expected_s, 600.0 * i)
    assert lead_times(book, "d", "p", PRIORS).path(path).median_s == pytest.approx(3.0 * expected_s, rel=0.12)


def test_what_is_measured_by_itself_is_not_learned_twice() -> None:
    book, parts = StageBook(), stages("d", "p", "new_node", PRIORS)
    book.observe_together(parts, 5000.0, 0.0, [provision_key("p")])
    assert set(book.stages) == {image_pull_key("p"), worker_start_key("p"), replica_key("d")}
