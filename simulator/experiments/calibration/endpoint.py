"""Measures an endpoint with a bounded plan of closed batches: concurrency x prompt x output, politely, and resumably.

Which batches, in which order, when to wait and when to stop; every measured batch is appended to a progress file, and
a batch that is in it is not measured again. HTTP is in client.py, fitting in batches.py.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from autoscaler.common.errors import InputError, LeadtimeError
from autoscaler.common.escaping import csv_cell, no_formula
from autoscaler.common.safe_files import check_no_link, write_output
from policies.capacity.profile import Limits
from simulator.experiments.calibration.fit import read_rows
from simulator.experiments.observed import BATCH_COLUMNS, ClosedBatches, read_measured

_PROMPTS = (32, 128, 512, 1024, 2048, 4096)
_OUTPUTS = (24, 96)
_KV_SHARE = 0.9
"""Largest share of the KV cache that a batch takes: a preemption would spoil the measurement."""
_PAUSE_S = 0.2
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits after refusals in a row that name no time; after that many of them measuring stops."""
_REFUSALS_OF_A_SIZE = 3
"""Refusals of one batch after which a batch of this size is not tried again."""
_FAILURES = 3
_LONGEST_WAIT_S = 120.0


class Throttled(Exception):
    """The endpoint asks for patience: 429 or 503. `wait_s` is what Retry-After says, if anything."""

    def __init__(self, wait_s: float | None) -> None:
        super().__init__("the endpoint throttles")
        self.wait_s = wait_s


class BatchFailed(Exception):
    """A batch came to nothing (5xx, a broken connection, silence): worth another try."""


class EndpointRefused(LeadtimeError):
    """Asking again makes no sense (bad request, missing key, no such model)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of equal requests sent at once."""

    concurrency: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from the batch's first send: mean time to first token of its requests, and to the last token of all."""

    ttft_mean_s: float
    total_s: float


class Endpoint(Protocol):
    """Runs one batch. Errors: Throttled, BatchFailed, EndpointRefused."""

    async def measure(self, batch: Batch) -> Timing: ...


@dataclass(slots=True)
class Patience:
    """How time passes (replaced in tests), and until when measuring may go on."""

    until_s: float
    now_s: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class Measured:
    """What came of it: batches of the plan that are in the progress file now, and why it stopped early, if it did."""

    done: int
    planned: int
    resumed: int
    stopped: str | None = None
    notes: list[str] = field(default_factory=list)


