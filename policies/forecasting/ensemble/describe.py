"""Whether a mixture may be relied on, and on what it stands, in words. Not for what it forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.forecasting.base import length_words

if TYPE_CHECKING:
    from policies.forecasting.ensemble.forecaster import MixtureForecaster

_ENOUGH = 60
_BLIND_S = 300.0


def calibrated(one: MixtureForecaster) -> bool:
    """See Forecaster.calibrated."""
    return _enough(one) and not _blind(one) and not one.check.off


def why(one: MixtureForecaster) -> str:
    """See Forecaster.why."""
    if one.memory.known < 2:
        return "no history yet"
    seen = length_words(one.memory.known * one.bin_s)
    if not one.calibrated:
        if not _enough(one):
            return f"only {seen} of history"
        if _blind(one):
            return f"no value in the last {_BLIND_S:g} s"
        return one.check.words()
    if not one.memory.seasonal:
        return f"recent values only: {seen} of history is less than a season"
    _, trust = one.standing()
    return f"{seen} of history; {trust:.0%} of the weight on the season alone, the rest on all members"


def _enough(one: MixtureForecaster) -> bool:
    known, _ = one.standing()
    return known >= _ENOUGH


def _blind(one: MixtureForecaster) -> bool:
    return one.memory.since_known * one.grid.bin_s >= max(_BLIND_S, 2 * one.grid.bin_s)
