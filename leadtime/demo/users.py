"""The demo's users: they send requests at their own times, whatever happens to earlier ones, and note what they got.

Open loop: a slow answer delays nobody else's question, and the clock of a request starts when it was due, not when the
client found time for it. HTTP only, as any OpenAI client would; it knows nothing of Ray or of who scales.
"""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp

from leadtime.demo.traffic import Demand, Request

Status = Literal["ok", "failed", "unfinished"]
_WORD = "hello "


@dataclass(slots=True)
class Served:
    """What one user got. Times in seconds: `at_s` since the traffic began, the others since the request was due."""

    deployment: str
    at_s: float
    status: Status = "unfinished"
    ttft_s: float | None = None
    last_s: float | None = None
    tokens: int = 0
    why: str = ""

    @property
    def mean_itl_s(self) -> float | None:
        """Mean seconds between tokens; None for an answer of one token or none."""
        if self.ttft_s is None or self.last_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.ttft_s) / (self.tokens - 1)

    def missed(self, ttft_s: float, now_s: float = float("inf")) -> bool:
        """Whether the first token came too late: later than promised, never, or already late and still not there."""
        if self.ttft_s is not None:
            return self.ttft_s > ttft_s
        return self.status != "unfinished" or now_s - self.at_s > ttft_s


class Users:
    """Sends every request of a pass to `base_url` and gathers what came of it in `served` (grows as they are sent)."""

    def __init__(
        self, base_url: str, model_of: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.served: list[Served] = []
        self._base_url = base_url
        self._model_of = model_of
        self._clock = clock

    async def play(self, requests: list[tuple[Demand, Request]], begin: float, patience_s: float) -> None:
        """Send all (sorted; `begin` on our clock is their time 0), then wait at most `patience_s` for the rest."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            under_way: set[asyncio.Task[None]] = set()
            try:
                for demand, request in requests:
                    await asyncio.sleep(max(0.0, begin + request.at_s - self._clock()))
                    served = Served(demand.deployment, request.at_s)
                    self.served.append(served)
                    task = asyncio.create_task(self._ask(session, demand, request, served, begin + request.at_s))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                if under_way:
                    await asyncio.wait(under_way, timeout=patience_s)
            finally:
                left = list(under_way)
                for task in left:
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)

    async def _ask(
        self, session: aiohttp.ClientSession, demand: Demand, request: Request, served: Served, due: float
    ) -> None:
        path, body = question(demand, request, self._model_of(demand.deployment))
        try:
            async with session.post(self._base_url + path, json=body) as answer:
                if answer.status != 200:
                    served.status, served.why = "failed", f"HTTP {answer.status}"
                    return
                async for line in answer.content:
                    self._take(line, served, due)
            done = served.status == "ok"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            done, served.why = False, str(error) or type(error).__name__
        if not done:
            served.status = "failed"

    def _take(self, line: bytes, served: Served, due: float) -> None:
        if not line.startswith(b"data: "):
            return
        if line.startswith(b"data: [DONE]"):
            served.status = "ok"
            return
        now_s = self._clock() - due
        chunk = json.loads(line[6:])
        if not chunk["choices"]:
            served.tokens = chunk["usage"]["completion_tokens"]
        elif _has_text(chunk["choices"][0]):
            served.ttft_s = now_s if served.ttft_s is None else served.ttft_s
            served.last_s = now_s


def _has_text(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    return bool(delta.get("content")) if isinstance(delta, dict) else bool(choice.get("text"))


def question(demand: Demand, request: Request, model: str) -> tuple[str, dict[str, object]]:
    """Path and body of one request, with the exact numbers of tokens."""
    body: dict[str, object] = {
        "model": model,
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if demand.chat:
        text = _WORD * request.prompt_tokens
        return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text.strip()}]}
    return "/v1/completions", {**body, "prompt": list(range(request.prompt_tokens))}


def write_requests(path: Path, served: Iterable[Served]) -> None:
    """What every user got, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("arrival_s", "deployment", "output_tokens", "ttft_s", "e2e_s", "mean_itl_s", "status"))
        for one in served:
            numbers = (one.ttft_s, one.last_s, one.mean_itl_s)
            shown = ["" if number is None else f"{number:.4f}" for number in numbers]
            writer.writerow((f"{one.at_s:.4f}", one.deployment, one.tokens, *shown, one.status))


def merged(demands: Iterable[tuple[Demand, Sequence[Request]]]) -> list[tuple[Demand, Request]]:
    """Everybody's requests in order of time."""
    everything = [(demand, request) for demand, requests in demands for request in requests]
    return sorted(everything, key=lambda pair: pair[1].at_s)
