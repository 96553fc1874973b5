"""What users were promised."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slo:
    """What users were promised: time to first token, mean time between tokens, and the share that gets both."""

    ttft_s: float | None = 2.0
    itl_s: float | None = 0.05
    target_fraction: float = 0.99


LONGEST_TTFT_S, LONGEST_ITL_S = 600.0, 10.0
"""Promises beyond these are taken for milliseconds, wherever settings are read."""
LEAST_TARGET_FRACTION, TARGET_FRACTION_BELOW = 0.5, 1
"""A promise is kept for half of the requests at least, and nobody can promise all of them: 1 leaves nothing that may
miss, and no fleet is large enough for it. The same wherever settings are read."""
