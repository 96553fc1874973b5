"""How far the league is, and how long the rest may take: by what finished pieces of the same kind took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results.play import Judge, Piece, Tune


@dataclass(frozen=True, slots=True)
class Kind:
    """What makes pieces cost about the same: what is done, by which policy, on which scenario."""

    what: str
    policy: str
    scenario: str

    @classmethod
    def of(cls, piece: Piece, scenario: str) -> Kind:
        what = "judge" if isinstance(piece, Judge) else "tune" if isinstance(piece, Tune) else "search"
        return cls(what, piece.policy, scenario)


@dataclass(slots=True)
class Costs:
    """CPU seconds of finished pieces, from the nearest kind to the widest."""

    seconds: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, finished: Iterable[Mapping[str, Any]]) -> Costs:
        """From what the store holds; pieces that tell no cost teach nothing."""
        costs = cls()
        for one in finished:
            if "cpu_s" in one:
                costs.learn(Kind(**one["kind"]), float(one["cpu_s"]))
        return costs

    def learn(self, kind: Kind, cpu_s: float) -> None:
        for key in _keys(kind):
            self.seconds.setdefault(key, []).append(cpu_s)

    @property
    def total_s(self) -> float:
        return sum(self.seconds.get((), ()))

    def expected_s(self, kind: Kind) -> float | None:
        """None while nothing was finished."""
        for key in _keys(kind):
            seen = self.seconds.get(key)
            if seen:
                return sum(seen) / len(seen)
        return None

    def left_s(self, missing: Iterable[Kind]) -> float | None:
        """CPU seconds of what is missing; None while nothing is known."""
        if not self.seconds:
            return None
        return sum(self.expected_s(kind) or 0.0 for kind in missing)


def _keys(kind: Kind) -> tuple[tuple[str, ...], ...]:
    return (
        (kind.what, kind.policy, kind.scenario),
        (kind.what, kind.policy),
        (kind.what,),
        (),
    )


def in_words(seconds: float | None) -> str:
    """A time to wait, to the minute."""
    if seconds is None:
        return "no telling yet how long"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"about {hours} h {rest:02d} min left" if hours else f"about {max(minutes, 1)} min left"
