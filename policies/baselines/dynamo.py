"""What the planners of NVIDIA Dynamo measure an engine by, from its profile, and one replica's load in those terms.

Upstream profiles an engine before it is deployed (time to first token by prompt length, time between tokens by
concurrency and context) and interpolates; here the profile's step law stands for these tables. Prefill and decode run
in one engine here, as in Dynamo's aggregated mode. The planners themselves are dynamo_v1.py, dynamo_v2.py and
dynamo_easy.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from policies.base import DeploymentView
from policies.baselines.each import queued_at_handles
from policies.capacity.profile import EngineProfile


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One replica now: running sequences, tokens in its KV cache, requests that wait for it."""

    running: float
    kv_tokens: float
    waiting: float


def engine_loads(d: DeploymentView, profile: EngineProfile) -> list[EngineLoad]:
    """Of every replica that reports; what waits in front of all of them is spread evenly, as Dynamo's router does."""
    reporting = [m for m in d.replica_metrics if m.kv_usage_fraction is not None]
    in_front = (queued_at_handles(d) or 0.0) / max(1, len(reporting))
    return [
        EngineLoad(
            running=m.running or 0.0,
            kv_tokens=(m.kv_usage_fraction or 0.0) * profile.limits.kv_tokens,
            waiting=(m.waiting or 0.0) + in_front,
        )
        for m in reporting
    ]


def prefill_s(profile: EngineProfile, tokens: float, running: float = 0.0, kv_tokens: float = 0.0) -> float:
    """Seconds until so many prompt tokens are through, in chunks of the token budget beside what decodes."""
    if tokens <= 0:
        return 0.0
    budget = max(profile.limits.max_num_batched_tokens - running, 1.0)
    chunks = math.ceil(tokens / budget - 1e-9)
    chunk = tokens / chunks
    return chunks * profile.step_s(running, kv_tokens, chunk, chunk * tokens / 2)


def prefill_tokens_per_s(profile: EngineProfile, prompt_tokens: float) -> float:
    """Throughput of prompts of this length, one after the other, as upstream's prefill profile has it."""
    return prompt_tokens / prefill_s(profile, prompt_tokens)


def decode_s(profile: EngineProfile, concurrency: float, context_tokens: float) -> float:
    """Time between tokens at a concurrency and a mean context."""
    return profile.step_s(concurrency, concurrency * context_tokens)


def best_decode_tokens_per_s(profile: EngineProfile, itl_s: float, context_tokens: float) -> float:
    """The largest decode throughput with the time between tokens within `itl_s`; 0 where one sequence exceeds it."""
    most = min(float(profile.limits.max_num_seqs), profile.limits.kv_tokens / max(context_tokens, 1.0))
    if decode_s(profile, 1.0, context_tokens) > itl_s:
        return 0.0
    low, high = 1.0, max(most, 1.0)
    if decode_s(profile, high, context_tokens) <= itl_s:
        low = high
    for _ in range(40 if low < high else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if decode_s(profile, middle, context_tokens) <= itl_s else (low, middle)
    return low / decode_s(profile, low, context_tokens)
