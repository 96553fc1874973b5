"""A secret that another program repeats reaches no text of ours, in whatever way it is written."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.common.redaction import KEPT_S, MARK, SHORTEST, Secrets

CANARY = "cAnAry-Zx81+/=q~T0k3n"
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=SHORTEST, max_size=60)


def known(*values: str) -> Secrets:
    secrets = Secrets(lambda: 0.0)
    for value in values:
        secrets.remember(value)
    return secrets


WAYS = {
    "as it is": lambda s: s,
    "in a header": lambda s: f"Authorization: Bearer {s}\r\n",
    "as JSON": lambda s: json.dumps({"error": s}),
    "as Python writes it": lambda s: repr(s.encode()),
    "percent-encoded": lambda s: urllib.parse.quote(s, safe=""),
    "percent-encoded, a path": lambda s: urllib.parse.quote(s),
    "percent-encoded, a form": urllib.parse.quote_plus,
    "in HTML": html.escape,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64 of a header": lambda s: base64.b64encode(f"Bearer {s}".encode()).decode(),
    "Basic": lambda s: base64.b64encode(f"me:{s}".encode()).decode(),
}


@pytest.mark.parametrize("way", WAYS)
@given(value=PRINTABLE)
def test_a_secret_is_found_however_it_is_written(way: str, value: str) -> None:
    written = WAYS[way](value)
    assert MARK in known(value).blank(f"said: {written}.")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_a_secret_is_left_but_a_few_bits_at_the_edges_of_base64(way: str) -> None:
    left = known(CANARY).blank(WAYS[way](CANARY)).replace(MARK, "")
    assert not any(CANARY[i : i + 6] in left for i in range(len(CANARY) - 5))
    assert len(left) <= (14 if "base64" in way or way == "Basic" else 30)


def test_text_without_a_secret_stays_as_it_is() -> None:
    text = "application chat: 3 replicas; 7 waiting"
    assert known(CANARY).blank(text) == text
    line = b'{"why":"3 replicas"}\n'
    assert known(CANARY).blank_json(line) is line


def test_short_values_are_not_searched_for() -> None:
    assert known("abcde").blank("abcde") == "abcde"
    assert known("abcdef").blank("abcdef") == MARK


def test_a_secret_within_a_longer_one_leaves_no_rest_of_it() -> None:
    assert known("secret-part", "secret-part-and-more").blank("secret-part-and-more") == MARK


def test_a_rotated_token_is_known_for_a_while() -> None:
    now_s = [0.0]
    secrets = Secrets(lambda: now_s[0])
    secrets.remember("token-before")
    now_s[0] = KEPT_S
    secrets.remember("token-after")
    assert secrets.blank("token-before token-after") == f"{MARK} {MARK}"
    now_s[0] = 2 * KEPT_S + 1
    secrets.remember("token-last")
    assert secrets.blank("token-before") == "token-before"


def test_a_token_that_is_still_read_stays_known() -> None:
    now_s = [0.0]
    secrets = Secrets(lambda: now_s[0])
    for turn in range(5):
        now_s[0] = turn * KEPT_S
        secrets.remember("steady-token")
    now_s[0] += KEPT_S
    secrets.remember("another-token")
    assert secrets.blank("steady-token") == MARK


def test_many_tokens_take_bounded_memory_and_the_latest_are_known() -> None:
    secrets = known(*(f"token-number-{i:05}" for i in range(700)))
    assert secrets.blank("token-number-00699") == MARK
    assert secrets.blank("token-number-00000") != MARK


def test_names_stay_on_a_page_even_where_a_token_was_chosen_to_equal_one() -> None:
    line = json.dumps({"targets": {"team-b/chat": 3}, "deployment": "team-b/chat", "why": "said team-b/chat"}).encode()
    found = json.loads(known("team-b/chat").blank_json(line, frozenset({"deployment"})))
    assert found == {"targets": {"team-b/chat": 3}, "deployment": "team-b/chat", "why": f"said {MARK}"}
