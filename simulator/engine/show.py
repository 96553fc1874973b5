"""What one replica shows at an instant: gauges of its last finished step, counters up to it."""

from __future__ import annotations

import numpy as np

from simulator.engine import layout as at
from simulator.engine.account import count_gaps, free_after, show_gauges
from simulator.engine.jit import inner
from simulator.engine.law import boundary_s
from simulator.engine.layout import Ints, Reals
from simulator.engine.requests import plan_steps_done

SHOWN_WORDS = 7 + at.N_SENT - at.N_PROMPT + at.BOUNDARY - at.TTFT_COUNTS
"""Words of one line of `show`."""


@inner
def show(z: Ints, x: Reals, row: int, now_s: float, shown: Ints) -> None:
    """One replica's gauges and counters at now into SHOWN_WORDS words; their order is `records.SHOWN`'s."""
    real = shown.view(np.float64)
    done = plan_steps_done(z, x, row, now_s)
    if done > 0 and z[row + at.PHASE] == at.STEPPING:
        show_gauges(z, x, row, done, free_after(z, row, done))
    shown[0], shown[1] = z[row + at.REPLICA], z[row + at.LIVE]
    shown[2], shown[3] = z[row + at.SHOWN_RUNNING], z[row + at.SHOWN_WAITING]
    real[4] = 1.0 - z[row + at.SHOWN_FREE] / z[at.BLOCKS]
    shown[5] = z[row + at.ONGOING]
    for i in range(at.N_PROMPT, at.N_SENT + 1):
        shown[6 + i - at.N_PROMPT] = z[row + i]
    histograms = 7 + at.N_SENT - at.N_PROMPT
    for i in range(at.TTFT_COUNTS, at.BOUNDARY):
        shown[histograms + i - at.TTFT_COUNTS] = z[row + i]
    if z[row + at.PHASE] == at.BETWEEN:
        return
    end_s = boundary_s(x[row + at.START], x[row + at.BASE], x[row + at.SLOPE], done)
    batch = z[row + at.PLAN_BATCH]
    shown[6 + at.N_OUTPUT - at.N_PROMPT] += done * batch
    shown[6 + at.N_STEPS - at.N_PROMPT] += done
    real[6 + at.BUSY - at.N_PROMPT] += now_s - x[row + at.START]
    real[6 + at.ITL_SUM - at.N_PROMPT] += (end_s - x[row + at.START]) * batch
    counts = shown[histograms + at.ITL_COUNTS - at.TTFT_COUNTS :]
    count_shown_gaps(z, x, row, counts, done)


@inner
def count_shown_gaps(z: Ints, x: Reals, row: int, counts: Ints, done: int) -> None:
    """Add the gaps of the plan's finished steps: counted in the row, copied as a difference, taken back."""
    before = z[row + at.ITL_COUNTS : row + at.MEAN_COUNTS].copy()
    count_gaps(z, x, row, row + at.ITL_COUNTS, done)
    for i in range(len(before)):
        counts[i] += z[row + at.ITL_COUNTS + i] - before[i]
        z[row + at.ITL_COUNTS + i] = before[i]
