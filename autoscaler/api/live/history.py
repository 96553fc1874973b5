"""What the last ticks said of each deployment, for the charts of the live page: packed, bounded, lost without harm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from autoscaler.core.types import Observation, Plan
from policies.base import DeploymentKey

KEPT_S = 7200.0
_MOST_POINTS = 480
_MOST_GONE = 64
_AHEAD_LEVELS = (0.5, 0.99)
_ROW = Struct("<d10f2d")
_WIDTH = _ROW.size
_NAN = math.nan


class Point(NamedTuple):
    """One tick of one deployment; NaN is unknown."""

    now_s: float
    rate_rps: float
    capacity_rps: float
    """Of all running replicas together, within the SLO."""
    running: float
    starting: float
    draining: float
    target: float
    waiting: float
    kv_usage_fraction: float
    ahead_s: float
    """How far ahead the next one looks: the lead time (p90) of that tick."""
    ahead_p99_rps: float
    requests: float
    missed: float
    """Held against the SLO since the start of the controller, and those that missed it."""


@dataclass(slots=True)
class History:
    """The last two hours of each deployment, oldest first; ticks that are closer than `spacing_s` share a point."""

    spacing_s: float = KEPT_S / _MOST_POINTS
    _rows: dict[DeploymentKey, bytearray] = field(default_factory=dict)

    def remember(
        self, plan: Plan, requests: Mapping[DeploymentKey, float], missed: Mapping[DeploymentKey, float]
    ) -> None:
        """Add one finished tick, with the sums since the start of requests held against the SLO and of those that
        missed it. Deployments that the plan does not name any more are forgotten once their points are old, or there
        are many of them: whoever names deployments may name others at every tick.
        """
        now_s, rows, spacing_s = plan.now_s, self._rows, self.spacing_s
        observations = {one.key: one for one in plan.observations}
        for one in plan.deployments:
            key = one.key
            seen = observations.get(key)
            point = (*_point(plan, key, one.target, seen, now_s), requests.get(key, 0.0), missed.get(key, 0.0))
            kept = rows.get(key)
            if kept is None:
                kept = rows[key] = bytearray()
            _add(kept, point, spacing_s)
        if len(rows) > len(plan.deployments):
            there = {one.key for one in plan.deployments}
            gone = sorted((key for key in rows if key not in there), key=lambda key: _newest_s(rows[key]))
            old = sum(_newest_s(rows[key]) <= now_s - KEPT_S for key in gone)
            for key in gone[: max(old, len(gone) - _MOST_GONE)]:
                del rows[key]

    def points(self, key: DeploymentKey) -> Iterator[Point]:
        """Of one deployment, oldest first."""
        return map(Point._make, _ROW.iter_unpack(self._rows.get(key, b"")))


def _point(
    plan: Plan, key: DeploymentKey, target: int | None, seen: Observation | None, now_s: float
) -> tuple[float, ...]:
    forecast, times = plan.forecasts.get(key), plan.lead_times.get(key)
    ahead_s = p99 = _NAN
    if times is not None:
        ahead_s = times.new_node.quantile(0.9)
        if forecast is not None and forecast.calibrated and forecast.values_rps:
            p99 = forecast.quantile(ahead_s, _AHEAD_LEVELS[1])
    if seen is None:
        return (now_s, *(_NAN,) * 5, _known(target), *(_NAN,) * 2, ahead_s, p99)
    each_rps, running = plan.capacities_rps.get(key), seen.running
    return (
        now_s,
        _known(seen.rate_rps),
        _NAN if each_rps is None or running is None else each_rps * running,
        _known(running),
        _NAN if running is None else float(len(seen.starting)),
        _known(seen.draining),
        _known(seen.target if target is None else target),
        _known(seen.waiting),
        _known(seen.kv_usage_fraction),
        ahead_s,
        p99,
    )


def _known(value: float | None) -> float:
    return _NAN if value is None else value


def _newest_s(kept: bytearray) -> float:
    newest_s: float = _ROW.unpack_from(kept, len(kept) - _WIDTH)[0]
    return newest_s


def _add(kept: bytearray, point: tuple[float, ...], spacing_s: float) -> None:
    size = len(kept)
    if size >= 2 * _WIDTH:
        before_s, newest_s = _ROW.unpack_from(kept, size - 2 * _WIDTH)[0], _newest_s(kept)
        if newest_s - before_s < spacing_s:
            del kept[-_WIDTH:]
    kept += _ROW.pack(*point)
    old_s, gone = point[0] - KEPT_S, 0
    while gone < len(kept) and _ROW.unpack_from(kept, gone)[0] < old_s:
        gone += _WIDTH
    del kept[:gone]
