"""Hints in the forecast: announced demand raises the quantiles, within a ceiling, until it expires.

Pure merging. A hint can only raise; its weight follows from its confidence (policies/base/forecast.py). What recurs by
a calendar is in the settings and is made into hints here; other sources are elsewhere (sources/mqtt_hints.py, a
scenario).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import islice, pairwise
from math import ceil
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from autoscaler.core.state import HintMemory
from autoscaler.core.types import Hint, RecurringLoad
from policies.base import DeploymentKey, Forecast
from policies.base.forecast import Announcement, raised_quantile

MOST = 16
"""Most hints of one deployment that count at the same time; those that begin first are kept."""
_STEP_S = 1.0
"""Time (s) before a hint's window enters a horizon at which the quantiles begin to rise towards it."""
_FIRST_EPOCH_S = 1e8
"""Times below this count from a scenario's start."""


_CALENDAR_STEP_S, _AHEAD_STEP_S = 600.0, 3600.0
"""The calendar is asked again for each 10 minutes of time, and for whole hours ahead: its answers are kept."""
_LOOKED_AT = 24
"""Beginnings that are held against the length of a recurring load."""
_CLOCK_CHANGE_S = 3600.0
SHORTEST_S, LONGEST_S = 60, 7 * 86400
"""Bounds of what recurs."""
MOST_RPS, MOST_MULTIPLIER, MOST_RECURRING, LONGEST_CRON = 1e6, 100.0, 16, 100
CRON_WORDS = "five fields of cron: minute, hour, day of the month, month, day of the week"


@dataclass(frozen=True, slots=True)
class ScheduledLoad:
    """A hint that counts now. Rates are in requests of today's mix."""

    hint: Hint
    begun: bool
    weight: float
    """Work of one announced request, in requests of today's mix."""
    ceiling_rps: float | None
    memory: HintMemory | None
    announcement: Announcement | None
    """The level it asks for; None: it multiplies a demand that is unknown."""
    asked_rps: float | None
    """The rate it asks for before the ceiling, in announced requests."""

    @property
    def capped(self) -> bool:
        return self.asked_rps is not None and self.ceiling_rps is not None and self.asked_rps > self.ceiling_rps

    def top_rps(self, row: int, base_rps: float) -> float:
        """Level to which it raises quantile `row`, which is `base_rps` without it."""
        if self.hint.multiplier is None:
            return self.announcement.rps if self.announcement is not None else 0.0
        expected = base_rps
        if self.begun and self.memory is not None and row < len(self.memory.quantiles_rps):
            expected = min(base_rps, self.memory.quantiles_rps[row])
        return _at_most(expected * self.hint.multiplier, self.ceiling_rps)


def scheduled_loads(
    memories: dict[str, HintMemory],
    hints: Sequence[Hint],
    key: DeploymentKey,
    now_s: float,
    farthest_s: float,
    ceiling_rps: float | None,
    rate_rps: float | None,
    forecast: Forecast | None,
    weight: Callable[[Hint], float],
    recurring: Sequence[Hint] = (),
) -> tuple[ScheduledLoad, ...]:
    """Hints of a deployment that count now or within `farthest_s`, by their beginning.

    Of two with the same id the later one counts. `recurring`: those of the settings, which no ceiling holds. `memories`
    learn the base of multipliers: the demand expected without
    the hint, up to its beginning. It stays fixed from then on, since later observations may contain the hint's own
    demand.
    """
    if not hints and not memories and not recurring:
        return ()
    own = {h.id for h in recurring}
    by_id = {h.id: h for h in (*hints, *recurring) if h.key == key and h.end_at_s > now_s and h.confidence_fraction > 0}
    for gone in set(memories) - set(by_id):
        del memories[gone]
    near = [h for h in by_id.values() if h.start_at_s <= now_s + farthest_s]
    near.sort(key=lambda h: (h.start_at_s, h.id))
    return tuple(
        _scheduled(
            memories, hint, now_s, None if hint.id in own else ceiling_rps, rate_rps, forecast, weight(hint)
        )
        for hint in near[:MOST]
    )  # fmt: skip


