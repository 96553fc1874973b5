"""Fits an engine's step law to measured steps: affine, or a piecewise table where that fits better.

Reads step tables (decode, prefill, mixed) and engine step logs into one form, `Steps`, and fits non-negative
coefficients to relative errors. Not for host and API time (requests.py) and not for driving an engine.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from autoscaler.common.errors import TraceError
from autoscaler.common.safe_files import read_maybe_packed
from policies.capacity import StepLaw

Array = NDArray[np.float64]

_KNOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Close together where tokens are few: there a mixture of experts reads other experts for nearly each of them."""
TILED_KNOTS = tuple(
    sorted({*_KNOTS, *(k + 1 for k in _KNOTS if k >= 64), *(3 * 2**k + j for k in range(5, 13) for j in (0, 1))})
)
"""For tables of GPU operations, whose kernels work in tiles: times jump just above a full one."""
_FORM_MARGIN = 0.9
"""The table must bring the held-out error below this share of the affine law's to be worth its knots."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Engine steps, one entry each (shape (n,)): what was in the step, and the seconds it took."""

    decodes: Array
    kv_tokens: Array
    prefill_tokens: Array
    prefill_qk: Array
    seconds: Array

    def __len__(self) -> int:
        return len(self.seconds)

    def part(self, where: NDArray[np.bool_]) -> Steps:
        return Steps(*(getattr(self, name)[where] for name in Steps.__slots__))

    @staticmethod
    def join(parts: Iterable[Steps]) -> Steps:
        held = list(parts)
        return Steps(*(np.concatenate([getattr(p, name) for p in held]) for name in Steps.__slots__))


@dataclass(frozen=True, slots=True)
class StepFit:
    """A law with its mean absolute relative errors: over all steps, by kind of step, and on a held-out half."""

    law: StepLaw
    error_fraction: float
    by_kind: Mapping[str, float]
    held_out_fraction: float


def fit(steps: Steps, form: Literal["affine", "table"] | None = None, knots: tuple[int, ...] = _KNOTS) -> StepFit:
    """The law that fits best (or of the form asked for). Errors: TraceError with fewer than 8 steps."""
    if len(steps) < 8:
        raise TraceError(f"{len(steps)} steps are too few to fit a step law; at least 8 are needed")
    fits = {name: _judged(steps, name, knots) for name in (("affine", "table") if form is None else (form,))}
    if form is not None:
        return fits[form]
    affine, table = fits["affine"], fits["table"]
    return table if table.held_out_fraction < _FORM_MARGIN * affine.held_out_fraction else affine


def predicted_s(law: StepLaw, steps: Steps) -> Array:
    """Seconds that the law gives each step, shape (n,)."""
    columns = (steps.decodes, steps.kv_tokens, steps.prefill_tokens, steps.prefill_qk)
    return np.array([law.step_s(*row) for row in zip(*(c.tolist() for c in columns), strict=True)])


def _judged(steps: Steps, form: Literal["affine", "table"], knots: tuple[int, ...]) -> StepFit:
    law = _fit_form(steps, form, knots)
    half = np.arange(len(steps)) % 2 == 0
    other_law = _fit_form(steps.part(half), form, knots)
    errors = _relative_errors(law, steps)
    prefill, decode = steps.prefill_tokens > 0, steps.decodes > 0
    kinds = {"decode": ~prefill, "prefill": prefill & ~decode, "mixed": prefill & decode}
    return StepFit(
        law,
        float(errors.mean()),
        {name: float(errors[where].mean()) for name, where in kinds.items() if where.any()},
        float(_relative_errors(other_law, steps.part(~half)).mean()),
    )


def _relative_errors(law: StepLaw, steps: Steps) -> Array:
    return np.abs(predicted_s(law, steps) / steps.seconds - 1.0)


def _fit_form(steps: Steps, form: Literal["affine", "table"], allowed: tuple[int, ...]) -> StepLaw:
    common = [np.ones(len(steps)), steps.decodes, steps.kv_tokens, (steps.prefill_tokens > 0).astype(float)]
    if form == "affine":
        a, b, c, h, d = _non_negative([*common, steps.prefill_tokens], steps.seconds)
        return StepLaw("affine", a_s=a, b_s=b, c_s=c, d_s=d, h_s=h)
    tokens = steps.decodes + steps.prefill_tokens
    knots = _useful_knots(tokens, allowed)
    ramps = [np.clip((tokens - low) / (high - low), 0.0, 1.0) for low, high in pairwise(knots)]
    a, b, c, h, e, *rises = _non_negative([*common, steps.prefill_qk, *ramps], steps.seconds)
    heights = np.concatenate([[0.0], np.cumsum(rises)])
    table = tuple((float(x), float(y)) for x, y in zip(knots, heights, strict=True))
    return StepLaw("table", a_s=a, b_s=b, c_s=c, e_s=e, h_s=h, knots=table)


