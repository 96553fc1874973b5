"""`schedule`: numbers of replicas by the clock, as cron entries set them: what most teams do about a daily wave.

`floors` maps an entry in cron's notation (minute hour * * weekday) to the replicas that hold from then until the next
entry. Without floors they are derived from history: for each hour (of the week, where history is a fortnight; else of
the day) the 90th percentile of what it needed. Nothing else is looked at, so an hour unlike its past is not met.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from policies.base import (
    DeploymentKey,
    DeploymentView,
    FleetProposal,
    FleetView,
    Guards,
    Knowledge,
    Policy,
    PolicyError,
    ReplicaProposal,
    Term,
)
from policies.base.knowledge import PastDemand
from policies.options import between, option
from policies.plugin import PolicyPlugin

_MINUTE_S, _HOUR_S, _DAY_S, _WEEK_S = 60.0, 3600.0, 86400.0, 7 * 86400.0
_EPOCH_WEEKDAY = 4
"""Time 0 is a Thursday; cron counts days from Sunday."""
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """Times are UTC plus the offset. `floors`: of every deployment, or by deployment key."""

    floors: dict[str, Any] | None = option(None, doc='e.g. {"0 7 * * 1-5": 6, "0 20 * * *": 2}; null = from history')
    percentile: float = option(
        0.9, low=0.01, high=1, doc="of an hour's needs, when derived from history", search=between(0.5, 1.0)
    )
    early_s: float | None = option(
        None, low=0, high=86400, doc="so much ahead; null = median lead time", search=between(0, 1800, start=300.0)
    )
    utc_offset_s: float = option(0.0, low=-86400, high=86400, doc="local time minus UTC")


@dataclass(slots=True)
class ScheduleState:
    """Nothing to remember."""

    unused: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Week:
    """A week's changes: seconds after Sunday 00:00 (ascending) and the replicas from then on."""

    at_s: tuple[float, ...]
    replicas: tuple[int, ...]

    def of(self, time_s: float) -> int:
        """At a time (seconds since the epoch, local)."""
        into_s = (time_s + _EPOCH_WEEKDAY * _DAY_S) % _WEEK_S
        return self.replicas[bisect_right(self.at_s, into_s + 1e-6) - 1]


def parse_week(floors: Mapping[Any, Any], where: str) -> Week:
    """Cron entries to a week. Errors: PolicyError naming the entry and what is allowed."""
    changes: dict[float, int] = {}
    if not floors:
        raise PolicyError(f"{where}: {{}}; allowed: at least one entry")
    for entry, replicas in floors.items():
        if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
            raise PolicyError(f"{where}: {entry!r}: {replicas!r}; allowed: a whole number of replicas >= 0")
        fields = entry.split() if isinstance(entry, str) else []
        if len(fields) != 5 or fields[2] != "*" or fields[3] != "*":
            raise PolicyError(f"{where}: {entry!r}; allowed: minute hour * * weekday, e.g. '30 7 * * mon-fri'")
        days = sorted({d % 7 for d in _values(fields[4], 0, 7, entry, where)})
        for day in days:
            for hour in _values(fields[1], 0, 23, entry, where):
                for minute in _values(fields[0], 0, 59, entry, where):
                    changes[day * _DAY_S + hour * _HOUR_S + minute * _MINUTE_S] = replicas
    times = sorted(changes)
    return Week(tuple(times), tuple(changes[t] for t in times))


def _values(text: str, low: int, high: int, entry: str, where: str) -> list[int]:
    """One field of cron: `*`, numbers, ranges, steps and lists; weekdays also by name."""
    found: list[int] = []
    for part in text.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            begin, end = (low, high) if span == "*" else (_number(first), _number(last) if dash else _number(first))
            every = int(step) if step else 1
        except ValueError:
            begin, end, every = 1, 0, 1
        if not (low <= begin <= end <= high and every >= 1):
            raise PolicyError(
                f"{where}: {entry!r}: {text!r}; allowed: *, or numbers from {low} to {high}, a-b, a,b, */n"
            )
        found += range(begin, end + 1, every)
    return found


def _number(text: str) -> int:
    return _DAYS.index(text) if text in _DAYS else int(text)


def percentile(values: list[int], level: float) -> int:
    """The smallest value that at least `level` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)]


def floors_from(past: PastDemand, level: float, offset_s: float = 0.0) -> dict[str, int]:
    """For each hour of the week (of the day under two weeks of history) the percentile of the replicas needed in it."""
    whole_weeks = past.ends_s[-1] - past.ends_s[0] + past.bin_s >= 2 * _WEEK_S - 1e-6
    by_hour: dict[tuple[int, int], list[int]] = {}
    for end_s, count in zip(past.ends_s, past.replicas(), strict=True):
        middle_s = end_s - past.bin_s / 2 + offset_s
        day = (math.floor(middle_s / _DAY_S) + _EPOCH_WEEKDAY) % 7 if whole_weeks else -1
        by_hour.setdefault((day, math.floor(middle_s / _HOUR_S) % 24), []).append(count)
    return {
        f"0 {hour} * * {day if day >= 0 else '*'}": percentile(counts, level)
        for (day, hour), counts in sorted(by_hour.items())
    }


class SchedulePolicy(PolicyPlugin):
    """See the module. Errors: PolicyError for an entry that makes no sense, or when asked to propose without floors."""

    Options = ScheduleOptions
    name = "schedule"
    guards: Guards = "bounds"
    reads_metrics = False
    options: ScheduleOptions

    def __init__(self, options: ScheduleOptions) -> None:
        super().__init__(options)
        self._weeks: dict[str, Week] = {}
        floors = options.floors
        if floors is None:
            return
        where = "policy schedule: option floors"
        if any(isinstance(value, dict) for value in floors.values()):
            for key, own in floors.items():
                if not isinstance(own, dict):
                    raise PolicyError(
                        f"{where}: {key!r}: {own!r}; allowed: entries, as the other deployments have them"
                    )
                self._weeks[DeploymentKey.parse(key).full] = parse_week(own, f"{where}: {key}")
        else:
            self._weeks["*"] = parse_week(floors, where)

    @property
    def needs_history(self) -> bool:
        """No floors were given."""
        return self.options.floors is None

    def prepare(self, knowledge: Knowledge) -> Policy:
        """With floors from the past, where the options leave them open."""
        return self.with_history(knowledge.past_demand(self.name)) if self.needs_history else self

    def with_history(self, past: Mapping[str, PastDemand]) -> SchedulePolicy:
        """Floors for each deployment whose past is known."""
        o = self.options
        floors = {key: floors_from(one, o.percentile, o.utc_offset_s) for key, one in past.items()}
        return SchedulePolicy(replace(o, floors=floors))

    def new_state(self) -> ScheduleState:
        return ScheduleState()

    def propose(self, fleet: FleetView, state: ScheduleState, now_s: float) -> FleetProposal:
        """The floor in force for every deployment that has one."""
        if self.needs_history:
            raise PolicyError("policy schedule: option floors: null; it needs entries (or a scenario's history)")
        replicas = {}
        for d in fleet.deployments:
            week = self._weeks.get(d.key.full, self._weeks.get("*"))
            if week is not None:
                count = week.of(now_s + self.options.utc_offset_s + self._early_s(d))
                replicas[d.key] = ReplicaProposal(count, (Term("schedule", count, f"{count} at this hour"),))
        return FleetProposal(replicas)

    def _early_s(self, d: DeploymentView) -> float:
        if self.options.early_s is not None:
            return self.options.early_s
        return d.lead_times.new_node.quantile(0.5) if d.lead_times is not None else 0.0
