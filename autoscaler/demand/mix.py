"""The tokens of a request: means of those that finished lately, and what to begin with before any has."""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler.controller_state import DemandMemory
from autoscaler.model import DeploymentMetrics
from policies.base import TokenMix

_MIX_HALF_LIFE_S = 600.0
_MIX_MIN_REQUESTS = 10.0
_SEEDED_REQUESTS = 50.0
"""What the past counts for against the first requests that are seen."""


@dataclass(frozen=True, slots=True)
class TokenSums:
    """What `requests` finished requests had together; cached tokens are a part of the prompts'."""

    requests: float
    prompt_tokens: float
    output_tokens: float
    cached_prompt_tokens: float = 0.0


def take_in_mix(
    memory: DemandMemory, metrics: DeploymentMetrics, now_s: float, since_s: float | None
) -> tuple[float, float, float, float]:
    """What was added: finished requests, prompt, output and cached prompt tokens."""
    # Where no engine had counted anything before, nobody was in progress either, whatever gauges did not say.
    fresh = memory.prompt_tokens.started and not memory.prompt_tokens.series
    added = (
        memory.prompt_tokens.advance(metrics.prompt_tokens_total, now_s, since_s, metrics.baseline),
        memory.output_tokens.advance(metrics.output_tokens_total, now_s, since_s, metrics.baseline),
        memory.cached_tokens.advance(metrics.cached_tokens_total, now_s, since_s, metrics.baseline),
        memory.finished.advance(metrics.finished_total, now_s, since_s, metrics.baseline),
    )
    tokens = (added[3], added[0], added[1], added[2])
    before, memory.in_progress = 0.0 if fresh else memory.in_progress, metrics.ongoing
    if since_s is None:
        return tokens
    if before is not None and memory.in_progress is not None:
        # Tokens are counted as they come, requests when they end. Without those half done the first requests to end
        # would seem to have had everybody's tokens; in the long run as many join as leave.
        added = (*added[:3], added[3] + 0.5 * (memory.in_progress - before))
    keep = 0.5 ** ((now_s - since_s) / _MIX_HALF_LIFE_S)
    # Without traffic nothing fades: the last known mix is still the best guess for the next request.
    keep = keep if tokens[0] > 0 else 1.0
    memory.mix_sums = [max(0.0, keep * s + a) for s, a in zip(memory.mix_sums, added, strict=True)]
    return tokens


def seed_mix(memory: DemandMemory, sums: TokenSums) -> bool:
    """Begin with the mix of the past, as if a few requests of it had been seen; False when one is known already."""
    if token_mix(memory) is not None or sums.requests <= 0.0:
        return False
    share = min(1.0, _SEEDED_REQUESTS / sums.requests)
    past = (sums.prompt_tokens, sums.output_tokens, sums.cached_prompt_tokens, sums.requests)
    memory.mix_sums = [own + share * old for own, old in zip(memory.mix_sums, past, strict=True)]
    return True


def token_mix(memory: DemandMemory) -> TokenMix | None:
    """Mean tokens of a request lately; None before enough requests have finished."""
    prompt, output, cached, requests = memory.mix_sums
    if requests < _MIX_MIN_REQUESTS or prompt <= 0:
        return None
    return TokenMix(prompt / requests, output / requests, min(cached, prompt) / requests)