def _useful_knots(tokens: Array, allowed: tuple[int, ...]) -> list[float]:
    """Knots that data lie between; the last one is the largest step seen, so that the last slope is measured too."""
    largest = float(tokens.max())
    knots: list[float] = []
    for knot in (float(k) for k in allowed if k < largest / 1.25):
        if not knots or ((tokens > knots[-1]) & (tokens <= knot)).any():
            knots.append(knot)
    return [*knots, largest] if knots else [0.0, max(largest, 1.0)]


def _non_negative(columns: list[Array], seconds: Array) -> list[float]:
    """Coefficients >= 0 of least mean absolute relative error (re-weighted least squares: spikes do not pull)."""
    matrix = np.column_stack(columns) / seconds[:, None]
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-30)
    target = np.ones(len(seconds))
    weight = np.ones(len(seconds))
    solution = np.zeros(len(columns))
    for _ in range(30):
        solution, _ = nnls((matrix / scale) * weight[:, None], target * weight)
        weight = 1.0 / np.sqrt(np.abs((matrix / scale) @ solution - target) + 0.02)
    return [float(value) for value in solution / scale]


# ---------------------------------------------------------------- step tables

_LARGEST = 1e12
"""What no token count and no step time reaches: a slip of columns or units, and its square must still be a number."""
_ENGINE_COLUMNS = ("model", "gpu", "tp", "dtype")
"""What tells engines apart: a law is fitted to the steps of one."""


def read_tables(paths: Iterable[Path], select: Mapping[str, str], kv_tokens: float | None = None) -> Steps:
    """Steps of the selected rows of decode, prefill and mixed tables (told apart by their columns).

    Rows that do not fit in `kv_tokens` are left out. Errors: TraceError naming file, row, or what to select from.
    """
    parts = [_table_steps(path, select) for path in paths]
    steps = Steps.join(parts)
    if kv_tokens is not None:
        steps = steps.part(steps.kv_tokens + steps.prefill_tokens <= kv_tokens)
    return steps


def _table_steps(path: Path, select: Mapping[str, str]) -> Steps:
    rows = read_rows(path)
    for column in select:
        if rows and column not in rows[0]:
            raise TraceError(f"{path}: --select {column}=...: no such column (columns: {', '.join(rows[0])})")
    chosen = [(i, r) for i, r in enumerate(rows, 2) if all(r[k] == v for k, v in select.items())]
    if not chosen:
        known = sorted({",".join(f"{k}={r[k]}" for k in select) for r in rows})
        raise TraceError(f"{path}: no row has {','.join(f'{k}={v}' for k, v in select.items())}; there are {known}")
    for column in _ENGINE_COLUMNS:
        if len(values := sorted({r.get(column, "") for _, r in chosen})) > 1:
            raise TraceError(f"{path}: rows of several engines; add {column}=... to --select (there are {values})")
    made = [_table_step(path, number, row) for number, row in chosen]
    return Steps(*np.array(made, dtype=float).T)


def _table_step(path: Path, number: int, row: Mapping[str, str]) -> tuple[float, float, float, float, float]:
    def value(column: str) -> float:
        try:
            found = float(row[column])
        except (KeyError, TypeError, ValueError):
            found = float("nan")
        above = column in ("step_ms", "num_seqs")
        if not 0 <= found < _LARGEST or (above and found == 0):
            allowed = f"a number {'above' if above else '>='} 0 and below {_LARGEST:g}"
            raise TraceError(f"{path}: row {number}: {column}: {row.get(column)!r}; allowed: {allowed}")
        return found

    seconds = value("step_ms") / 1e3
    if "batch" in row:
        return value("batch"), value("batch") * value("context_tokens"), 0.0, 0.0, seconds
    prefill = value("prefill_tokens")
    if "decode_batch" in row:
        decodes = value("decode_batch")
        qk = prefill * (value("prefill_cached_prefix") + prefill / 2)
        return decodes, decodes * value("decode_context_tokens"), prefill, qk, seconds
    sequences = value("num_seqs")
    qk = prefill * (value("cached_prefix_tokens") + prefill / sequences / 2)
    return 0.0, 0.0, prefill, qk, seconds


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV (optionally .gz) as dictionaries. Errors: TraceError naming the file."""
    try:
        text = read_maybe_packed(path).decode("utf-8-sig")
        return list(csv.DictReader(text.splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
