"""Who plays more seeds than the league's: the flagship, and the rivals whose bills may turn out to be the cheapest.

Three seeds leave a ratio of bills open by some percent. More of them for everybody would take hours, and whoever is far
from the target or far from cheap stays so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.results.table import Entry

FLAGSHIP = "predictive"
NEAR = 1.25
"""Times the allowed misses: with more seeds such a rival may reach the target."""
WITHIN = 1.15
"""Times the bill of the cheapest of its setting that reaches the target."""
_MOST = {"default": None, "tuned": 2}
"""Rivals of a setting that play on; None: all that are close."""


def contenders(entries: Sequence[Entry], targets: Mapping[str, float]) -> list[Entry]:
    """Rivals of one scenario that play more seeds, by what they did in the first ones; `targets`: by deployment."""
    found: list[Entry] = []
    for setting, most in _MOST.items():
        rivals = [e for e in entries if e.setting == setting and e.policy != FLAGSHIP]
        cheapest = min((e.cost for e in rivals if e.reaches(targets)), default=math.inf)
        close = [e for e in rivals if e.worst_misses(targets) <= NEAR and e.cost <= WITHIN * cheapest]
        found += sorted(close, key=lambda e: (not e.reaches(targets), e.cost))[:most]
    return found
