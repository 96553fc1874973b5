"""How well a profile reproduces requests that were observed on a real engine: percentiles side by side.

    error = simulated / observed - 1, over the rows with status `ok`

Quantiles are those of the sorted values with straight lines between them. Not for fitting (calibration/requests.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.common.svg import Scale, line, nice_ticks
from policies.capacity.profile import EngineProfile
from simulator.experiments.observed import Array, ObservedRequests, SimulatedRequests, simulate_requests

MEASURES = ("ttft_s", "itl_s", "e2e_s")
COUNTS = ("preemptions", "recomputed_tokens")
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One comparison: the requests, what the simulator made of them, and counts observed by other means, if any."""

    profile: str
    observed: ObservedRequests
    simulated: SimulatedRequests
    counts: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """The result as JSON has it; None where something is unknown."""
        observed, simulated = self._side("observed"), self._side("simulated")
        observed.update({name: self.counts.get(name) for name in COUNTS})
        simulated.update({name: getattr(self.simulated, name) for name in COUNTS})
        errors: dict[str, Any] = {
            measure: {key: _error(simulated[measure][key], observed[measure][key]) for key in observed[measure]}
            for measure in MEASURES
        }
        for name in ("throughput_rps", *COUNTS):
            errors[name] = _error(simulated[name], observed[name])
        return {
            "version": 1,
            "profile": self.profile,
            "source": self.observed.source,
            "observed": observed,
            "simulated": simulated,
            "error_fraction": errors,
            "preemptions": self.simulated.preemptions,
            "recomputed_tokens": self.simulated.recomputed_tokens,
        }

    def values(self, measure: str, side: str) -> Array:
        """Seconds of each compared request that has them; `side`: observed, simulated."""
        name = "mean_itl_s" if measure == "itl_s" else measure
        values: Array = getattr(self.observed if side == "observed" else self.simulated, name)[self.observed.ok]
        return values[np.isfinite(values)]

    def _side(self, side: str) -> dict[str, Any]:
        figures: dict[str, Any] = {"requests": len(self.values("e2e_s", side))}
        figures.update({measure: _figures(self.values(measure, side)) for measure in MEASURES})
        ends_s = self._ends_s(side)
        span_s = float(ends_s.max() - self.observed.arrival_s[0]) if len(ends_s) else 0.0
        figures["throughput_rps"] = len(ends_s) / span_s if span_s > 0 else None
        return figures

    def _ends_s(self, side: str) -> Array:
        e2e_s = (self.observed if side == "observed" else self.simulated).e2e_s
        ends_s: Array = (self.observed.arrival_s + e2e_s)[self.observed.ok]
        return ends_s[np.isfinite(ends_s)]


def compare(
    profile: EngineProfile,
    observed: ObservedRequests,
    counts: Mapping[str, float] | None = None,
    cached_prompt_tokens: int = 0,
) -> Fidelity:
    """Serve the observed requests with the profile. `counts`: observed preemptions and recomputed tokens, if known."""
    return Fidelity(profile.name, observed, simulate_requests(profile, observed, cached_prompt_tokens), counts or {})


def _figures(values: Array) -> dict[str, float | None]:
    if len(values) == 0:
        return dict.fromkeys(("mean", *(name for name, _ in _QUANTILES)))
    return {"mean": float(values.mean()), **{name: float(np.quantile(values, q)) for name, q in _QUANTILES}}


def _error(simulated: float | None, observed: float | None) -> float | None:
    if simulated is None or observed is None or observed == 0:
        return 0.0 if simulated == observed == 0 else None
    return simulated / observed - 1.0


# ---------------------------------------------------------------- picture

_SHARES: NDArray[np.float64] = np.linspace(0.01, 0.99, 99)
_STYLE = (
    "text{font:11px sans-serif;fill:#444}.grid{stroke:#ddd}.observed{stroke:#222;stroke-width:2}"
    ".simulated{stroke:#d2691e;stroke-width:2;stroke-dasharray:6 4}path{fill:none;vector-effect:non-scaling-stroke}"
)
_TITLES = {"ttft_s": "time to first token, s", "itl_s": "mean time between tokens, s", "e2e_s": "end to end, s"}


def quantile_plot(made: Fidelity) -> str:
    """An SVG: for each measure all quantiles from 1 to 99 %, observed and simulated."""
    panels = "".join(_panel(made, measure, 40 + 300 * i) for i, measure in enumerate(MEASURES))
    legend = (
        '<path class="observed" d="M40 268h30"/><text x="76" y="272">observed</text>'
        '<path class="simulated" d="M160 268h30"/><text x="196" y="272">simulated</text>'
        '<text x="920" y="272" text-anchor="end">share of requests below, 1 to 99 %</text>'
    )
    label = "Quantiles of observed and simulated latencies"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 284" role="img" aria-label="{label}">'
        f'<style>{_STYLE}</style><rect width="940" height="284" fill="#fff"/>{panels}{legend}</svg>\n'
    )


def _panel(made: Fidelity, measure: str, left: int) -> str:
    sides = {side: made.values(measure, side) for side in ("observed", "simulated")}
    curves = {side: np.quantile(values, _SHARES) for side, values in sides.items() if len(values)}
    most = max((float(curve.max()) for curve in curves.values()), default=1.0)
    ticks = nice_ticks(0.0, most)
    across, up = Scale(0.0, 1.0), Scale(0.0, ticks[-1], flip=True)
    grid = "".join(
        f'<path class="grid" d="M{left} {30 + 0.22 * up(t):.1f}h240"/>'
        f'<text x="{left - 4}" y="{34 + 0.22 * up(t):.1f}" text-anchor="end">{t:g}</text>'
        for t in ticks
    )
    drawn = "".join(
        line([(across(float(x)), up(float(y))) for x, y in zip(_SHARES, curve, strict=True)], side)
        for side, curve in curves.items()
    )
    title = f'<text x="{left}" y="18">{_TITLES[measure]}</text>'
    return f'{title}{grid}<g transform="translate({left} 30) scale(0.24 0.22)">{drawn}</g>'
