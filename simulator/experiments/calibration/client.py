"""Runs closed batches against an OpenAI-compatible server (aiohttp), streamed, with prompts of random token ids.

Random prompts share no prefix, so nothing comes from a prefix cache. A batch that fails is cancelled as a whole, which
closes its connections. Not for what to measure and when to wait (endpoint.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from simulator.experiments.calibration.endpoint import Batch, BatchFailed, EndpointRefused, Throttled, Timing

_VOCABULARY = range(300, 2000)
"""Token ids that every vocabulary has, special tokens left out."""
_SILENT_S = 120.0
_RUNS = 2
_TRY_AGAIN = (408, 425, 500, 502, 504)
_WAIT = (429, 503)


@dataclass(frozen=True, slots=True)
class Answer:
    """When a request was sent, its first and its last token came (perf_counter seconds)."""

    sent_s: float
    first_s: float
    last_s: float


class HttpEndpoint:
    """An OpenAI-compatible server at `url` (without /v1), one model of it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, silent_s: float = _SILENT_S) -> None:
        self._session, self._url, self._model = session, url, model
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silent_s)
        self._random = random.SystemRandom()
        self._warm = False

    async def measure(self, batch: Batch) -> Timing:
        """One batch, the best of two runs of it: what disturbs a machine only makes it slower.

        Before the first batch a run is thrown away: engines compile and warm up. Errors: Throttled, BatchFailed,
        EndpointRefused.
        """
        if not self._warm:
            await self._run(batch)
            self._warm = True
        runs = [await self._run(batch) for _ in range(_RUNS)]
        return Timing(min(r.ttft_mean_s for r in runs), min(r.total_s for r in runs))

    async def _run(self, batch: Batch) -> Timing:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._complete(batch)) for _ in range(batch.concurrency)]
        except BaseExceptionGroup as errors:
            raise _most_telling(errors) from None
        answers = [task.result() for task in tasks]
        first_sent_s = min(a.sent_s for a in answers)
        ttft_s = [a.first_s - a.sent_s for a in answers]
        return Timing(sum(ttft_s) / len(ttft_s), max(a.last_s for a in answers) - first_sent_s)

    async def _complete(self, batch: Batch) -> Answer:
        body = {
            "model": self._model,
            "prompt": [self._random.choice(_VOCABULARY) for _ in range(batch.prompt_tokens)],
            "max_tokens": batch.output_tokens,
            "min_tokens": batch.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sent_s = time.perf_counter()
        times_s: list[float] = []
        tokens: int | None = None
        with _as_failed_batch():
            async with self._session.post(
                f"{self._url}/v1/completions", json=body, timeout=self._timeout, allow_redirects=False
            ) as response:
                await _check(response)
                async for event in _events(response):
                    if event.get("choices"):
                        times_s.append(time.perf_counter())
                    if usage := event.get("usage"):
                        tokens = usage.get("completion_tokens")
        if not times_s:
            raise BatchFailed("the endpoint streamed nothing")
        if tokens is not None and tokens != batch.output_tokens:
            raise EndpointRefused(
                f"{self._url}: gave {tokens} tokens where {batch.output_tokens} were asked for: it ignores "
                "min_tokens and ignore_eos, so that batches cannot be measured"
            )
        return Answer(sent_s, times_s[0], times_s[-1])


async def first_model(session: aiohttp.ClientSession, url: str) -> str:
    """The first model that the server lists. Errors: EndpointRefused."""
    try:
        with _as_failed_batch():
            async with session.get(
                f"{url}/v1/models", timeout=aiohttp.ClientTimeout(total=20.0), allow_redirects=False
            ) as response:
                await _check(response)
                return str(json.loads(await response.text())["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        raise EndpointRefused(f"{url}/v1/models: no list of models; is it an OpenAI-compatible server?") from None
    except Throttled:
        raise EndpointRefused(f"{url}/v1/models: throttled; try again later") from None
    except BatchFailed as failed:
        raise EndpointRefused(f"{url}: {failed}") from None


async def kv_tokens(session: aiohttp.ClientSession, url: str) -> int | None:
    """vLLM's usable KV cache by its /metrics (blocks less the null block); None where it does not say."""
    try:
        async with session.get(
            f"{url}/metrics", timeout=aiohttp.ClientTimeout(total=20.0), allow_redirects=False
        ) as response:
            text = await response.text() if response.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    line = next((x for x in text.splitlines() if x.startswith("vllm:cache_config_info{")), "")
    found = [re.search(rf'\b{name}="(\d+)"', line) for name in ("num_gpu_blocks", "block_size")]
    blocks, size = (int(f[1]) if f else 0 for f in found)
    return (blocks - 1) * size if blocks > 1 and size else None


@contextlib.contextmanager
def _as_failed_batch() -> Any:
    """What can happen to a connection, as BatchFailed."""
    try:
        yield
    except TimeoutError:
        raise BatchFailed("no answer, or silence in the middle of a stream") from None
    except (aiohttp.ClientError, OSError) as error:
        raise BatchFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None


async def _check(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status == 200:
        return
    if status in _WAIT:
        raise Throttled(retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC)))
    text = " ".join((await response.text(errors="replace")).split())[:200]
    if status in _TRY_AGAIN:
        raise BatchFailed(f"HTTP {status}: {text}")
    raise EndpointRefused(f"{response.url.with_query(None)}: HTTP {status}: {text}")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON of every server-sent event."""
    async for raw in response.content:
        line = raw.decode("utf-8", "replace").strip()
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        try:
            event = json.loads(line[5:])
        except ValueError:
            raise BatchFailed("a line of the stream is no JSON") from None
        if isinstance(event, dict):
            if event.get("error"):
                raise BatchFailed(f"an error in the stream: {str(event['error'])[:200]}")
            yield event


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (a number, or an HTTP date); None where it says nothing usable."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _most_telling(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """One error for a batch: a refusal says more than throttling, throttling more than a failure."""
    for kind in (EndpointRefused, Throttled, BatchFailed):
        if found := errors.subgroup(kind):
            return found.exceptions[0]
    return errors.exceptions[0]
