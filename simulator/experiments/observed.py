"""Requests observed on a real engine, and the same requests on a simulated one.

Two kinds of files: observed requests (one row each, at their own arrival times) and closed batches (`concurrency` equal
requests sent at once, one batch after the other). Not for comparing (fidelity.py) or fitting (calibration/requests.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoscaler.common.errors import TraceError
from policies.capacity.profile import EngineProfile
from simulator.dataplane.plane import DataPlane, Status
from simulator.experiments.calibration.fit import read_rows

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

REQUEST_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s", "status")
BATCH_COLUMNS = ("concurrency", "prompt_tokens", "output_tokens", "ttft_mean_s", "total_s")
_APART_S = 1e5
"""Between simulated batches: far more than any batch takes."""
_SEND_GAP_S = 0.0005
"""A client sends a batch one request after the other, so that an idle engine starts with the first alone. Of 0, 0.5, 1,
2 and 3 ms this explained measured batches best (4.4 % mean error; 5.6 % with 0)."""


@dataclass(frozen=True, slots=True)
class ObservedRequests:
    """Sorted by arrival, shape (n,); `ok` are to be compared, the others load the engine. ITL is NaN for one token."""

    source: str
    arrival_s: Array
    prompt_tokens: Ints
    output_tokens: Ints
    ttft_s: Array
    e2e_s: Array
    mean_itl_s: Array
    ok: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClosedBatches:
    """Batches of equal requests sent at once, shape (n,): mean TTFT, and first send to last token."""

    source: str
    concurrency: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    ttft_mean_s: Array
    total_s: Array


@dataclass(frozen=True, slots=True)
class SimulatedRequests:
    """In the order of the observed requests; NaN where the simulated engine refused a request."""

    ttft_s: Array
    e2e_s: Array
    mean_itl_s: Array
    refused: int
    preemptions: int
    recomputed_tokens: int


def read_measured(path: Path) -> ObservedRequests | ClosedBatches:
    """Either kind, told apart by the header. Errors: TraceError."""
    rows = read_rows(path)
    if rows and "concurrency" in rows[0]:
        return _read_batches(path, rows)
    return _read_observed(path, rows)


def read_observed(path: Path) -> ObservedRequests:
    """Observed requests. Errors: TraceError naming file, row and column."""
    return _read_observed(path, read_rows(path))


def _read_observed(path: Path, rows: list[dict[str, str]]) -> ObservedRequests:
    _need(path, rows, REQUEST_COLUMNS)
    table = []
    for number, row in enumerate(rows, 2):
        ok = row["status"] == "ok"
        output = _number(path, number, row, "output_tokens", 1 if ok else 0, whole=True)
        if output < 1:
            continue  # it failed before its first token: what it did to the engine is not known
        arrival = _number(path, number, row, "arrival_s", 0)
        prompt = _number(path, number, row, "prompt_tokens", 1, whole=True)
        ttft = _number(path, number, row, "ttft_s", 0) if ok else np.nan
        e2e = _number(path, number, row, "e2e_s", 0) if ok else np.nan
        if ok and e2e < ttft:
            raise TraceError(f"{path}: row {number}: e2e_s: {e2e:g} is less than ttft_s {ttft:g}")
        itl = (e2e - ttft) / (output - 1) if output > 1 else np.nan
        if ok and output > 1 and row.get("mean_itl_s"):
            itl = _number(path, number, row, "mean_itl_s", 0)
        table.append((arrival, prompt, output, ttft, e2e, itl, ok))
    columns = np.array(table, dtype=float).reshape(-1, 7)
    columns = columns[np.argsort(columns[:, 0], kind="stable")]
    compared = columns[:, 6] > 0
    if not compared.any():
        raise TraceError(f"{path}: no row has status 'ok': nothing to compare")
    counts = columns[:, 1:3].astype(np.int64)
    times = columns[:, 3:6]
    return ObservedRequests(
        str(path), columns[:, 0], counts[:, 0], counts[:, 1], times[:, 0], times[:, 1], times[:, 2], compared
    )


def _read_batches(path: Path, rows: list[dict[str, str]]) -> ClosedBatches:
    _need(path, rows, BATCH_COLUMNS)
    numbered = list(enumerate(rows, 2))

    def column(name: str, least: float, whole: bool) -> Array:
        return np.array([_number(path, number, row, name, least, whole) for number, row in numbered])

    counts = [column(name, 1, whole=True).astype(np.int64) for name in BATCH_COLUMNS[:3]]
    times = [column(name, 1e-9, whole=False) for name in BATCH_COLUMNS[3:]]
    return ClosedBatches(str(path), counts[0], counts[1], counts[2], times[0], times[1])


def _need(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    if not rows:
        raise TraceError(f"{path}: no rows after the header {','.join(columns)}")
    for name in columns:
        if name not in rows[0]:
            raise TraceError(f"{path}: row 1: column {name!r} is missing; needed: {','.join(columns)}")


def _number(path: Path, number: int, row: Mapping[str, str], name: str, least: float, whole: bool = False) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = float("nan")
    if not least <= value < 2**31 or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise TraceError(f"{path}: row {number}: {name}: {row[name]!r}; allowed: {kind} >= {least:g}")
    return value


# ---------------------------------------------------------------- simulated


def simulate_requests(
    profile: EngineProfile, observed: ObservedRequests, cached_prompt_tokens: int = 0
) -> SimulatedRequests:
    """Every observed request, at its own time, on one replica. `cached_prompt_tokens`: prefix hits of each of them."""
    return _simulate(profile, observed.arrival_s, observed.prompt_tokens, observed.output_tokens, cached_prompt_tokens)


def simulate_batches(profile: EngineProfile, batches: ClosedBatches) -> tuple[Array, Array]:
    """(mean TTFT, time to the last token) of every batch, each on an idle engine."""
    number = np.repeat(np.arange(len(batches.total_s)), batches.concurrency)
    sent_s = _SEND_GAP_S * np.concatenate([np.arange(c) for c in batches.concurrency])
    arrival_s = number * _APART_S + sent_s
    done = _simulate(profile, arrival_s, batches.prompt_tokens[number], batches.output_tokens[number], 0)
    ttft_s = np.bincount(number, done.ttft_s) / batches.concurrency
    total_s = np.full(len(batches.total_s), -np.inf)
    np.maximum.at(total_s, number, done.e2e_s + sent_s)
    return ttft_s, total_s


def _simulate(profile: EngineProfile, arrival_s: Array, prompts: Ints, outputs: Ints, cached: int) -> SimulatedRequests:
    plane = DataPlane(profile, max_ongoing_requests=10**9, request_timeout_s=None, seed=1)
    plane.add_replica(0, min(0.0, float(arrival_s[0])))
    plane.feed(arrival_s, prompts, outputs, np.minimum(cached, prompts))
    plane.advance(float(arrival_s[-1]) + 1e7)
    done, counters = plane.completed(), plane.counters()
    fine = done.status == Status.OK
    times = np.full((3, len(arrival_s)), np.nan)
    for line, values in zip(times, (done.ttft_s, done.e2e_s, done.mean_itl_s), strict=True):
        line[done.id[fine]] = values[fine]
    return SimulatedRequests(
        times[0],
        times[1],
        times[2],
        refused=int(len(arrival_s) - fine.sum()),
        preemptions=int(counters.preemptions_total.sum()),
        recomputed_tokens=int(counters.recomputed_tokens_total.sum()),
    )
