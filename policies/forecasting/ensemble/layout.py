"""The columns of the blend (a member with one way of scaling its errors), and where a forecast's parts wait in a row.

Not for what is done with them (forecaster.py).
"""

from __future__ import annotations

import numpy as np

from policies.forecasting.ensemble.grid import LEVELS, UPPER
from policies.forecasting.ensemble.members import MEMBERS, SEASONAL, STACK, STACK_INPUTS
from policies.forecasting.ensemble.spread import INPUTS

BY_LEVEL = [MEMBERS.index(name) for name in ("last", "max10", "stack")]
BY_HOUR = [MEMBERS.index(name) for name in ("max10", "stack")]
MEMBER_OF = np.array([*range(len(MEMBERS)), *BY_LEVEL, *BY_HOUR])
"""Columns of the blend: every member with its learned scale; some by the level; some by the last hour's errors."""
COLUMNS = (*MEMBERS, *(f"{MEMBERS[m]}/level" for m in BY_LEVEL), *(f"{MEMBERS[m]}/hour" for m in BY_HOUR))
KNOW_SEASON = np.flatnonzero(np.isin(MEMBER_OF, (*SEASONAL, STACK)))


class Record:
    """Where the parts of one horizon's forecast lie in a row that waits for its outcome."""

    def __init__(self) -> None:
        sizes = {
            "points": len(MEMBERS),
            "scales": len(COLUMNS),
            "base": len(MEMBERS),
            "stack": STACK_INPUTS,
            "spread": len(MEMBERS) * INPUTS,
            "upper": len(COLUMNS) * len(LEVELS[UPPER]),
            "mixed": len(LEVELS),
            "rest": 7,
        }
        self.at: dict[str, slice] = {}
        width = 0
        for name, size in sizes.items():
            self.at[name] = slice(width, width + size)
            width += size
        self.width = width


RECORD = Record()
