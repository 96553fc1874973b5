"""From known arrivals to what they need: work by time, and when so many replicas are not enough for it.

Fluid: a request's work is prefill when it arrives and decode over the time that its tokens take, in seconds of a
replica that serves its largest rate within the SLO. Work may wait as long as a first token may take. Pure numpy; the
future comes as an argument, so nothing of this can run live.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.base import Slo, TokenMix
from policies.base.knowledge import Traffic
from policies.capacity.closed_form import Capacity, capacity
from policies.capacity.profile import EngineProfile

Floats = NDArray[np.float64]

BIN_S = 5.0
_BLOCK_S = 300.0
"""Over which the mix of lengths is averaged."""
_NO_PROMISE_S = 60.0
"""How long work may wait where no time to first token was promised."""


@dataclass(frozen=True, slots=True)
class Work:
    """By bins of BIN_S: work that comes (replica-seconds), and requests per replica-second of it."""

    replica_s: Floats
    requests_per_replica_s: Floats


def work_of(traffic: Traffic, profile: EngineProfile, slo: Slo, duration_s: float) -> Work:
    """Work at the largest rate within the SLO's means, nothing held back: fewer replicas could not carry it for long.

    Blocks of five minutes have the capacity of their own mean mix; within a block, requests share its work by tokens.
    Decode that falls due after the end is left out: it is served then, and no longer billed.
    """
    bins = max(int(np.ceil(duration_s / BIN_S)), 1)
    changes = np.zeros(bins + 1)
    instant = np.zeros(bins)
    per_replica_s = np.zeros(bins)
    last = 0.0
    per_block = round(_BLOCK_S / BIN_S)
    for first in range(0, bins, per_block):
        span = slice(*np.searchsorted(traffic.arrival_s, (first * BIN_S, (first + per_block) * BIN_S)))
        count = span.stop - span.start
        if count:
            block = Traffic(*(getattr(traffic, n)[span] for n in traffic.__slots__))
            last = _add_block(block, profile, slo, instant, changes)
        per_replica_s[first : first + per_block] = last
    return Work(instant + np.cumsum(changes[:-1]) * BIN_S, per_replica_s)


def _add_block(block: Traffic, profile: EngineProfile, slo: Slo, instant: Floats, changes: Floats) -> float:
    """Adds a block's work: prefill to its bin, decode as a rate from arrival on. Its requests per replica-second."""
    prompt = np.maximum(block.prompt_tokens - block.cached_prompt_tokens, 1).astype(np.float64)
    output = np.maximum(block.output_tokens, 1).astype(np.float64)
    mix = TokenMix(float(block.prompt_tokens.mean()), float(output.mean()), float(block.cached_prompt_tokens.mean()))
    found = best_capacity(profile, mix, slo)
    prefill, decode = _shares(profile, found, prompt, output, block.prompt_tokens)
    scale = len(prompt) / (found.rps * float((prefill + decode).sum()))
    bins = len(instant)
    at = np.minimum((block.arrival_s / BIN_S).astype(np.int64), bins - 1)
    np.add.at(instant, at, scale * prefill)
    lasts_s = np.maximum(output * found.step_s, BIN_S)
    until = np.maximum(((block.arrival_s + lasts_s) / BIN_S).astype(np.int64), at + 1)
    rate = scale * decode / ((until - at) * BIN_S)
    np.add.at(changes, at, rate)
    np.add.at(changes, np.minimum(until, bins), -rate)
    return found.rps


def best_capacity(profile: EngineProfile, mix: TokenMix, slo: Slo) -> Capacity:
    """What nobody can exceed for long; where a lone request misses the SLO, what the engine does at its best."""
    found = capacity(profile, mix, slo, kv_share=1.0, max_utilization=1.0)
    if found.rps > 0:
        return found
    return capacity(profile, mix, Slo(None, None), kv_share=1.0, max_utilization=1.0)


def _shares(
    profile: EngineProfile, found: Capacity, prompt: Floats, output: Floats, prompt_tokens: NDArray[np.int32]
) -> tuple[Floats, Floats]:
    """Each request's prefill and decode in relative terms: marginal step time at the operating point."""
    batch = max(found.batch, 1.0)
    prefill = float(prompt.mean()) * batch / float(output.mean())
    kv = found.kv_tokens

    def marginal(decodes: float, kv_tokens: float, tokens: float) -> float:
        more = profile.step_s(batch + decodes, kv + kv_tokens, prefill + tokens)
        return (more - profile.step_s(batch, kv, prefill)) / max(decodes, kv_tokens, tokens)

    per_token = max(marginal(0.0, 0.0, 0.1 * prefill), 0.0)
    per_decode, per_kv = max(marginal(0.1 * batch, 0.0, 0.0), 0.0), max(marginal(0.0, 0.1 * max(kv, 1.0), 0.0), 0.0)
    decode = output * (per_decode + per_kv * (prompt_tokens + output / 2)) + 1e-12 * output
    return per_token * prompt, decode


def slack_s(slo: Slo) -> float:
    """How long work may wait."""
    return _NO_PROMISE_S if slo.ttft_s is None else slo.ttft_s


def overflow(work: Floats, wait_s: float, sizes: Floats) -> Floats:
    """Work that each of the fleets (`sizes`, in replicas) cannot do in time, by bin: shape (bins, sizes).

    What waits longer than `wait_s` of the fleet's own time is taken out of the queue: it missed.
    """
    out = np.empty((len(work), len(sizes)))
    done, room = sizes * BIN_S, sizes * wait_s
    queue = np.zeros(len(sizes))
    for t in range(len(work)):
        queue += work[t] - done
        np.maximum(queue, 0.0, out=queue)
        np.maximum(queue - room, 0.0, out=out[t])
        queue -= out[t]
    return out