def plan(limits: Limits, max_concurrency: int) -> list[Batch]:
    """Batches that the engine can hold at once, spread so that any beginning of the list covers all of it coarsely."""
    most = min(limits.max_num_seqs, max_concurrency)
    sizes = [2**k for k in range(16) if 2**k < most] + [most]
    batches = []
    for size, prompt, output in itertools.product(sizes, _PROMPTS, _OUTPUTS):
        blocks = -(-(prompt + output) // limits.block_size)
        if (
            prompt + output <= limits.max_model_len
            and size * blocks * limits.block_size <= _KV_SHARE * limits.kv_tokens
        ):
            batches.append(Batch(size, prompt, output))
    golden = 0.6180339887498949
    order = sorted(range(len(batches)), key=lambda i: (i * golden) % 1.0)
    return [batches[i] for i in order]


class Progress:
    """The progress file: measured batches as the CSV of closed batches, with the model that they are of."""

    def __init__(self, path: Path, model: str) -> None:
        """Errors: InputError for a file of another model, TraceError for one that cannot be read."""
        self.path, self._model = path, model
        self.done: set[Batch] = set()
        check_no_link(path)
        if not path.exists():
            return
        self._drop_torn_line()
        for row in read_rows(path):
            if row.get("model") != no_formula(model):
                raise InputError(
                    f"{path}: measured {row.get('model')!r}, not {model!r}; remove it, or choose another --out"
                )
        if measured := self.batches():
            columns = (measured.concurrency, measured.prompt_tokens, measured.output_tokens)
            self.done = {Batch(*row) for row in zip(*(c.tolist() for c in columns), strict=True)}

    def add(self, batch: Batch, timing: Timing) -> None:
        """Append one batch; it survives an interruption."""
        if not self.path.exists():
            write_output(self.path, ",".join((*BATCH_COLUMNS, "model")) + "\n")
        cells = (batch.concurrency, batch.prompt_tokens, batch.output_tokens)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(
                f"{','.join(map(str, cells))},{timing.ttft_mean_s:.6f},{timing.total_s:.6f},{csv_cell(self._model)}\n"
            )
        self.done.add(batch)

    def batches(self) -> ClosedBatches | None:
        """Everything measured so far; None where nothing is."""
        if not self.path.exists() or len(read_rows(self.path)) == 0:
            return None
        measured = read_measured(self.path)
        assert isinstance(measured, ClosedBatches)
        return measured

    def _drop_torn_line(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            self.path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")


async def measure(
    endpoint: Endpoint,
    batches: Sequence[Batch],
    progress: Progress,
    patience: Patience,
    seen: Callable[[float], None] | None = None,
) -> Measured:
    """Run the batches that the progress file lacks. Errors: EndpointRefused; everything else ends in `stopped`."""
    planned = set(batches)
    result = Measured(0, len(planned), len(planned & progress.done))
    campaign = _Campaign(endpoint, progress, patience, result)
    for batch in batches:
        if batch not in progress.done:
            await campaign.run(batch)
        if result.stopped:
            break
        if seen:
            seen(len(planned & progress.done) / len(planned))
    result.done = len(planned & progress.done)
    return result


@dataclass(slots=True)
class _Campaign:
    """Measuring under way: how often in a row it was refused or failed, and what is not asked for any more."""

    endpoint: Endpoint
    progress: Progress
    patience: Patience
    result: Measured
    refusals: int = 0
    failures: int = 0
    most: int = 1 << 30

    async def run(self, batch: Batch) -> None:
        """Measure one batch, again where that may help; without result where so many at once were throttled."""
        begun_at = self.refusals
        while batch.concurrency <= self.most and not self._must_stop():
            try:
                timing = await self.endpoint.measure(batch)
            except Throttled as throttled:
                await self._wait(throttled)
                if self.refusals - begun_at >= _REFUSALS_OF_A_SIZE and batch.concurrency > 1:
                    self.most = batch.concurrency - 1
                    self.result.notes.append(
                        f"so many at once were throttled: {batch.concurrency}; not asked for again"
                    )
            except BatchFailed as failed:
                self.failures += 1
                self.result.notes.append(str(failed))
                await self.patience.sleep(_BACKOFF_S[self.failures - 1])
            else:
                self.refusals = self.failures = 0
                self.progress.add(batch, timing)
                await self.patience.sleep(_PAUSE_S)
                return

    def _must_stop(self) -> bool:
        if self.result.stopped is None:
            if self.patience.now_s() >= self.patience.until_s:
                self.result.stopped = "the time is up (--max-minutes)"
            elif self.failures >= _FAILURES:
                self.result.stopped = f"{self.failures} failures in a row; the last: {self.result.notes[-1]}"
            elif self.refusals >= len(_BACKOFF_S):
                self.result.stopped = f"the endpoint throttled {self.refusals} times in a row"
        return self.result.stopped is not None

    async def _wait(self, throttled: Throttled) -> None:
        wait_s = _BACKOFF_S[self.refusals] if throttled.wait_s is None else throttled.wait_s
        self.refusals += 1
        if wait_s > _LONGEST_WAIT_S:
            self.result.stopped = f"the endpoint asks to wait {wait_s:.0f} s"
        else:
            await self.patience.sleep(wait_s)


def covered(measured: ClosedBatches, limits: Limits) -> dict[str, list[int]]:
    """What steps the batches exercised: ranges of decodes, attended KV tokens and prefill tokens."""
    longest = measured.prompt_tokens + measured.output_tokens
    prefill = np.minimum(measured.concurrency * measured.prompt_tokens, limits.max_num_batched_tokens)
    return {
        "decodes": [int(measured.concurrency.min()), int(measured.concurrency.max())],
        "kv_tokens": [int(measured.prompt_tokens.min()), int((measured.concurrency * longest).max())],
        "prefill_tokens": [int(measured.prompt_tokens.min()), int(prefill.max())],
    }