def _scheduled(
    memories: dict[str, HintMemory],
    hint: Hint,
    now_s: float,
    ceiling_rps: float | None,
    rate_rps: float | None,
    forecast: Forecast | None,
    weight: float,
) -> ScheduledLoad:
    begun = hint.start_at_s <= now_s
    memory: HintMemory | None = None
    asked = hint.rps
    if hint.multiplier is not None:
        memory = memories.get(hint.id)
        if memory is None or not begun:
            row = forecast.values_rps[-1] if forecast is not None and forecast.values_rps else ()
            memory = memories[hint.id] = HintMemory(rate_rps, list(row))
        known = [r for r in (rate_rps, memory.rate_rps) if r is not None]
        asked = hint.multiplier * min(known) if known else None
    announcement = None
    if asked is not None:
        level = _at_most(asked, ceiling_rps) * weight
        words = _words(hint, asked, ceiling_rps, now_s)
        announcement = Announcement(hint.start_at_s, hint.end_at_s, level, hint.confidence_fraction, words)
    return ScheduledLoad(hint, begun, weight, ceiling_rps, memory, announcement, asked)


def merge(forecast: Forecast, scheduled: Sequence[ScheduledLoad]) -> Forecast:
    """The forecast with hints in it. No quantile falls; horizon h includes hints within (t, t+h].

    Rows are added where a hint's window enters the horizon, since quantiles between two rows are interpolated.
    """
    if not scheduled or not forecast.values_rps:
        return forecast
    now_s, ladder = forecast.made_at_s, forecast.horizons_s
    edges = {
        edge
        for one in scheduled
        for ahead_s in (one.hint.start_at_s - now_s,)
        if 0.0 < ahead_s < ladder[-1]
        for edge in (ahead_s - min(_STEP_S, ahead_s / 2), ahead_s)
    } - set(ladder)
    horizons = tuple(sorted((*ladder, *edges)))
    rows: list[tuple[float, ...]] = []
    lowest = (0.0,) * len(forecast.levels)
    for horizon_s in horizons:
        row = [forecast.quantile(horizon_s, level) for level in forecast.levels]
        lowest = _not_falling(_raised_row(forecast.levels, row, scheduled, now_s, horizon_s), lowest)
        rows.append(lowest)
    return replace(forecast, horizons_s=horizons, values_rps=tuple(rows), edges_s=tuple(sorted(edges)))


def _raised_row(
    levels: Sequence[float], row: Sequence[float], scheduled: Sequence[ScheduledLoad], now_s: float, horizon_s: float
) -> list[float]:
    within = [one for one in scheduled if one.hint.start_at_s <= now_s + horizon_s]
    values = []
    for i, level in enumerate(levels):
        tops = [(one.top_rps(i, row[i]), one.hint.confidence_fraction) for one in within]
        values.append(raised_quantile(levels, row, tops, level))
    return values


def _not_falling(row: Sequence[float], before: Sequence[float]) -> tuple[float, ...]:
    """Quantiles neither fall from level to level nor from horizon to horizon."""
    values: list[float] = []
    for value, floor in zip(row, before, strict=True):
        values.append(max(value, floor, values[-1] if values else 0.0))
    return tuple(values)


def _at_most(rps: float, ceiling_rps: float | None) -> float:
    return rps if ceiling_rps is None else min(rps, ceiling_rps)


# ---------------------------------------------------------------- what recurs by a calendar


