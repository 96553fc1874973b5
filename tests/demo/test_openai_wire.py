"""The OpenAI-compatible API: what clients may send and what they get back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leadtime.demo.openai_wire import (
    CHAT_COMPLETIONS,
    COMPLETIONS,
    DONE,
    Answer,
    BadRequest,
    Question,
    error,
    models,
    parse,
    word,
)
from leadtime.demo.traffic import DEMANDS, Request
from leadtime.demo.users import question


def body(**values: Any) -> bytes:
    return json.dumps({"model": "chat", **values}).encode()


def events(text: str) -> list[Any]:
    return [json.loads(e[6:]) for e in text.split("\n\n") if e and e != "data: [DONE]"]


def test_prompts_are_counted_in_words_or_token_ids() -> None:
    assert parse(COMPLETIONS, body(prompt="a b c"), 100).prompt_tokens == 3
    assert parse(COMPLETIONS, body(prompt=[1, 2, 3, 4]), 100).prompt_tokens == 4
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello there"}]
    assert parse(CHAT_COMPLETIONS, body(messages=messages), 100).prompt_tokens == 4


@pytest.mark.parametrize("demand", DEMANDS, ids=lambda d: d.deployment)
def test_what_the_demos_users_send_is_what_the_engine_reads(demand: Any) -> None:
    path, sent = question(demand, Request(0.0, 321, 17), "chat")
    read = parse(path, json.dumps(sent).encode(), 2048)
    assert read == Question("chat", demand.chat, 321, 17, stream=True, include_usage=True)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "a JSON object with a model"),
        (body(prompt=""), "prompt"),
        (body(prompt=["a"]), "prompt"),
        (body(prompt="a", max_tokens=0), "max_tokens: 0"),
        (body(prompt="a", max_tokens=True), "max_tokens: True"),
        (body(prompt="a b", max_tokens=99), "more than the model's 100"),
    ],
)
def test_a_bad_request_says_what_is_wrong(sent: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse(COMPLETIONS, sent, 100)


@pytest.mark.parametrize("messages", [None, [], ["x"], [{"role": "user"}], "hi"])
def test_bad_messages_are_refused(messages: Any) -> None:
    with pytest.raises(BadRequest, match="messages"):
        parse(CHAT_COMPLETIONS, body(messages=messages), 100)


def test_a_chat_stream_opens_with_the_role_and_closes_with_usage_and_done() -> None:
    asked = Question("chat", True, 5, 2, stream=True, include_usage=True)
    answer = Answer("id1", 1700000000, asked)
    text = answer.opening() + answer.chunk(word(0), None) + answer.chunk(word(1), "length") + answer.closing()
    assert text.endswith(DONE)
    opening, first, last, usage = events(text)
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["choices"][0]["delta"] == {"content": " one"}
    assert (first["choices"][0]["finish_reason"], last["choices"][0]["finish_reason"]) == (None, "length")
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert {e["object"] for e in (opening, first, last, usage)} == {"chat.completion.chunk"}


def test_a_completion_stream_has_no_opening_and_usage_only_when_asked_for() -> None:
    answer = Answer("id1", 1, Question("code", False, 5, 2, stream=True, include_usage=False))
    assert answer.opening() == ""
    assert answer.closing() == DONE
    assert events(answer.chunk(" x", None))[0]["choices"][0]["text"] == " x"


def test_an_answer_in_one_piece_carries_usage() -> None:
    whole = Answer("id1", 1, Question("chat", True, 5, 2, stream=False, include_usage=False)).whole(" one more")
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "one more"}
    assert whole["usage"]["total_tokens"] == 7


def test_models_and_errors_have_the_shapes_of_openai() -> None:
    assert [m["id"] for m in models(["chat", "code"], 1, 2048)["data"]] == ["chat", "code"]
    assert error("no", 404)["error"]["type"] == "NotFoundError"
