"""What a message means, and what of it is kept: nobody's word is taken for more than it can be."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.clients.mqtt import key_of, topic_of
from autoscaler.core.types import Hint
from autoscaler.sources.hint_messages import MOST_HINTS, MOST_PER_DEPLOYMENT, MOST_PER_NAMESPACE, RESULTS, HintBook
from policies.base import DeploymentKey
from tests.mqtt.messages import KEY, NOW_S, TOPIC, message, moment


def took(book: HintBook, payload: bytes, topic: str = TOPIC, now_s: float = NOW_S) -> str:
    (taken,) = book.take(topic, payload, now_s)
    assert (taken.why == "") == (taken.result in ("accepted", "unchanged", "withdrawn"))
    return taken.result


def why(payload: bytes, topic: str = TOPIC) -> str:
    (taken,) = HintBook("leadtime").take(topic, payload, NOW_S)
    assert taken.result == "malformed"
    return taken.why


@pytest.fixture
def book() -> HintBook:
    return HintBook("leadtime")


def test_a_hint_says_what_the_contract_says(book: HintBook) -> None:
    more = {"prompt_tokens": 2000, "output_tokens": 300, "confidence_fraction": 0.7, "asked_by": "marketing"}
    assert took(book, message(**more, end_at="2027-01-15T10:10:00+01:00")) == "accepted"
    expected = Hint("launch", KEY, NOW_S + 600, NOW_S + 4200, 40.0, None, 0.7, 2000.0, 300.0, "marketing")
    assert book.hints(NOW_S) == (expected,)


def test_without_a_name_it_was_asked_for_over_mqtt(book: HintBook) -> None:
    took(book, message(rps=None, multiplier=2.5))
    (hint,) = book.hints(NOW_S)
    assert (hint.multiplier, hint.rps, hint.asked_by) == (2.5, None, "MQTT")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'{"id": NaN}', "not JSON"),
        (b'"launch"', "expected a JSON object"),
        (b"[]", "an empty list; an empty payload withdraws hints"),
        (b" " * 20_000, "longer than 16384 bytes"),
        (message(id=None), "id: missing; allowed: up to 200 printable characters"),
        (message(id=7), "id: 7; allowed: up to 200 printable characters"),
        (message(id="a\nb"), "id: 'a\\nb'; allowed: up to 200 printable characters"),
        (message(id="x" * 201), f"id: '{'x' * 56}...; allowed: up to 200 printable characters"),
        (message(rps=None), "exactly one of rps and multiplier is needed"),
        (message(multiplier=2), "exactly one of rps and multiplier is needed"),
        (message(rps="40"), "rps: '40'; allowed: a number from 0 to 1000000"),
        (message(rps=True), "rps: True; allowed: a number from 0 to 1000000"),
        (message(rps=-1), "rps: -1; allowed: 0 to 1000000"),
        (message(rps=1e300), "rps: 1e+300; allowed: 0 to 1000000"),
        (message(rps=None, multiplier=0.5), "multiplier: 0.5; allowed: 1 to 100"),
        (message(rps=None, multiplier=1e9), "multiplier: 1000000000; allowed: 1 to 100"),
        (message(confidence_fraction=1.5), "confidence_fraction: 1.5; allowed: 0 to 1"),
        (message(prompt_tokens=0), "prompt_tokens: 0; allowed: 1 to 10000000"),
        (message(confidence_fractoin=0.5), "unknown field 'confidence_fractoin'; did you mean 'confidence_fraction'?"),
        (message(start_at=None), "start_at: missing; allowed: a time with its zone such as 2026-01-31T12:00:05Z"),
        (message(start_at="2027-01-15T09:00:00"), "start_at: '2027-01-15T09:00:00'; allowed: a time with its zone"),
        (message(start_at="2027-02-30T09:00:00Z"), "start_at: '2027-02-30T09:00:00Z'; allowed: a time with its zone"),
        (message(start_at=NOW_S), "start_at: 1800000000.0; allowed: a time with its zone"),
        (message(end_at=moment(NOW_S + 600)), "end_at: '2027-01-15T08:10:00Z'; allowed: after start_at"),
        (message(end_at="9999-12-31T23:59:59Z"), "start_at and end_at: begins or lasts longer than a year"),
        (message(issued_at=moment(NOW_S + 7200)), "issued_at: '2027-01-15T10:00:00Z' lies ahead; allowed: "),
    ],
)  # fmt: skip
def test_what_is_malformed_or_absurd_is_named(payload: bytes, says: str) -> None:
    assert why(payload).startswith(says)


@pytest.mark.parametrize(
    "topic",
    [
        "leadtime/hints/default/local/chat", "leadtime/hints/a/b/c/d/e", "leadtime/hints/a/b//d", "other/hints/a/b/c/d",
        "leadtime/hints/a/b/c/d%2Fe", "leadtime/hints/a/b/c/%0A", "leadtime/plans/a/b/c/d",
    ],
)  # fmt: skip
def test_a_topic_that_names_no_deployment_is_malformed(topic: str) -> None:
    assert why(message(), topic).startswith("the topic names no deployment; expected leadtime/hints/NAMESPACE/")


def test_fields_that_we_do_not_know_and_that_are_no_slip_are_ignored(book: HintBook) -> None:
    assert took(book, message(campaign="spring", version=3)) == "accepted"


@given(st.tuples(*[st.text(min_size=1).filter(lambda t: "/" not in t and t.isprintable())] * 4))
def test_topics_name_deployments_there_and_back(parts: tuple[str, str, str, str]) -> None:
    key = DeploymentKey(*parts)
    topic = topic_of("team/leadtime", "hints", key)
    assert not set("+#") & set(topic)
    assert key_of("team/leadtime", "hints", topic) == key


@given(st.binary(max_size=200))
@example(json.dumps([{}] * 3).encode())
def test_no_payload_whatever_breaks_it(payload: bytes) -> None:
    book = HintBook("leadtime")
    assert all(taken.result in RESULTS for taken in book.take(TOPIC, payload, NOW_S))


@given(
    st.dictionaries(
        st.sampled_from(["id", "start_at", "end_at", "rps", "multiplier", "confidence_fraction", "prompt_tokens",
                         "issued_at", "asked_by"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.none()),
                  st.just("2027-01-15T09:00:00Z"), st.just("2027-01-15T23:00:00Z")),
    )
)  # fmt: skip
def test_no_json_whatever_gives_a_hint_out_of_bounds(said: dict[str, object]) -> None:
    book = HintBook("leadtime")
    book.take(TOPIC, json.dumps(said).encode(), NOW_S)
    for hint in book.hints(NOW_S):
        assert 0 <= (hint.rps or 0) <= 1e6
        assert 1 <= (hint.multiplier or 1) <= 100
        assert 0 <= hint.confidence_fraction <= 1
        assert hint.start_at_s < hint.end_at_s


# ---------------------------------------------------------------- the book


def test_the_same_again_changes_nothing_and_a_change_replaces(book: HintBook) -> None:
    assert [took(book, message()), took(book, message()), took(book, message(rps=50))] == [
        "accepted", "unchanged", "accepted",
    ]  # fmt: skip
    assert [hint.rps for hint in book.hints(NOW_S)] == [50.0]


def test_an_older_version_that_comes_late_is_outdated(book: HintBook) -> None:
    newer, older = message(rps=50, issued_at=moment(NOW_S)), message(rps=40, issued_at=moment(NOW_S - 60))
    assert [took(book, newer), took(book, older)] == ["accepted", "outdated"]
    assert [hint.rps for hint in book.hints(NOW_S)] == [50.0]


def test_an_empty_payload_withdraws_all_hints_of_the_deployment_and_no_others(book: HintBook) -> None:
    took(book, message(id="one"))
    took(book, message(id="two"))
    took(book, message(), topic="leadtime/hints/default/local/chat/other")
    assert took(book, b"") == "withdrawn"
    assert [str(hint.key) for hint in book.hints(NOW_S)] == ["chat/other"]


def test_a_withdrawn_version_that_comes_again_is_outdated_and_a_new_one_counts(book: HintBook) -> None:
    first, second = message(issued_at=moment(NOW_S - 60)), message(issued_at=moment(NOW_S))
    results = [took(book, payload) for payload in (first, b"", first, second)]
    assert results == ["accepted", "withdrawn", "outdated", "accepted"]


def test_without_issued_at_a_withdrawn_hint_can_be_announced_again(book: HintBook) -> None:
    assert [took(book, payload) for payload in (message(), b"", message())] == ["accepted", "withdrawn", "accepted"]


def test_a_hint_from_the_past_is_ignored_and_one_that_has_begun_counts(book: HintBook) -> None:
    assert took(book, message(start_at=moment(NOW_S - 7200), end_at=moment(NOW_S))) == "past"
    assert took(book, message(start_at=moment(NOW_S - 7200), end_at=moment(NOW_S + 1))) == "accepted"
    assert len(book.hints(NOW_S)) == 1
    assert book.hints(NOW_S + 1) == ()


def test_an_event_that_is_cut_short_is_over(book: HintBook) -> None:
    took(book, message())
    assert took(book, message(start_at=moment(NOW_S - 60), end_at=moment(NOW_S - 1))) == "past"
    assert book.hints(NOW_S) == ()


def test_a_list_brings_several_hints_and_a_bad_one_spoils_no_other(book: HintBook) -> None:
    several = [json.loads(message(id="one")), {"id": "two"}, json.loads(message(id="three", rps=7))]
    results = [taken.result for taken in book.take(TOPIC, json.dumps(several).encode(), NOW_S)]
    assert results == ["accepted", "malformed", "accepted"]
    assert [hint.id for hint in book.hints(NOW_S)] == ["one", "three"]


def test_a_flood_is_bounded_and_does_not_push_out_what_is_known(book: HintBook) -> None:
    took(book, message(id="known"))
    results = [took(book, message(id=f"flood-{i}")) for i in range(3 * MOST_PER_DEPLOYMENT)]
    assert results.count("too_many") == 2 * MOST_PER_DEPLOYMENT + 1
    assert took(book, message(id="known", rps=60)) == "accepted"
    assert {hint.id for hint in book.hints(NOW_S)} >= {"known", "flood-0"}
    assert len(book) == MOST_PER_DEPLOYMENT
    assert took(book, message(), topic="leadtime/hints/default/local/chat/other") == "accepted"


def flood(book: HintBook, namespace: str, count: int, start_s: float = NOW_S + 600) -> list[str]:
    """So many hints of a namespace, in as few messages as can be; what came of each."""
    came: list[str] = []
    for first in range(0, count, MOST_PER_DEPLOYMENT):
        numbers = range(first, min(count, first + MOST_PER_DEPLOYMENT))
        hints = [json.loads(message(id=f"h{i}", start_at=moment(start_s))) for i in numbers]
        for half in (hints[: len(hints) // 2], hints[len(hints) // 2 :]):  # a message has 16 KiB
            if half:
                topic = f"leadtime/hints/{namespace}/local/chat/d{first}"
                came += [taken.result for taken in book.take(topic, json.dumps(half).encode(), NOW_S)]
    return came


def test_a_namespace_has_its_own_bound_however_many_topics_it_invents(book: HintBook) -> None:
    results = flood(book, "hostile", MOST_PER_NAMESPACE + 100)
    assert (len(book), results.count("too_many")) == (MOST_PER_NAMESPACE, 100)
    assert took(book, message()) == "accepted"
    assert len(book.hints(NOW_S + 5000)) == 0, "what is over makes room"
    assert flood(book, "hostile", 10)[-1] == "accepted" or len(book) <= MOST_PER_NAMESPACE


def test_in_a_full_book_who_holds_little_takes_a_slot_from_who_holds_most(book: HintBook) -> None:
    for i in range(5):
        flood(book, f"hostile-{i}", MOST_PER_NAMESPACE, NOW_S + 1000 + i)
    assert len(book) == MOST_HINTS
    results = [taken.result for taken in book.take(TOPIC, message(), NOW_S)]
    assert results == ["accepted", "evicted"]
    assert len(book) == MOST_HINTS
    again = [taken.result for taken in book.take("leadtime/hints/hostile-4/local/chat/d0", message(id="more"), NOW_S)]
    assert again == ["too_many"]
    assert KEY in {hint.key for hint in book.hints(NOW_S)}


def test_what_was_withdrawn_is_remembered_within_bounds(book: HintBook) -> None:
    """A publisher that announces and withdraws for ever takes no more memory than one that does it once."""
    for i in range(400):
        topic = f"leadtime/hints/hostile/local/chat/d{i % 100}"
        hints = [json.loads(message(id=f"h{i}-{j}", issued_at=moment(NOW_S))) for j in range(60)]
        book.take(topic, json.dumps(hints).encode(), NOW_S)
        book.take(topic, b"", NOW_S)
    remembered = sum(len(of_key) for of_key in book._withdrawn.values())
    assert (len(book), remembered <= 32 * MOST_PER_DEPLOYMENT) == (0, True)
    first = message(issued_at=moment(NOW_S - 60))
    assert [took(book, payload) for payload in (first, b"", first)] == ["accepted", "withdrawn", "outdated"]


def test_what_others_withdraw_does_not_make_us_forget_what_was_withdrawn_here(book: HintBook) -> None:
    mine = message(issued_at=moment(NOW_S - 60))
    assert [took(book, mine), took(book, b"")] == ["accepted", "withdrawn"]
    for i in range(500):
        topic = f"leadtime/hints/hostile/local/chat/d{i}"
        book.take(topic, message(issued_at=moment(NOW_S)), NOW_S)
        book.take(topic, b"", NOW_S)
    assert took(book, mine) == "outdated"


def test_a_message_is_never_much_work(book: HintBook) -> None:
    many = book.take(TOPIC, json.dumps([{}] * 4000).encode(), NOW_S)
    assert len(many) == MOST_PER_DEPLOYMENT + 1
    assert (many[-1].result, many[-1].why) == ("too_many", "4000 hints in one message; allowed: 64")
    wide = {f"confidence_fractio{i}": 1 for i in range(500)}
    assert why(json.dumps(wide).encode()) == "500 fields; allowed: 32"
