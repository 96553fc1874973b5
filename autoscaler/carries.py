"""What one replica carries of a mix, as it is asked of every deployment at every tick.

`policies.engines.capacity` asks a step law some sixty times about a mix that it has not met lately, and of a hundred
deployments a dozen meet a new one at each tick. So it is handed the profile with its law in one function instead of
three: the same operations in the same order, and so the same numbers. Not for what a step is: policies/engines.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, fields

from policies.base import Slo, TokenMix
from policies.engines import Capacity, EngineProfile, capacity


@dataclass(frozen=True, slots=True)
class Flat(EngineProfile):
    """The same profile; `step_s` calls nothing of its law but where a table ends."""

    starts: tuple[float, ...] = ()
    """Scheduled tokens at the knots of the law's table."""

    def step_s(self, decodes: float, kv_tokens: float, prefill_tokens: float = 0.0, prefill_qk: float = 0.0) -> float:
        """See EngineProfile and StepLaw."""
        step, host_s = self.step, self.host_s
        seconds = step.a_s + step.b_s * decodes + step.c_s * kv_tokens
        if prefill_tokens > 0:
            seconds += step.d_s * prefill_tokens + step.e_s * prefill_qk + step.h_s
        if step.knots:
            tokens = decodes + prefill_tokens
            i = bisect_right(self.starts, tokens)
            if 0 < i < len(self.starts):
                (x0, y0), (x1, y1) = step.knots[i - 1], step.knots[i]
                seconds += y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)
            else:
                seconds += step.table_s(tokens)
        if not self.scheduling.asynchronous:
            return seconds + host_s
        return host_s if host_s > seconds else seconds


_FLAT: dict[int, tuple[EngineProfile, Flat]] = {}
"""By the identity of profiles (they are kept here, so that it stays theirs)."""
_MOST_FLAT = 1024


def flat(profile: EngineProfile) -> Flat:
    """The profile in this form, made once."""
    found = _FLAT.get(id(profile))
    if found is None:
        if len(_FLAT) >= _MOST_FLAT:
            _FLAT.clear()
        same = {one.name: getattr(profile, one.name) for one in fields(profile)}
        found = _FLAT[id(profile)] = profile, Flat(**same, starts=tuple(x for x, _ in profile.step.knots))
    return found[1]


_KNOWN: dict[tuple[float | None, ...], tuple[EngineProfile, Capacity]] = {}
"""Answers given lately, as in `policies.engines.capacity`: here a hit makes no mix to look it up with."""
_MOST_KNOWN = 16384


def carried(profile: EngineProfile, mix: TokenMix, slo: Slo) -> Capacity:
    """`capacity` of the mix in three digits: a mix that trembles should not make capacity tremble."""
    prompt, output, cached = mix.prompt_tokens, mix.output_tokens, mix.cached_prompt_tokens
    digits = (float(f"{prompt:.3g}"), float(f"{output:.3g}"), float(f"{cached:.3g}") if cached else 0.0)
    asked = (id(profile), *digits, slo.ttft_s, slo.itl_s)
    known = _KNOWN.get(asked)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[asked] = profile, capacity(flat(profile), TokenMix(*digits), slo)
    return known[1]
