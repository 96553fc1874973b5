"""The step law inside the kernels, and the arithmetic of many equal steps.

Between two changes of the batch, steps differ only by the context growing by one token per sequence, so the n-th of
them takes base + (n-1)*slope and the boundary after n steps lies at start + n*base + slope*n*(n-1)/2. The law itself is
that of policies/capacity/profile.py, read from the header; here are no limits and no scheduling.
"""

from __future__ import annotations

import math

from simulator.engine import layout as at
from simulator.engine.jit import inner
from simulator.engine.layout import Ints, Reals


@inner
def table_s(z: Ints, x: Reals, tokens: float) -> float:
    """The piecewise-linear part in scheduled tokens: first value before the first knot, last slope after the last."""
    knots, first = z[at.KNOTS], z[at.KNOT0]
    if knots == 0:
        return 0.0
    if tokens < x[first] or knots == 1:
        return float(x[first + 1])
    low, high = 0, knots - 1  # the last knot at or before `tokens`, but not the very last
    while high - low > 1:
        middle = (low + high) // 2
        if x[first + 2 * middle] <= tokens:
            low = middle
        else:
            high = middle
    k = first + 2 * low
    return float(x[k + 1] + (x[k + 3] - x[k + 1]) * (tokens - x[k]) / (x[k + 2] - x[k]))


@inner
def device_s(z: Ints, x: Reals, decodes: int, context: int, prefill: int, prefill_qk: float) -> float:
    """Seconds of engine time of one step."""
    seconds = x[at.LAW_A] + x[at.LAW_B] * decodes + x[at.LAW_C] * context
    if prefill > 0:
        seconds += x[at.LAW_D] * prefill + x[at.LAW_E] * prefill_qk + x[at.LAW_H]
    return float(seconds + table_s(z, x, float(decodes + prefill)))


@inner
def boundary_s(start_s: float, base_s: float, slope_s: float, steps: int) -> float:
    """When `steps` equal steps after the start are over."""
    return start_s + (steps * base_s + slope_s * (0.5 * steps * (steps - 1)))


@inner
def first_boundary(start_s: float, base_s: float, slope_s: float, steps: int, at_s: float) -> int:
    """The first n in 0..steps whose boundary lies at or after `at_s` (`steps` where none before does)."""
    wait_s = at_s - start_s
    if wait_s <= 0.0:
        return 0
    linear_s = base_s - 0.5 * slope_s
    root = linear_s + math.sqrt(linear_s * linear_s + 2.0 * slope_s * wait_s)
    if not root > 0.0 or 2.0 * wait_s >= root * steps:
        return steps
    n = int(2.0 * wait_s / root)
    while n > 0 and boundary_s(start_s, base_s, slope_s, n - 1) >= at_s:
        n -= 1
    while n < steps and boundary_s(start_s, base_s, slope_s, n) < at_s:
        n += 1
    return n


@inner
def steps_done(start_s: float, base_s: float, slope_s: float, steps: int, now_s: float) -> int:
    """How many of `steps` are over at `now_s`."""
    n = first_boundary(start_s, base_s, slope_s, steps, now_s)
    if n > 0 and boundary_s(start_s, base_s, slope_s, n) > now_s:
        n -= 1
    return n
