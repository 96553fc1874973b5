"""Requests/s that one replica carries within the SLO: from its engine profile, else learned from requests in flight.
Pure.
"""

from __future__ import annotations

from autoscaler.core.state import SupplyMemory
from autoscaler.core.types import DeploymentSettings, Observation
from policies.base import UNBOUNDED_SLOTS, TokenMix
from policies.capacity import capacity

ASSUMED_MIX = TokenMix(1000.0, 250.0)
"""Assumed tokens per request while neither a hint nor a request has shown any."""
_LEARNED_SHARE_OF_SLOTS = 0.7
"""Share of its max_ongoing_requests that a replica without a profile carries."""
_ASSUMED_SLOTS = 64
"""Requests in flight that count as full if max_ongoing_requests is unbounded."""
_FADE_S = 50.0
"""Time constant (s) of the learned capacity."""


def replica_capacity(
    settings: DeploymentSettings | None,
    observation: Observation,
    max_ongoing: int | None,
    memory: SupplyMemory,
    now_s: float,
) -> tuple[float | None, float | None]:
    """Capacity of one replica in requests/s, and its requests in flight at that rate.

    From the profile at today's mix (an assumed mix until some requests have finished, since a fleet at zero must be
    sized before the first); without a profile learned from requests in flight (Little's law).
    """
    if settings is not None and settings.profile is not None:
        found = capacity(settings.profile, rounded(observation.mix or ASSUMED_MIX), settings.slo)
        return (found.rps, found.batch) if found.rps else (None, None)
    rate, ongoing = observation.rate_rps, observation.ongoing
    if rate and ongoing and max_ongoing and observation.running:
        slots = max_ongoing if max_ongoing < UNBOUNDED_SLOTS else _ASSUMED_SLOTS
        latency_s = ongoing / rate
        now_rps = _LEARNED_SHARE_OF_SLOTS * slots / latency_s
        before, before_s = memory.learned_capacity_rps, memory.learned_capacity_at_s
        share = 0.1 if before_s is None else min(1.0, max(0.0, now_s - before_s) / _FADE_S)
        memory.learned_capacity_rps = now_rps if before is None else (1 - share) * before + share * now_rps
        memory.learned_capacity_at_s = now_s
    return memory.learned_capacity_rps, None


def rounded(mix: TokenMix) -> TokenMix:
    """Round to three digits, so that small changes of the mix do not change the capacity."""
    prompt, output, cached = mix.prompt_tokens, mix.output_tokens, mix.cached_prompt_tokens
    return TokenMix(float(f"{prompt:.3g}"), float(f"{output:.3g}"), float(f"{cached:.3g}") if cached else 0.0)
