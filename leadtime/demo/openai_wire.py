"""The OpenAI-compatible HTTP API as vLLM speaks it: request bodies in, server-sent events out.

For the emulated engines of the demo. A word counts as a token, text is made up, sampling parameters are accepted and
ignored. Pure: no server, no clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMPLETIONS = "/v1/completions"
CHAT_COMPLETIONS = "/v1/chat/completions"
MODELS = "/v1/models"
DONE = "data: [DONE]\n\n"
_DEFAULT_MAX_TOKENS = 16
_WORDS = ("one", "more", "token", "of", "an", "emulated", "answer", "that", "means", "nothing")


class BadRequest(ValueError):
    """A body that cannot be served; `status` is the HTTP status to answer with."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks for, in tokens."""

    model: str
    chat: bool
    prompt_tokens: int
    output_tokens: int
    stream: bool
    include_usage: bool


def parse(path: str, body: bytes, max_model_len: int) -> Question:
    """Read a request body. Errors: BadRequest, worded as one line."""
    try:
        data = json.loads(body)
    except ValueError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("model"), str):
        raise BadRequest("expected a JSON object with a model")
    chat = path == CHAT_COMPLETIONS
    prompt = _chat_tokens(data.get("messages")) if chat else _prompt_tokens(data.get("prompt"))
    limit = data.get("max_tokens", data.get("max_completion_tokens"))
    output = _DEFAULT_MAX_TOKENS if limit is None else limit
    if isinstance(output, bool) or not isinstance(output, int) or output < 1:
        raise BadRequest(f"max_tokens: {output!r}; allowed: a whole number >= 1")
    if prompt + output > max_model_len:
        raise BadRequest(f"{prompt} prompt tokens and max_tokens {output} are more than the model's {max_model_len}")
    options = data.get("stream_options")
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return Question(data["model"], chat, prompt, output, bool(data.get("stream")), usage)


def _prompt_tokens(prompt: object) -> int:
    if isinstance(prompt, str) and prompt.split():
        return len(prompt.split())
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return len(prompt)
    raise BadRequest("prompt: expected a text or a list of token ids, not empty")


def _chat_tokens(messages: object) -> int:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: expected a list of messages, not empty")
    words = 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise BadRequest("messages: expected objects with role and content (text)")
        words += len(message["content"].split())
    return max(words, 1)


def word(number: int) -> str:
    """The text of the number-th token of any answer."""
    return " " + _WORDS[number % len(_WORDS)]


@dataclass(frozen=True, slots=True)
class Answer:
    """Writes one answer. `created_s` is a Unix time in whole seconds."""

    id: str
    created_s: int
    question: Question

    def chunk(self, text: str, finish_reason: str | None) -> str:
        """One server-sent event with more text."""
        if self.question.chat:
            content: dict[str, Any] = {"delta": {"content": text}}
        else:
            content = {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return self._event({"choices": [choice]})

    def opening(self) -> str:
        """What a chat stream begins with, together with the first token; nothing for completions."""
        if not self.question.chat:
            return ""
        delta = {"role": "assistant", "content": ""}
        return self._event({"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]})

    def closing(self) -> str:
        """Usage, if it was asked for, and the end mark."""
        if not self.question.include_usage:
            return DONE
        return self._event({"choices": [], "usage": self._usage()}) + DONE

    def whole(self, text: str) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        if self.question.chat:
            content: dict[str, Any] = {"message": {"role": "assistant", "content": text.strip()}}
        else:
            content = {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": "length"}
        return self._document({"choices": [choice], "usage": self._usage()}, chunk=False)

    def _usage(self) -> Mapping[str, int]:
        prompt, output = self.question.prompt_tokens, self.question.output_tokens
        return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}

    def _event(self, content: Mapping[str, Any]) -> str:
        return f"data: {json.dumps(self._document(content, chunk=True), separators=(',', ':'))}\n\n"

    def _document(self, content: Mapping[str, Any], chunk: bool) -> dict[str, Any]:
        if self.question.chat:
            kind = "chat.completion.chunk" if chunk else "chat.completion"
        else:
            kind = "text_completion"
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.question.model, **content}


def models(names: list[str], created_s: int, max_model_len: int) -> dict[str, Any]:
    """The answer of /v1/models."""
    data = [
        {"id": n, "object": "model", "created": created_s, "owned_by": "leadtime-demo", "max_model_len": max_model_len}
        for n in names
    ]
    return {"object": "list", "data": data}


def error(message: str, status: int) -> dict[str, Any]:
    """The body of an error answer."""
    kind = "NotFoundError" if status == 404 else "BadRequestError"
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}
