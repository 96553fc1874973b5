"""Requests that end early, because their clients leave or their replica dies: what is known of them, and their length.

Engines count their prompt (with the first token) and the tokens they did get, but never that they ended: vLLM's
`request_success_total` has a reason `abort` that no client who leaves is counted under (its issues 31503 and 55634),
and its histograms of a request's tokens see only those that end well. So they are what is missing: first tokens, less
requests that ended well, less what more are in progress now.

Their prompts are known. Of their outputs two bounds are: what they got is the least, and all tokens over the requests
that ended well is what a memoryless length would be. Between the two it is taken to be what it was while few left.
"""

from __future__ import annotations

import math

from autoscaler.core.state import DemandMemory

_FEW = 0.03
"""Up to this share of requests that end early nothing is made of them; at twice as much they count in full."""
_FEW_LATELY = 0.1
"""Of the requests of two minutes; traffic that is four times as much from one moment to the next makes 0.09."""
_MOVED_HALF_LIFE_S = 30.0
_CALM_HALF_LIFE_S = 3600.0
"""Of a length of calm times above even the memoryless one: with those who always leave it becomes theirs."""
_MOST_UNSEEN = 3.0
"""Nobody is taken to have wanted more than so many times what all got, where no calm time is known."""


def ingest_aborts(memory: DemandMemory, early: float, moved: float, since_last_s: float) -> None:
    """Requests that ended early since the last page, and how many came into progress or left it."""
    long, lately = memory.mix_early
    memory.mix_early = [long + early, lately + early]
    memory.mix_moved = memory.mix_moved * math.pow(0.5, since_last_s / _MOVED_HALF_LIFE_S) + moved


def suppose_early(memory: DemandMemory, ended: float) -> None:
    """How many of `ended` requests ended early is not counted: the share seen so far is assumed."""
    early, requests = memory.mix_early, memory.mix_sums[3]
    share = early[0] / requests if requests > 0.0 else 0.0
    memory.mix_early = [early[0] + share * ended, early[1] + share * ended]


def fade_aborts(memory: DemandMemory, kept: float, kept_lately: float) -> None:
    """The shares that the sums of the mix and those of lately keep."""
    early = memory.mix_early
    early[0] *= kept
    early[1] *= kept_lately


def abort_weight(memory: DemandMemory) -> float:
    """From 0 (too few to be told from chance) to 1: how far requests that ended early count as requests.

    Gauges and counters are of different moments: whoever came or left in half a minute may be in one of them only.
    """
    early = memory.mix_early[0]
    if early <= 0.0:
        return 0.0
    few = _FEW * (memory.mix_sums[3] + early)
    return min(1.0, max(0.0, (early - few - memory.mix_moved) / few))


def left_lately(memory: DemandMemory) -> float:
    """Requests that ended early, of those of lately; 0 where so few may be gauges that are late while traffic jumps."""
    left, begun = memory.mix_early[1], memory.mix_lately[4]
    return left if left > _FEW_LATELY * (begun + left) else 0.0


def output_tokens(memory: DemandMemory, weight: float) -> float:
    """Mean output of a request (tokens), of whom some ended early; `weight` as of `abort_weight`, above 0."""
    least, memoryless = _bounds(memory)
    if memory.mix_calm_output is not None:
        supposed = max(memory.mix_calm_output, least)
    else:
        supposed = min(math.sqrt(least * memoryless), _MOST_UNSEEN * least)
    if weight >= 1.0:
        return supposed
    # Where next to nobody has ended well, the memoryless length is beyond all bounds.
    return (1.0 - weight) * min(memoryless, max(supposed, _MOST_UNSEEN * least)) + weight * supposed


def learn_calm_output(memory: DemandMemory, seconds: float, watched: bool) -> None:
    """Keep what a request's output is while few end early. `watched`: for long enough to believe it."""
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
    """Output tokens over all requests, and over those that ended well (infinite where none did, 0 where none came)."""
    _, output, _, requests = memory.mix_sums
    least = output / (requests + max(0.0, memory.mix_early[0]))
    return least, (0.0 if output <= 0.0 else output / requests if requests > 0.0 else math.inf)
