"""What an engine has done: counters and the histograms that vLLM exports, kept plan by plan."""

from __future__ import annotations

from simulator.engine import layout as at
from simulator.engine.blocks import boundary_blocks
from simulator.engine.jit import inner
from simulator.engine.law import boundary_s
from simulator.engine.layout import ITL_EDGES_S, TTFT_EDGES_S, Ints, Reals

_TTFT_EDGES = len(TTFT_EDGES_S)
_ITL_EDGES = len(ITL_EDGES_S)


@inner
def bucket(x: Reals, edges: int, count: int, value: float) -> int:
    """The first of `count` edges that is not below the value (`count`: above all)."""
    i = 0
    while i < count and x[edges + i] < value:
        i += 1
    return i


@inner
def observe_ttft(z: Ints, x: Reals, row: int, seconds: float) -> None:
    """A first token, seconds after the engine's front end got the request."""
    z[row + at.TTFT_COUNTS + bucket(x, z[at.TTFT0], _TTFT_EDGES, seconds)] += 1
    x[row + at.TTFT_SUM] += seconds


@inner
def observe_gap(z: Ints, x: Reals, row: int, seconds: float) -> None:
    """A gap between two tokens of one request."""
    z[row + at.ITL_COUNTS + bucket(x, z[at.ITL0], _ITL_EDGES, seconds)] += 1
    x[row + at.ITL_SUM] += seconds


@inner
def observe_mean(z: Ints, x: Reals, row: int, seconds: float) -> None:
    """A request's own mean gap between tokens, when it has ended."""
    z[row + at.MEAN_COUNTS + bucket(x, z[at.ITL0], _ITL_EDGES, seconds)] += 1
    x[row + at.MEAN_SUM] += seconds


@inner
def count_gaps(z: Ints, x: Reals, row: int, counts: int, steps: int) -> None:
    """The gaps of the plan's first `steps` steps, one per decoding sequence and step, added at z[counts]."""
    batch, base, slope = z[row + at.PLAN_BATCH], x[row + at.BASE], x[row + at.SLOPE]
    if batch == 0 or steps == 0:
        return
    edges = z[at.ITL0]
    i = bucket(x, edges, _ITL_EDGES, base)
    done = 0
    while done < steps:
        upto = steps
        if i < _ITL_EDGES and slope > 0.0:  # steps grow: this many stay at or below the edge
            upto = min(steps, int((x[edges + i] - base) / slope) + 1)
        if upto > done:
            z[counts + i] += batch * (upto - done)
            done = upto
        i = min(i + 1, _ITL_EDGES)


@inner
def account_plan(z: Ints, x: Reals, row: int) -> None:
    """Count the finished plan."""
    steps = z[row + at.STEPS]
    span = x[row + at.END_AT] - x[row + at.START]
    z[row + at.N_STEPS] += steps
    z[row + at.N_OUTPUT] += steps * z[row + at.PLAN_BATCH]
    x[row + at.BUSY] += span
    x[row + at.ITL_SUM] += span * z[row + at.PLAN_BATCH]
    count_gaps(z, x, row, row + at.ITL_COUNTS, steps)


@inner
def waiting_seen(z: Ints, x: Reals, row: int, done: int) -> int:
    """Requests that wait and had reached the engine when the plan's `done`-th step began: it reads its inbox then."""
    since_s = boundary_s(x[row + at.START], x[row + at.BASE], x[row + at.SLOPE], done - 1)
    seen, slot = z[row + at.WAITING], z[row + at.WAIT_TAIL]
    while slot != at.NONE and x[slot + at.SENT] > since_s:
        seen -= 1
        slot = z[slot + at.PREV]
    return int(seen)


@inner
def free_after(z: Ints, row: int, done: int) -> int:
    """Free blocks when the plan's `done`-th step was over, the plan not yet committed."""
    scheduled = min(done + z[at.ASYNC], z[row + at.STEPS])
    return int(z[row + at.FREE] - boundary_blocks(z, row, z[row + at.CLOCK] + 1, scheduled - 1))


@inner
def show_gauges(z: Ints, x: Reals, row: int, done: int, free: int) -> None:
    """Keep what the engine exports after the plan's `done`-th step, until its next one is over."""
    z[row + at.SHOWN_RUNNING], z[row + at.SHOWN_FREE] = z[row + at.RUNNING], free
    z[row + at.SHOWN_WAITING] = waiting_seen(z, x, row, done)
