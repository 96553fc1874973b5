"""Memory of `predictive` for each deployment, and the slow feedback that moves its quantile. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

from policies.base import BacktestTrace
from policies.predictive.rules.sizing import SizingMemory

_NORMAL = NormalDist()
_score = lru_cache(maxsize=64)(_NORMAL.inv_cdf)
_LOWEST_LEVEL, _HIGHEST_LEVEL = 0.5, 0.99
_GAIN = 0.5
"""Fall of the level, in standard normal units, in one season of traffic without a miss."""
_MOST_DOWN, _MOST_UP = -1.5, 1.0
"""Largest shift of the level by feedback, in standard normal units."""
_LONGEST_STEP_S = 60.0
_ASKED_S = 1800.0


@dataclass(slots=True)
class Reflex:
    """Last time that saturation asked for more: when, how many in all, and how long that holds."""

    at_s: float
    level: int
    until_s: float


@dataclass(slots=True)
class RuleState:
    """Memory of one deployment beside the sizing itself."""

    sizing: SizingMemory = field(default_factory=SizingMemory)
    diary: BacktestTrace | None = None
    """Trace of the past; dropped when it was replayed."""
    rehearsed: int = 0
    """Bins of the trace that were replayed."""
    begun_at_s: float | None = None
    """Time of the first tick."""
    replicas_per_rps: float | None = None
    """Replicas per request per second when the replay of history began."""
    requests: float = 0.0
    missed: float = 0.0
    """Requests measured against the SLO since the last bin closed, and those that missed it."""
    residence_s: float | None = None
    """Time (s) that a request stays; None: unknown."""
    smooth: float | None = None
    """Effective demand: requests stay for minutes."""
    refused_at_s: dict[str, float] = field(default_factory=dict)
    """By pool: time of its last refusal."""
    margin: int = 0
    """Margin for nodes that are taken away, in replicas, at the last tick."""
    seen_at_s: float | None = None
    supply: int | None = None
    """At the last tick."""
    stops: float = 0.0
    trailed: float = 0.0
    """Stopped replicas, and replica-seconds paid for after the stop: draining, and idle nodes (faded)."""
    asked: int | None = None
    asked_at_s: float = 0.0
    """Largest number asked for in the last half hour, and when."""
    starts: float = 0.0
    starting_s: float = 0.0
    """Replicas that started, and the sum of their start times (s), faded."""


def remember_asked(book: RuleState, now_s: float, replicas: int) -> None:
    """Keep the largest recent number: guards delay scale-downs, so a level outlasts what was asked for."""
    if book.asked is None or replicas >= book.asked or not 0.0 <= now_s - book.asked_at_s <= _ASKED_S:
        book.asked, book.asked_at_s = replicas, now_s


@dataclass(slots=True)
class DeploymentMemory:
    """One deployment; times in seconds as the caller counts them."""

    shift: float = 0.0
    """Feedback on the quantile, in standard normal units."""
    seen_at_s: float | None = None
    mean_rps: float | None = None
    """Faded mean of the rate: busy hours weigh more in the feedback."""
    waiting: float | None = None
    """Value at the last tick, to detect growth."""
    troubled_since_s: float | None = None
    """Since when every tick showed a full cache or a queue."""
    reflex: Reflex | None = None
    wanted: list[tuple[float, int]] = field(default_factory=list)
    """Wants of recent ticks without a forecast, falling: (time_s, replicas)."""
    shadow: RuleState = field(default_factory=RuleState)


@dataclass(slots=True)
class PredictiveState:
    """Memories by full deployment key."""

    deployments: dict[str, DeploymentMemory] = field(default_factory=dict)


def level(start: float, shift: float) -> float:
    """The quantile in force: where it starts, moved by feedback (normal units), within [0.5, 0.99]."""
    start = min(max(start, _LOWEST_LEVEL), 0.9999)
    z = _score(start) + shift
    return min(max(_NORMAL.cdf(z), _LOWEST_LEVEL), max(_HIGHEST_LEVEL, start))


def learn_level(
    memory: DeploymentMemory,
    now_s: float,
    rate_rps: float | None,
    attained: float | None,
    target: float,
    season_s: float,
) -> None:
    """Move the quantile by what was attained: up while more requests miss than may, down while fewer do.

    Misses are weighed by traffic, not by time: quiet hours count little, and an hour of misses weighs as much as the
    days without misses that its budget would have lasted.
    """
    elapsed_s = 0.0 if memory.seen_at_s is None else min(max(now_s - memory.seen_at_s, 0.0), _LONGEST_STEP_S)
    memory.seen_at_s = now_s
    if rate_rps is None or elapsed_s == 0.0:
        return
    share = elapsed_s / season_s
    mean = rate_rps if memory.mean_rps is None else memory.mean_rps
    memory.mean_rps = mean + min(1.0, share) * (rate_rps - mean)
    if attained is None or target >= 1.0 or memory.mean_rps <= 0.0:
        return
    error = ((1.0 - attained) - (1.0 - target)) / (1.0 - target)
    weight = min(rate_rps / memory.mean_rps, 3.0)
    step = _GAIN * error * weight * share
    memory.shift = min(max(memory.shift + step, _MOST_DOWN), _MOST_UP)


def remember_wanted(memory: DeploymentMemory, now_s: float, replicas: int, window_s: float) -> int:
    """Largest want in the last `window_s`, this one included."""
    kept = [(at_s, count) for at_s, count in memory.wanted if at_s > now_s - window_s and count > replicas]
    memory.wanted = [*kept, (now_s, replicas)]
    return max(count for _, count in memory.wanted)
