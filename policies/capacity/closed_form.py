"""How many requests per second one replica carries within the SLO: closed form over the step law.

In steady state n requests arrive during a step. With p uncached prompt and o output tokens each, at a mean context k
(Little's law on the batch: B = rate * o * step = n * o),
    step(n) = law(B = n*o, K = n*o*k, P = n*p)        rate(n) = n / step(n)
so every bound is a bound on n: time between tokens is step(n), the batch n*o, the KV it holds n*o*k. With an affine law
this is step = a / (1 - rate*w), w = o*(b + c*k) + d*p, which saturates at 1/w.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from policies.base import Slo, TokenMix
from policies.capacity.profile import EngineProfile

_KV_SHARE = 0.9
"""Share of the KV cache that steady state may fill; the rest absorbs the spread of lengths."""
_MAX_UTILIZATION = 0.9
"""Share of the saturation rate above which queues grow although no mean shows it yet."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest rate within every bound, the bound that limits it, and the steady state there."""

    rps: float
    limiter: str
    saturation_rps: float
    step_s: float
    batch: float
    kv_tokens: float


_KNOWN: dict[tuple[float | None, ...], tuple[EngineProfile, Capacity]] = {}
"""Answers given lately: rounded mixes come again and again, tick after tick."""
_MOST_KNOWN = 16384


@dataclass(frozen=True, slots=True)
class _Load:
    """One replica under n requests per step of one mix."""

    profile: EngineProfile
    prompt: float
    cached: float
    output: float
    context: float

    def step_s(self, n: float) -> float:
        prefill = n * self.prompt
        batch = n * self.output
        return self.profile.step_s(batch, batch * self.context, prefill, prefill * (self.cached + self.prompt / 2))

    def rate_rps(self, n: float) -> float:
        return n / self.step_s(n)

    def ttft_s(self, n: float) -> float:
        """Mean time to first token: the steps under way, then the prompt's own chunks among everybody's work."""
        limits = self.profile.limits
        chunks = math.ceil(self.prompt / max(limits.max_num_batched_tokens - n * self.output, 1.0))
        chunk = self.prompt / chunks
        batch = n * self.output
        qk = chunk * (self.cached + self.prompt / 2)
        own_s = chunks * self.profile.step_s(batch, batch * self.context, chunk + n * self.prompt, qk)
        waits = 1.5 if self.profile.scheduling.asynchronous else 0.5
        return self.profile.api_s + waits * self.step_s(n) + own_s

    def physical_bounds(self) -> dict[str, float]:
        """Largest n by what the engine can hold and schedule at all."""
        limits = self.profile.limits
        return {
            "token budget": limits.max_num_batched_tokens / (self.prompt + self.output),
            "max_num_seqs": limits.max_num_seqs / self.output,
            "KV cache": limits.kv_tokens / (self.output * self.context),
        }

    def best_rate_rps(self, up_to: float) -> tuple[float, float]:
        """The largest rate over n <= up_to, and its n: rate(n) bends only at the knots of a table."""
        per_request = self.prompt + self.output
        candidates = [up_to, *(x / per_request for x, _ in self.profile.step.knots if 0 < x / per_request < up_to)]
        return max((self.rate_rps(n), n) for n in candidates)


def capacity(
    profile: EngineProfile,
    mix: TokenMix,
    slo: Slo,
    *,
    kv_share: float = _KV_SHARE,
    max_utilization: float = _MAX_UTILIZATION,
) -> Capacity:
    """The most requests/s of this mix that one replica carries within the SLO's means, and what limits it.

    `rps` is 0 when not even a lone request meets the SLO (the limiter says which part of it). With both shares at 1
    nothing is held back for the spread about the means: more than that nobody can carry for long.
    """
    # By identity, since a profile's notes on its fit cannot be hashed; the profile is kept, so its id stays its own.
    # In plain numbers, since hashing dataclasses takes longer than looking them up.
    tokens = (mix.prompt_tokens, mix.output_tokens, mix.cached_prompt_tokens)
    asked = (id(profile), *tokens, slo.ttft_s, slo.itl_s, kv_share, max_utilization)
    known = _KNOWN.get(asked)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[asked] = (profile, _capacity(profile, mix, slo, kv_share, max_utilization))
    return known[1]


def _capacity(profile: EngineProfile, mix: TokenMix, slo: Slo, kv_share: float, max_utilization: float) -> Capacity:
    output = max(mix.output_tokens, 1.0)
    load = _Load(
        profile,
        prompt=max(mix.prompt_tokens - mix.cached_prompt_tokens, 1.0),
        cached=mix.cached_prompt_tokens,
        output=output,
        context=mix.prompt_tokens + output / 2,
    )
    physical = load.physical_bounds()
    saturation_rps, _ = load.best_rate_rps(min(physical.values()))
    bounds = dict(physical)
    bounds["KV cache"] *= kv_share
    limiter, largest = min(bounds.items(), key=lambda item: item[1])
    for name, limit_s, measure in (("ITL", slo.itl_s, load.step_s), ("TTFT", slo.ttft_s, load.ttft_s)):
        if limit_s is not None and measure(largest) > limit_s:
            limiter, largest = name, _largest(measure, limit_s, largest)
    if largest <= 0:
        return Capacity(0.0, limiter, saturation_rps, load.step_s(0.0), 0.0, 0.0)
    rps, n = load.best_rate_rps(largest)
    if rps > max_utilization * saturation_rps:
        limiter, rps = "utilization", max_utilization * saturation_rps
        n = _largest(load.rate_rps, rps, n)
    return Capacity(rps, limiter, saturation_rps, load.step_s(n), n * output, n * output * load.context)


def _largest(measure: Callable[[float], float], limit: float, high: float) -> float:
    """The largest n in [0, high] whose measure stays within the limit (0 where none does); measure rises with n."""
    if measure(high * 1e-9) > limit:
        return 0.0
    low = high * 1e-9
    for _ in range(40):
        middle = (low + high) / 2
        if measure(middle) <= limit:
            low = middle
        else:
            high = middle
    return low
