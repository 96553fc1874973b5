"""Reads engine steps as vLLM logs them (`--enable-logging-iteration-details`), or a CSV of those lines, into `Steps`.

The log tells how many tokens of KV are in use after a step, by whole blocks; the step law wants those that decodes
attend to (a last block is half full on average):

    K = usage * kv_tokens - half a block per request - the step's own prompt tokens

Prefill work is the context tokens and what "generation" requests have beyond one token each: a preempted request that
recomputes is logged as one generation request of many tokens. Not for fitting (fit.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from autoscaler.common.errors import TraceError
from policies.capacity.profile import Limits
from simulator.experiments.calibration.fit import Steps, read_rows

COLUMNS = ("ctx_reqs", "ctx_tokens", "gen_reqs", "gen_tokens", "elapsed_ms", "kv_usage_pct")
_LINE = re.compile(
    r"Iteration\(\d+\): (\d+) context requests, (\d+) context tokens, (\d+) generation requests, "
    r"(\d+) generation tokens, iteration elapsed time: ([\d.]+) ms, [\w ]*KV cache usage: ([\d.]+)%"
)


def read_steps(paths: Iterable[Path], limits: Limits) -> Steps:
    """Steps of logs and CSVs, told apart by the CSV's header. Errors: TraceError naming file, row and column."""
    return Steps.join(_file_steps(path, limits) for path in paths)


def _file_steps(path: Path, limits: Limits) -> Steps:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    is_csv = path.suffix == ".gz" or "elapsed_ms" in first or "ctx_reqs" in first
    rows = list(_csv_rows(path) if is_csv else _log_rows(path))
    if not rows:
        what = "no row with a scheduled token" if is_csv else "no line of --enable-logging-iteration-details"
        raise TraceError(f"{path}: {what} in it; allowed: vLLM's log with such lines, or a CSV {','.join(COLUMNS)}")
    return _steps(np.array(rows), limits)


def _log_rows(path: Path) -> Iterator[tuple[float, ...]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if found := _LINE.search(line):
                row = tuple(float(text) for text in found.groups())
                if row[1] + row[3] > 0 and row[4] > 0:
                    yield row


def _csv_rows(path: Path) -> Iterator[tuple[float, ...]]:
    for number, row in enumerate(read_rows(path), 2):
        values = tuple(_cell(path, number, row, name) for name in COLUMNS)
        if values[1] + values[3] > 0:
            if values[4] <= 0:
                raise TraceError(f"{path}: row {number}: elapsed_ms: {values[4]:g}; allowed: a number above 0")
            yield values


def _cell(path: Path, number: int, row: dict[str, str], name: str) -> float:
    if name not in row:
        raise TraceError(f"{path}: row {number}: column {name!r} is missing; needed: {','.join(COLUMNS)}")
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < float("inf") or (name == "kv_usage_pct" and value > 100):
        allowed = "a number from 0 to 100" if name == "kv_usage_pct" else "a number >= 0"
        raise TraceError(f"{path}: row {number}: {name}: {row[name]!r}; allowed: {allowed}")
    return value


def _steps(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], limits: Limits) -> Steps:
    ctx_reqs, ctx_tokens, gen_reqs, gen_tokens, elapsed_ms, usage_pct = rows.T
    recomputed = gen_tokens - gen_reqs
    prefill = ctx_tokens + recomputed
    decodes = np.maximum(gen_reqs - (recomputed > 0), 0.0)
    held = usage_pct / 100 * limits.kv_tokens - limits.block_size / 2 * (ctx_reqs + gen_reqs) - prefill
    kv = np.where(decodes > 0, np.maximum(held, 0.0), 0.0)
    prompts = np.maximum(ctx_reqs + (recomputed > 0), 1.0)
    return Steps(decodes, kv, prefill, prefill * prefill / prompts / 2, elapsed_ms / 1e3)
