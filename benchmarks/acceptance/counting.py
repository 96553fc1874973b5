"""What the acceptance lines count: changes of a level, reversals, hours below a share, and what stood in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.acceptance.runs import Found, Track
from benchmarks.acceptance.worlds import HOUR_S

LEAST_REQUESTS = 500
"""An hour with fewer is not judged."""


@dataclass(frozen=True, slots=True)
class Change:
    """A level that went from one number to another."""

    at_s: float
    before: int
    after: int

    @property
    def up(self) -> bool:
        return self.after > self.before


def changes(time_s: Sequence[float], level: Sequence[int], from_s: float = 0.0) -> list[Change]:
    """Every change of a level at `from_s` or later."""
    pairs = pairwise(zip(time_s, level, strict=True))
    return [Change(t, before, after) for (_, before), (t, after) in pairs if after != before and t >= from_s]


def reversals(found: Sequence[Change], within_s: float) -> list[Change]:
    """Changes that take back some of the one before, less than `within_s` after it."""
    return [b for a, b in pairwise(found) if a.up != b.up and b.at_s - a.at_s < within_s]


def busiest_hour(found: Sequence[Change]) -> int:
    """The most changes that any sixty minutes hold; one that begins with each change is enough to look at."""
    return max((sum(c.at_s <= d.at_s < c.at_s + HOUR_S for d in found) for c in found), default=0)


def started(found: Sequence[Change]) -> int:
    """Replicas that were asked for."""
    return sum(c.after - c.before for c in found if c.up)


def stopped(found: Sequence[Change]) -> int:
    """Replicas that were given up."""
    return sum(c.before - c.after for c in found if not c.up)


def too_late(time_s: Sequence[float], wanted: Sequence[bool], held: Sequence[bool], within_s: float) -> int:
    """Ticks in which something is wanted that is not held, though it has been wanted for `within_s` without a break."""
    late, since_s = 0, None
    for t, wants, has in zip(time_s, wanted, held, strict=False):
        since_s = None if not wants else t if since_s is None else since_s
        late += since_s is not None and not has and t - since_s >= within_s
    return late


# ---------------------------------------------------------------- hours


@dataclass(frozen=True, slots=True)
class BadHour:
    """A clock hour whose share of requests within the SLO was under the limit."""

    deployment: str
    hour: int
    requests: int
    within: int
    most: int
    """Replicas that the deployment may have."""
    at_most: float
    """Share of the misses that ended in ticks in which it had them all."""
    starting: float
    """Share of them that ended while replicas were on their way."""
    asked_first_s: float | None
    """From the first replica that was asked for in the hour to the first miss; None: none was."""

    @property
    def share(self) -> float:
        return self.within / self.requests

    @property
    def cause(self) -> str | None:
        """A cause that lies outside of the decision; None where there is none."""
        if self.at_most >= 0.5:
            return f"all {self.most} replicas that it may have were running"
        return None

    @property
    def evidence(self) -> str:
        """What was going on while requests missed."""
        words = f"{100 * self.starting:.0f} % of the misses while replicas were starting"
        if self.asked_first_s is None:
            return f"{words}; none was asked for in that hour"
        side = "before" if self.asked_first_s > 0 else "after"
        return f"{words}; the first was asked for {abs(self.asked_first_s):.0f} s {side} the first miss"


def judged_hours(found: Found) -> int:
    """Clock hours with enough requests, of all deployments."""
    return sum(count >= LEAST_REQUESTS for hours in found.hours.values() for count, _ in hours)


def bad_hours(found: Found, targets: Mapping[str, float]) -> list[BadHour]:
    """Clock hours with enough requests below 1 - 10 x (1 - target); `targets` by deployment."""
    bad = []
    most = {d["name"]: int(d["replicas"]["max"]) for d in found.case.scenario["deployments"]}
    for key, hours in found.hours.items():
        limit = 1.0 - 10.0 * (1.0 - targets[key])
        for hour, (requests, within) in enumerate(hours):
            if requests >= LEAST_REQUESTS and within / requests < limit:
                bad.append(_bad_hour(key, hour, requests, within, most[key], found.tracks[key]))
    return bad


def _bad_hour(key: str, hour: int, requests: int, within: int, most: int, track: Track) -> BadHour:
    rows = track.at(hour * HOUR_S, (hour + 1) * HOUR_S)
    missed = {i: track.slo_misses[i] for i in rows if track.slo_misses[i]}
    total = sum(missed.values()) or 1
    at_most = sum(n for i, n in missed.items() if track.running[i] >= most) / total
    starting = sum(n for i, n in missed.items() if track.starting[i] > 0) / total
    risen = [i for i in rows if i and track.target[i] > track.target[i - 1]]
    first_s = track.time_s[min(missed)] - track.time_s[risen[0]] if missed and risen else None
    return BadHour(key, hour, requests, within, most, at_most, starting, first_s)
