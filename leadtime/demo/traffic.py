"""The demo's traffic: what a day looks like for each deployment, seven days before it, and today's requests.

Only traffic is compressed in the demo: a day takes `day_s` seconds. Pure and seeded: the same seed gives the same days
and the same requests, whoever scales. Times are seconds since the day began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_AMPLITUDE_SPREAD = 0.07
"""Standard deviation of a day's factor on its traffic: no two days are equal."""
_SHIFT_SPREAD = 0.008
"""Standard deviation of a day's shift, as a fraction of the day: people are not punctual."""


@dataclass(frozen=True, slots=True)
class Hump:
    """Traffic that rises from `start` to `top`, stays until `fall` and is gone at `end` (fractions of a day)."""

    start: float
    top: float
    fall: float
    end: float
    rps: float

    def rate_rps(self, phase: float) -> float:
        if phase <= self.start or phase >= self.end:
            return 0.0
        if phase < self.top:
            return self.rps * _smooth((phase - self.start) / (self.top - self.start))
        if phase > self.fall:
            return self.rps * _smooth((self.end - phase) / (self.end - self.fall))
        return self.rps


def _smooth(share: float) -> float:
    return share * share * (3.0 - 2.0 * share)


@dataclass(frozen=True, slots=True)
class Shape:
    """A day: what is always there, and humps on top of it."""

    night_rps: float
    humps: tuple[Hump, ...]

    def rate_rps(self, phase: float) -> float:
        """Expected requests per second at this fraction of the day (days repeat)."""
        phase %= 1.0
        return self.night_rps + sum(hump.rate_rps(phase) for hump in self.humps)

    @property
    def most_rps(self) -> float:
        """A bound that no moment of the day exceeds."""
        return self.night_rps + sum(hump.rps for hump in self.humps)


@dataclass(frozen=True, slots=True)
class Tokens:
    """How long requests are: log-normal prompts about a median, uniform outputs."""

    prompt_median: int
    output_least: int
    output_most: int
    prompt_sigma: float = 0.35
    prompt_most: int = 900

    @property
    def typical(self) -> Request:
        """A request of middling length, at time 0."""
        return Request(0.0, self.prompt_median, (self.output_least + self.output_most) // 2)


@dataclass(frozen=True, slots=True)
class Demand:
    """One deployment's users."""

    deployment: str
    shape: Shape
    tokens: Tokens
    chat: bool
    """They use /v1/chat/completions; else /v1/completions."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to come."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


DEMANDS = (
    Demand(
        "chat",
        Shape(0.35, (Hump(0.11, 0.25, 0.40, 0.50, 2.3), Hump(0.27, 0.30, 0.34, 0.38, 0.9))),
        Tokens(prompt_median=220, output_least=28, output_most=40),
        chat=True,
    ),
    Demand(
        "code",
        Shape(0.2, (Hump(0.13, 0.20, 0.28, 0.32, 1.4), Hump(0.34, 0.38, 0.46, 0.52, 1.4))),
        Tokens(prompt_median=380, output_least=20, output_most=34),
        chat=False,
    ),
)
"""Days begin at six in the morning and end with the night. `chat` swells and has a spike at lunch, `code` keeps office
hours with a break at lunch. At most 6 req/s in all."""


@dataclass(frozen=True, slots=True)
class _Day:
    """What makes one day unlike the others."""

    factor: float
    shift: float


def _draw_day(rng: np.random.Generator) -> _Day:
    factor = float(np.clip(1.0 + _AMPLITUDE_SPREAD * rng.standard_normal(), 0.85, 1.15))
    shift = float(np.clip(_SHIFT_SPREAD * rng.standard_normal(), -0.02, 0.02))
    return _Day(factor, shift)


def _rng(seed: int, demand: Demand, what: int) -> np.random.Generator:
    return np.random.default_rng([seed, what, *demand.deployment.encode()])


def history(demand: Demand, seed: int, day_s: float, days: int) -> tuple[Request, ...]:
    """The requests of `days` days that end at time 0 (so their times are negative), each with a noise of its own."""
    rng = _rng(seed, demand, 1)
    requests: list[Request] = []
    for number in range(-days, 0):
        requests += _thinned(demand, rng, day_s, day_s, begin_s=number * day_s)
    return tuple(requests)


def arrivals(demand: Demand, seed: int, day_s: float, seconds: float) -> tuple[Request, ...]:
    """Today's requests in [0, seconds)."""
    return tuple(_thinned(demand, _rng(seed, demand, 2), day_s, seconds))


def _thinned(
    demand: Demand, rng: np.random.Generator, day_s: float, seconds: float, begin_s: float = 0.0
) -> list[Request]:
    """A Poisson process by thinning: candidates at the highest rate, each kept with its moment's share of that rate."""
    day = _draw_day(rng)
    most_rps = demand.shape.most_rps * day.factor
    requests: list[Request] = []
    at_s = 0.0
    while True:
        at_s += float(rng.exponential(1.0 / most_rps))
        keep, prompt, output = float(rng.random()), float(rng.standard_normal()), float(rng.random())
        if at_s >= seconds:
            return requests
        if keep * most_rps < day.factor * demand.shape.rate_rps(at_s / day_s - day.shift):
            requests.append(_request(begin_s + at_s, demand.tokens, prompt, output))


def _request(at_s: float, tokens: Tokens, normal: float, uniform: float) -> Request:
    prompt = round(tokens.prompt_median * float(np.exp(tokens.prompt_sigma * normal)))
    spread = tokens.output_most - tokens.output_least + 1
    return Request(at_s, min(max(prompt, 1), tokens.prompt_most), tokens.output_least + int(uniform * spread))


def counted(
    requests: Sequence[Request], begin_s: float, end_s: float, bin_s: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ends of the bins of [begin_s, end_s) and the requests/s counted in each."""
    bins = round((end_s - begin_s) / bin_s)
    counts, _ = np.histogram([r.at_s for r in requests], bins=bins, range=(begin_s, end_s))
    return tuple(begin_s + (i + 1) * bin_s for i in range(bins)), tuple(float(n) / bin_s for n in counts)


def usual_day(requests: Sequence[Request], day_s: float, days: int, columns: int) -> tuple[float, ...]:
    """The mean of some days that ended at time 0, in `columns` equal parts: requests/s."""
    column_s = day_s / columns
    counts, _ = np.histogram([r.at_s % day_s for r in requests], bins=columns, range=(0.0, day_s))
    return tuple(float(n) / (column_s * days) for n in counts)
