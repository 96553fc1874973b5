"""Fits an affine step law and the API time to closed batches alone: all that can be seen of an engine from outside.

A trial profile serves the batches in the simulator; least squares on log(simulated / measured) of mean TTFT and total
time, with outliers dampened. Host time cannot be told from the constant part of a step and stays an assumption.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from autoscaler.common.errors import LeadtimeError
from policies.capacity import StepLaw
from policies.capacity.profile import EngineProfile
from simulator.experiments.observed import Array, ClosedBatches, simulate_batches

_LEAST = 8
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class BatchFit:
    """The law, API time, mean absolute relative error over all batches, and on those left out of a second fit."""

    law: StepLaw
    api_s: float
    error_fraction: float
    held_out_fraction: float


def fit_batches(profile: EngineProfile, batches: ClosedBatches) -> BatchFit:
    """The step law with which `profile` (its limits, scheduling, host time) serves the batches best.

    Errors: LeadtimeError with fewer than 8 batches.
    """
    if len(batches.total_s) < _LEAST:
        raise LeadtimeError(
            f"{batches.source}: {len(batches.total_s)} batches are too few to fit; at least {_LEAST} are needed"
        )
    half = np.arange(len(batches.total_s)) % 2 == 0
    law, api_s = _fit(profile, batches)
    other = replace(profile)
    if half.sum() >= _LEAST - 2:
        other_law, other_api_s = _fit(profile, _part(batches, half))
        other = replace(profile, step=other_law, api_s=other_api_s)
        held_out = _errors(other, _part(batches, ~half))
    else:
        held_out = np.array([np.nan])
    errors = _errors(replace(profile, step=law, api_s=api_s), batches)
    return BatchFit(law, api_s, float(np.abs(np.expm1(errors)).mean()), float(np.abs(np.expm1(held_out)).mean()))


def _part(batches: ClosedBatches, where: NDArray[np.bool_]) -> ClosedBatches:
    columns = ("concurrency", "prompt_tokens", "output_tokens", "ttft_mean_s", "total_s")
    return ClosedBatches(batches.source, *(getattr(batches, name)[where] for name in columns))


def _fit(profile: EngineProfile, batches: ClosedBatches) -> tuple[StepLaw, float]:
    start = np.log(np.maximum(_first_guess(profile, batches), _TINY))
    residuals: Callable[[Array], Array] = lambda v: _errors(_with(profile, v), batches)  # noqa: E731
    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.05, diff_step=0.003, max_nfev=60)
    best = _with(profile, found.x)
    return best.step, best.api_s


def _with(profile: EngineProfile, logs: Array) -> EngineProfile:
    a, b, c, d, api = np.exp(np.clip(logs, np.log(_TINY) - 3, 5.0)).tolist()
    small = _TINY * 1.5
    law = StepLaw("affine", a_s=a, b_s=b if b > small else 0.0, c_s=c, d_s=d)
    return replace(profile, step=law, api_s=api)


def _first_guess(profile: EngineProfile, batches: ClosedBatches) -> Array:
    """From sums: a batch's decode time by its steps, its TTFT by its prompt tokens."""
    steps = np.maximum(batches.output_tokens - 1, 1)
    decode_s = np.maximum(batches.total_s - batches.ttft_mean_s, 1e-6) / steps
    one = np.ones(len(decode_s))
    a = float(np.quantile(decode_s, 0.05))
    d = float(np.median(batches.ttft_mean_s / (batches.concurrency * batches.prompt_tokens * 0.6 + a / 1e-4)))
    context = batches.concurrency * (batches.prompt_tokens + batches.output_tokens / 2)
    b, c = np.linalg.lstsq(np.column_stack([batches.concurrency * one, context]), decode_s - a, rcond=None)[0]
    host_s = 0.0 if profile.scheduling.asynchronous else profile.host_s
    return np.array([max(a - host_s, a / 2), max(b, a / 1000), max(c, a / 1e6), d, 0.004])


def _errors(profile: EngineProfile, batches: ClosedBatches) -> Array:
    ttft_s, total_s = simulate_batches(profile, batches)
    errors: Array = np.log(np.concatenate([ttft_s / batches.ttft_mean_s, total_s / batches.total_s]))
    return np.where(np.isfinite(errors), errors, 0.0)
