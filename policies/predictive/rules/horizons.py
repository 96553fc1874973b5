"""Expected demand as the rules need it: a forecast at three horizons, in replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.predictive.rules.family import Floats
from policies.predictive.rules.smoothing import OccupancySmoother

_EARLY = 1.5
_LONGEST_KEEP_S = 2400.0


@dataclass(frozen=True, slots=True)
class Horizons:
    """Quantiles of the largest demand, by the family's levels (the last axis), in replicas at the SLO.

    Until a replica asked for now serves; until half a lead time later; until one given up now would have paid.
    """

    lead: Floats
    early: Floats
    keep: Floats

    @classmethod
    def of(
        cls, rows: Floats, horizons_s: Sequence[float] | Floats, lead_s: Floats, stop_s: Floats,
        effective: OccupancySmoother | None = None,
    ) -> Horizons:  # fmt: skip
        """From forecasts' rows (deployments, horizons, levels); horizons (horizons,), or (deployments, horizons).

        `lead_s`, (deployments,): until a replica asked for now serves; `stop_s`, (deployments,): for how long what is
        given up stays on the bill. `effective`: how what is forecast in counts is felt; None: as it is counted.
        """
        pays_s = np.maximum(lead_s, stop_s)
        keep_s = np.minimum(lead_s + pays_s, np.maximum(_LONGEST_KEEP_S, lead_s))
        reaches_s = np.stack([lead_s, _EARLY * lead_s, keep_s])
        horizons = np.array(horizons_s, ndmin=2)
        at = _at_horizons(rows, horizons, reaches_s)
        if effective is not None:
            at = effective.quantiles(at, *effective.about(rows[:, 0], horizons[:, 0]), reaches_s)
        return cls(*at)


def _at_horizons(rows: Floats, horizons_s: Floats, reaches_s: Floats) -> Floats:
    """Rows at these reaches, interpolated linearly: shape (reaches, deployments, levels)."""
    passed = np.add.reduce(horizons_s < reaches_s[:, :, None], axis=2)
    after = np.minimum(passed, rows.shape[1] - 1)
    before = np.maximum(after - 1, 0)
    each = np.arange(len(rows))
    whose = each if len(horizons_s) > 1 else 0
    after_s, before_s = horizons_s[whose, after], horizons_s[whose, before]
    exact = (after == 0) | (reaches_s >= after_s)
    share = ((reaches_s - before_s) / np.where(exact, 1.0, after_s - before_s))[:, :, None]
    later = rows[each, after]
    return np.asarray(np.where(exact[:, :, None], later, rows[each, before] * (1.0 - share) + later * share))
