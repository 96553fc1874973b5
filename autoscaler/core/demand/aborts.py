"""Aborted requests (the client left, or the replica died): how many there are and how long they would have been.

Engines count an aborted request's prompt (with the first token) and the tokens it did get, but not its end: vLLM's
`request_success_total` has a reason `abort` that it never counts clients under that left (its issues 31503 and 55634),
and its token histograms hold completed requests only. So aborts are computed: first tokens, minus completed requests,
minus the growth of requests in progress.

Their prompts are known. Their outputs have two bounds: what they got is the lower one; all tokens divided by completed
requests, which assumes a memoryless length, is the upper one. Between the two the length of the last time with few
aborts is assumed.
"""

from __future__ import annotations

import math

from autoscaler.core.state import DemandMemory

_FEW = 0.03
"""Share of aborted requests up to which they are ignored; from twice this share on they count in full."""
_FEW_LATELY = 0.1
"""Share of aborts among the requests of two minutes. Traffic that quadruples at once makes 0.09 by late
gauges alone.
"""
_MOVED_HALF_LIFE_S = 30.0
_CALM_HALF_LIFE_S = 3600.0
"""Half-life (s) with which the abort-free length falls to the memoryless one where it is above it: where clients always
leave, it becomes theirs.
"""
_MOST_UNSEEN = 3.0
"""Upper bound on the true/observed output length of aborted requests when no abort-free baseline has been learned."""


def ingest_aborts(memory: DemandMemory, early: float, moved: float, since_last_s: float) -> None:
    """Add aborted requests since the last page (`early`), and requests that came into or left progress (`moved`)."""
    long, lately = memory.mix_early
    memory.mix_early = [long + early, lately + early]
    memory.mix_moved = memory.mix_moved * math.pow(0.5, since_last_s / _MOVED_HALF_LIFE_S) + moved


def suppose_early(memory: DemandMemory, ended: float) -> None:
    """Assume aborts among `ended` requests at the share seen so far, when they cannot be counted."""
    early, requests = memory.mix_early, memory.mix_sums[3]
    share = early[0] / requests if requests > 0.0 else 0.0
    memory.mix_early = [early[0] + share * ended, early[1] + share * ended]


def fade_aborts(memory: DemandMemory, kept: float, kept_lately: float) -> None:
    """Fade the aborts of the mix (`kept`) and of the last two minutes (`kept_lately`) by these factors."""
    early = memory.mix_early
    early[0] *= kept
    early[1] *= kept_lately


def abort_weight(memory: DemandMemory) -> float:
    """Weight of aborted requests in the mix, from 0 (too few to tell from chance) to 1 (they count in full).

    Gauges and counters are of different moments: a request that came or left within half a minute may be in one of them
    only.
    """
    early = memory.mix_early[0]
    if early <= 0.0:
        return 0.0
    few = _FEW * (memory.mix_sums[3] + early)
    return min(1.0, max(0.0, (early - few - memory.mix_moved) / few))


def left_lately(memory: DemandMemory) -> float:
    """Aborted requests of the last two minutes; 0 if so few that gauges which lag a jump in traffic
    could explain them.
    """
    left, begun = memory.mix_early[1], memory.mix_lately[4]
    return left if left > _FEW_LATELY * (begun + left) else 0.0


def output_tokens(memory: DemandMemory, weight: float) -> float:
    """Mean output tokens of a request, aborted ones included; `weight` from `abort_weight`, above 0."""
    least, memoryless = _bounds(memory)
    if memory.mix_calm_output is not None:
        supposed = max(memory.mix_calm_output, least)
    else:
        supposed = min(math.sqrt(least * memoryless), _MOST_UNSEEN * least)
    if weight >= 1.0:
        return supposed
    # With next to no completed requests the memoryless length is unbounded.
    return (1.0 - weight) * min(memoryless, max(supposed, _MOST_UNSEEN * least)) + weight * supposed


def learn_calm_output(memory: DemandMemory, seconds: float, watched: bool) -> None:
    """Learn the output length of times with few aborts. `watched`: observed for long enough to rely on it."""
    requests, early = memory.mix_sums[3], max(0.0, memory.mix_early[0])
    if requests + early <= 0.0:
        return
    least, memoryless = _bounds(memory)
    calm = memory.mix_calm_output
    if calm is None:
        if watched and early <= _FEW * (requests + early):
            memory.mix_calm_output = memoryless
    elif abort_weight(memory) == 0.0:
        memory.mix_calm_output = min(max(calm, least), memoryless)
    elif least > calm:
        memory.mix_calm_output = None  # they have become longer, by how much nobody knows
    elif calm > memoryless:
        keep = math.pow(0.5, seconds / _CALM_HALF_LIFE_S)
        memory.mix_calm_output = memoryless + keep * (calm - memoryless)


def _bounds(memory: DemandMemory) -> tuple[float, float]:
    """Bounds on the mean output: tokens over all requests, and over completed ones (infinite if none completed, 0 if
    there were no tokens).
    """
    _, output, _, requests = memory.mix_sums
    least = output / (requests + max(0.0, memory.mix_early[0]))
    return least, (0.0 if output <= 0.0 else output / requests if requests > 0.0 else math.inf)
