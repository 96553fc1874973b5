"""What the demo's screen shows at one moment, as plain data: made by `watch`, drawn by `view` and `plot`.

Times are seconds since the traffic began unless the name says otherwise; None is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chart:
    """One deployment's picture: every tuple has one value per column of time, the whole width from left to right.

    Left of `now_column` lies what was seen, right of it what is expected: `fan` (median, p90) of the forecast, None
    beyond its horizon. `usual` is the mean of the days before, `carries` what running replicas carry (later: as starts
    under way are expected to end), `late` how many users got their first token too late.
    """

    now_column: int
    lead_column: int | None
    traffic: tuple[float | None, ...]
    usual: tuple[float, ...]
    fan: tuple[tuple[float, float] | None, ...]
    carries: tuple[float | None, ...]
    late: tuple[int, ...]
    begin_s: float
    end_s: float

    @property
    def columns(self) -> int:
        return len(self.traffic)

    @property
    def most(self) -> float:
        """The largest value that is drawn."""
        values = [*self.traffic, *self.usual, *self.carries, *(high for pair in self.fan if pair for high in pair[1:])]
        return max((v for v in values if v is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class Lane:
    """One deployment."""

    name: str
    chart: Chart
    rate_rps: float | None = None
    by_lead_rps: float | None = None
    """Upper end (p90) of what is expected to come within one lead time."""
    capacity_rps: float | None = None
    target: int | None = None
    running: int | None = None
    starting: int | None = None
    draining: int | None = None
    next_ready_in_s: float | None = None
    lead_p90_s: float | None = None
    queue: float | None = None
    kv_usage_fraction: float | None = None
    within_slo_fraction: float | None = None
    """Of the requests that users sent lately: first token in time."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of a target, or something learned (then `change` is empty)."""

    at_s: float
    name: str
    change: str
    why: str


@dataclass(frozen=True, slots=True)
class Scene:
    """The whole screen."""

    title: str
    elapsed_s: float
    total_s: float
    page: str
    words: tuple[str, ...]
    """Sentences at the top: what one is looking at."""
    lanes: tuple[Lane, ...]
    decisions: tuple[Decision, ...] = ()
    """Newest first."""
    so_far: str = ""
    nodes: str = ""
    """What nodes there are, in a line."""
    alarm: str = ""
    """Something is wrong, in a sentence."""
