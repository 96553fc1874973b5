"""Engine profiles: what is known of one replica of a model on a GPU kind.

The controller, the policies and the simulator use the same profile. Reading one from YAML: load.py. Its step law:

    step_s = a + b*B + c*K + d*P + e*QK + h*[P > 0] + g(B + P)

B decoding sequences, K tokens of KV that they attend to, P prefill tokens in the step, QK the prefill's attention work
(sum over chunks of chunk * (cached + chunk/2)), g a piecewise-linear table in scheduled tokens. Two forms: `affine`
(g = 0) and `table` (d = 0). Host time is not in here: the profile says how it adds up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.base.durations import Duration


@dataclass(frozen=True, slots=True)
class StepLaw:
    """Coefficients in seconds (per sequence, token, token^2); `knots` are (scheduled tokens, seconds), ascending.

    Between knots g is linear, before the first it has the first value, after the last it keeps the last slope.
    """

    form: Literal["affine", "table"]
    a_s: float
    b_s: float = 0.0
    c_s: float = 0.0
    d_s: float = 0.0
    e_s: float = 0.0
    h_s: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def step_s(self, decodes: float, kv_tokens: float, prefill_tokens: float = 0.0, prefill_qk: float = 0.0) -> float:
        """Seconds of engine time of one step; all arguments >= 0, `prefill_qk` in tokens^2."""
        seconds = self.a_s + self.b_s * decodes + self.c_s * kv_tokens
        if prefill_tokens > 0:
            seconds += self.d_s * prefill_tokens + self.e_s * prefill_qk + self.h_s
        if self.knots:
            seconds += self.table_s(decodes + prefill_tokens)
        return seconds

    def table_s(self, tokens: float) -> float:
        """g: the part of a step that depends on how many tokens are scheduled in it."""
        knots = self.knots
        i = bisect_right(knots, (tokens, float("inf")))
        if i == 0:
            return knots[0][1]
        if i == len(knots):
            if i == 1:
                return knots[0][1]
            i -= 1
        (x0, y0), (x1, y1) = knots[i - 1], knots[i]
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class Limits:
    """vLLM's limits of one engine; `kv_tokens` is the usable KV cache in tokens, and holds `max_model_len` at least."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    kv_tokens: int = 432992
    max_model_len: int = 131072


@dataclass(frozen=True, slots=True)
class Scheduling:
    """vLLM's scheduler switches (defaults of 0.32 on a GPU)."""

    asynchronous: bool = True
    reserve_full_prompt: bool = True
    chunked_prefill: bool = True


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One replica of a model: step law, limits, start-up, price. Times in seconds, price per GPU and hour."""

    name: str
    gpus: int
    gpu: str
    step: StepLaw
    host_s: float
    """CPU time of a step: added to it when scheduling is synchronous, hidden behind it when asynchronous."""
    api_s: float
    limits: Limits
    scheduling: Scheduling
    load_s: Duration
    init_s: Duration
    price_usd_per_gpu_hour: float | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)

    def step_s(self, decodes: float, kv_tokens: float, prefill_tokens: float = 0.0, prefill_qk: float = 0.0) -> float:
        """Wall seconds from one step's start to the next one's, host time included."""
        device_s = self.step.step_s(decodes, kv_tokens, prefill_tokens, prefill_qk)
        return max(device_s, self.host_s) if self.scheduling.asynchronous else device_s + self.host_s
