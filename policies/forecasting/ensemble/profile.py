"""A step closes: what it brought enters the memories of several series, and their seasonal profiles move on.

The profile at a step is a weighted mean of that time in earlier seasons: the last one 1, the same weekday 2, others
0.5. What was out of all proportion to the profile (an outage, a flash crowd) enters it cut down, until it has lasted
for the better part of a day: then it is the new level. Series that close a step together have it at the same places of
their rings: what takes calls of numpy is done for all of them at once, and the numbers are those of each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from policies.forecasting.ensemble.grid import DAY_S
from policies.forecasting.ensemble.memory import SEASONS, SeriesMemory, latest, places_of

_WEIGHTS = (1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 2.0)
_HOLIDAY_WEIGHT = 2.0
_OTHER_DAY_WEIGHT = 0.1
_WEEKEND = (2, 3)
"""Days since the epoch modulo 7 that are Saturday and Sunday (1970-01-01 was a Thursday)."""
_ODD_FACTOR = 4.0
"""Further than this from the profile (at today's level) is odd."""
_LEVEL_E_FOLD_S = DAY_S / 2
"""How fast "today's level" follows what is odd: by a factor e in this time."""


def close_steps(memories: Sequence[SeriesMemory], step: int) -> list[float]:
    """The open step is over for these series of one grid: the mean of each (NaN where all is missing) enters its
    history, and its profile moves on.
    """
    values = [memory.open_next(step) for memory in memories]
    place = step % memories[0].span
    seasonal: list[tuple[SeriesMemory, float]] = []
    for memory, value in zip(memories, values, strict=True):
        if value != value:
            memory.history[place] = math.nan
        elif memory.seasonal:
            seasonal.append((memory, value))
        else:
            memory.history[place] = _as_first(memory, value)
    for (memory, value), levels in zip(seasonal, _levels([memory for memory, _ in seasonal]), strict=True):
        memory.history[place] = _as_seasonal(memory, value, *levels)
    for memory in memories:
        memory.steps += 1
    _extend(memories, step)
    return values


# ------------------------------------------------------------ what may be remembered


def _levels(memories: Sequence[SeriesMemory]) -> Iterable[tuple[float, float]]:
    """Of each the mean of its profile and that of its bins, both over the last quarter of an hour."""
    if not memories:
        return ()
    places = memories[0].places_behind()
    behind = np.array([memory.profile.take(places) for memory in memories])
    profiles = np.add.reduce(behind, axis=1) / behind.shape[1]
    recent = latest(memories, memories[0].windows[15])
    if recent is None:
        return [levels for memory in memories for levels in _levels([memory])]
    return zip(profiles.tolist(), (np.add.reduce(recent, axis=1) / recent.shape[1]).tolist(), strict=True)


def _as_first(memory: SeriesMemory, value: float) -> float:
    """The value as it may be remembered before there is a profile: nothing says yet whether this is of every day."""
    before = memory.last(memory.windows[15] + memory.grid.bins_per_step)[: -memory.grid.bins_per_step]
    if len(before) < memory.windows[15]:
        return value
    return min(value, _ODD_FACTOR * (float(np.add.reduce(before)) / len(before) + 0.05 * memory.mean))


def _as_seasonal(memory: SeriesMemory, value: float, profile: float, recent: float) -> float:
    """The same where there is one: `profile` and `recent` are its mean of lately, and that of the bins."""
    slack = 0.05 * memory.mean
    now = (recent + slack) / (profile + slack) if profile + slack > 0.0 else 0.0
    if not now > 0.0:
        return value
    memory.ratio = min(max((now * (profile + slack) - slack) / max(profile, 1e-3 * memory.mean, 1e-300), 0.0), 10.0)
    drift = math.exp(memory.grid.step_s / _LEVEL_E_FOLD_S)
    memory.today *= drift if now > memory.today else 1.0 / drift
    excess = now / memory.today
    if 1 / _ODD_FACTOR <= excess <= _ODD_FACTOR:
        return value
    memory.odd = 1.0
    expected = float(memory.profile[memory.step % len(memory.profile)]) * memory.today
    if not expected >= 0.0:
        return value
    return min(value, _ODD_FACTOR * expected) if excess > 1 else max(value, expected / _ODD_FACTOR)


# ------------------------------------------------------------ the profile


def _extend(memories: Sequence[SeriesMemory], step: int) -> None:
    """The profile of one more step, as far ahead as it goes; of all of them where a first season is over now."""
    season = memories[0].lags[0]
    last = step + memories[0].reaches
    beginning = [memory for memory in memories if memory.steps == season]
    if beginning:
        for at in range(step + 1 - memories[0].quarter, last):
            _fill(beginning, at)
    known = [memory for memory in memories if memory.steps >= season]
    if known:
        _fill(known, last)


def _fill(memories: Sequence[SeriesMemory], step: int) -> None:
    """The profile at this step."""
    first = memories[0]
    places = np.array([(step - lag) % first.span for lag in first.lags])
    seen = np.array([memory.history.take(places) for memory in memories], dtype=np.float64)
    day = int(step * first.grid.step_s // DAY_S)
    daily = first.grid.season_s == DAY_S
    weights = np.array([_day_weights(day, memory.holidays if daily else _NONE) for memory in memories])
    values = np.matmul(weights[:, None], seen[:, :, None])[:, 0, 0] / np.add.reduce(weights, axis=1)
    if not (values == values).all():
        known = seen == seen
        weights *= known
        total = np.add.reduce(weights, axis=1)
        part = np.matmul(weights[:, None], np.where(known, seen, 0.0)[:, :, None])[:, 0, 0]
        values = np.where(total > 0.0, part / np.where(total > 0.0, total, 1.0), math.nan)
    place = step % len(first.profile)
    for memory, value in zip(memories, values.tolist(), strict=True):
        memory.profile[place] = value


def rises_within(memories: Sequence[SeriesMemory], steps: int) -> list[float]:
    """How much higher (1 to 5 times) the season before went within so many steps than the profile of `ahead`."""
    if not memories:
        return []
    back, span = memories[0].grid.season_steps, memories[0].span
    past = np.array([memory.history.take(places_of(memory.step + 1 - back, steps, span)) for memory in memories])
    ahead = np.array([memory.ahead() for memory in memories])
    highest = zip(memories, np.fmax.reduce(ahead, axis=1).tolist(), np.fmax.reduce(past, axis=1).tolist(), strict=True)
    return [
        min(max(far / near, 1.0), 5.0) if far == far and near > 0.05 * memory.mean and memory.seasonal else 1.0
        for memory, near, far in highest
    ]


_NONE: frozenset[int] = frozenset()


@lru_cache(maxsize=64)
def _day_weights(day: int, holidays: frozenset[int]) -> tuple[float, ...]:
    """Weights of the earlier seasons; on and after holidays (days since the epoch), like days count."""
    weights = list(_WEIGHTS)
    if holidays:
        for k in range(SEASONS):
            off = day - k - 1 in holidays or (day - k - 1) % 7 in _WEEKEND
            if day in holidays:
                weights[k] = _HOLIDAY_WEIGHT if off else _OTHER_DAY_WEIGHT
            elif day - k - 1 in holidays:
                weights[k] = _OTHER_DAY_WEIGHT
    return tuple(weights)