def recurring_hints(
    schedule: Sequence[RecurringLoad], key: DeploymentKey, now_s: float, farthest_s: float
) -> tuple[Hint, ...]:
    """Of a schedule that is right: the hints that count at `now_s` or begin within `farthest_s`, and some later."""
    from_s = now_s // _CALENDAR_STEP_S * _CALENDAR_STEP_S
    until_s = from_s + _CALENDAR_STEP_S + ceil(farthest_s / _AHEAD_STEP_S) * _AHEAD_STEP_S
    return tuple(
        Hint(
            f"{one.name} {datetime.fromtimestamp(start_s, ZoneInfo(one.time_zone)):%Y-%m-%d %H:%M%z}",
            key,
            start_s,
            start_s + one.duration_s,
            one.rps,
            one.multiplier,
            one.confidence_fraction,
            asked_by="schedule",
        )
        for one in schedule
        for start_s in _beginnings(one.cron, one.time_zone, from_s - one.duration_s, until_s)
        if start_s + one.duration_s > now_s
    )


@lru_cache(maxsize=4096)
def _beginnings(cron: str, time_zone: str, after_s: float, until_s: float) -> tuple[float, ...]:
    """Times (s) in (after_s, until_s]."""
    found = []
    for beginning in CronSim(cron, datetime.fromtimestamp(after_s, ZoneInfo(time_zone))):
        at_s = beginning.timestamp()
        if at_s > until_s:
            break
        found.append(at_s)
    return tuple(found)


def schedule_problem(cron: str, time_zone: str, duration_s: float) -> tuple[str, str] | None:
    """What is wrong with a recurring load: the field ("cron", "time_zone" or "duration_s"), and why; None: nothing."""
    if time_zone not in _time_zones():
        return "time_zone", f"{time_zone!r}; allowed: a time zone of the IANA, as Europe/Berlin or UTC"
    try:
        if len(cron.split()) != 5:
            raise CronSimError(f"{len(cron.split())} fields")
        some = list(islice(CronSim(cron, datetime(2026, 1, 1, tzinfo=ZoneInfo(time_zone))), _LOOKED_AT))
    except CronSimError as error:
        return "cron", f"{cron!r}: {str(error)[:1].lower()}{str(error)[1:]}; allowed: {CRON_WORDS}"
    closest_s = min((b.timestamp() - a.timestamp() for a, b in pairwise(some)), default=None)
    if closest_s is None:
        return "cron", f"{cron!r} never comes; allowed: {CRON_WORDS}"
    if duration_s > closest_s + _CLOCK_CHANGE_S:
        why = f"{duration_s:g}; it begins again after {closest_s:g} s; allowed: no longer than that"
        return "duration_s", why
    return None


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


# ---------------------------------------------------------------- words


def _words(hint: Hint, asked_rps: float, ceiling_rps: float | None, now_s: float) -> str:
    """`hint launch: 40 req/s from 12:30 to 13:30 UTC (asked by marketing)`."""
    what = f"{plain_rps(asked_rps)} req/s"
    if hint.multiplier is not None:
        what = f"{hint.multiplier:g} times the demand, {what},"
    if ceiling_rps is not None and asked_rps > ceiling_rps:
        what += f" (hints may raise to {plain_rps(ceiling_rps)})"
    sure = "" if hint.confidence_fraction >= 1.0 else f", {hint.confidence_fraction:.0%} sure"
    asked_by = f" (asked by {hint.asked_by})" if hint.asked_by else ""
    return f"hint {hint.id}: {what} from {_when(hint.start_at_s, hint.end_at_s, now_s)}{sure}{asked_by}"


def plain_rps(rps: float) -> str:
    """Four figures at most, never as a power of ten."""
    return f"{rps:.4g}" if rps < 1e4 else f"{rps:.0f}"


def _when(start_at_s: float, end_at_s: float, now_s: float) -> str:
    if now_s < _FIRST_EPOCH_S:
        return f"{start_at_s:g} to {end_at_s:g} s"
    start, end, now = (datetime.fromtimestamp(at_s, UTC) for at_s in (start_at_s, end_at_s, now_s))
    first = f"{start:%H:%M}" if start.date() == now.date() else f"{start:%Y-%m-%d %H:%M}"
    last = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{first} to {last} UTC"
