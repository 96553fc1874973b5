"""Fits what step logs and tables leave out: host time per step and API time per request, from requests of the engine.

The profile with a trial host and API time serves the same requests in the simulator; the pair with the least mean
relative error wins. Observed requests are judged by quantiles (single requests depend on the luck of who met whom),
closed batches each by mean TTFT and time to the last token. Not for the step law (fit.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from autoscaler.common.errors import TraceError
from policies.capacity.profile import EngineProfile
from simulator.experiments.observed import Array, ClosedBatches, ObservedRequests, simulate_batches, simulate_requests

HOST_S, API_S = 0.0015, 0.007
"""Where nothing tells: what our runs of vLLM 0.32 showed, for the scheduler and for an HTTP front end."""

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_SENSITIVE = 0.002
"""Doubling the host time must add this much error; otherwise the requests do not determine it (it hides behind the
step).
"""


@dataclass(frozen=True, slots=True)
class RequestFit:
    """Seconds of host time per step and API time per request, the mean relative error left, and what is not told."""

    host_s: float
    api_s: float
    error_fraction: float
    assumed: tuple[str, ...]


def fit_requests(profile: EngineProfile, measured: Sequence[ObservedRequests | ClosedBatches]) -> RequestFit:
    """The host and API time with which `profile` serves the requests best. Errors: TraceError (none fits in KV)."""

    def error(host_s: float, api_s: float) -> float:
        trial = replace(profile, host_s=max(host_s, 0.0), api_s=max(api_s, 0.0))
        outside = max(-host_s, 0.0) + max(-api_s, 0.0)
        parts = np.concatenate([_relative_errors(trial, part) for part in measured])
        return float(np.abs(parts).mean()) + 100.0 * outside

    simplex = np.array([(HOST_S, API_S), (2 * HOST_S, API_S), (HOST_S, 2 * API_S)])
    options = {"initial_simplex": simplex, "xatol": 2e-5, "fatol": 1e-5, "maxfev": 120}
    found = minimize(lambda v: error(float(v[0]), float(v[1])), simplex[0], method="Nelder-Mead", options=options)
    host_s, api_s = (max(float(v), 0.0) for v in found.x)
    least = error(host_s, api_s)
    told = error(2 * max(host_s, 1e-4), api_s) - least > _SENSITIVE
    if told:
        return RequestFit(host_s, api_s, least, ())
    return RequestFit(HOST_S, api_s, error(HOST_S, api_s), ("host_s",))


def _relative_errors(profile: EngineProfile, measured: ObservedRequests | ClosedBatches) -> Array:
    errors: Array
    if isinstance(measured, ClosedBatches):
        ttft_s, total_s = simulate_batches(profile, measured)
        errors = np.concatenate([ttft_s / measured.ttft_mean_s, total_s / measured.total_s]) - 1
        errors = errors[np.isfinite(errors)]
    else:
        done = simulate_requests(profile, measured)
        fine = measured.ok & np.isfinite(done.e2e_s)
        pairs = ((done.ttft_s, measured.ttft_s), (done.e2e_s, measured.e2e_s)) if fine.any() else ()
        ratios = [np.quantile(mine[fine], _QUANTILES) / np.quantile(theirs[fine], _QUANTILES) for mine, theirs in pairs]
        errors = np.concatenate([*ratios, np.empty(0)]) - 1
    if len(errors) == 0:
        raise TraceError(f"{measured.source}: no request fits in the engine (limits of --engine)")
    return errors
