"""Outages: nothing can be read, or nothing can be written. Pure; computed from a plan and the outcomes of its writes.

A single source or deployment that fails is reported elsewhere. Here all of them fail, which points to the network, the
rights or the tokens of the controller itself. The pod stays ready meanwhile: its pages, and the plan that it publishes,
are needed then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autoscaler.core.types import FINE_OUTCOMES, Applied, Plan, Signals

OutageKind = Literal["reading", "writing"]
KINDS: tuple[OutageKind, ...] = ("reading", "writing")


LASTS_S = 30.0
"""Shorter outages (s) are a start or a hiccup that the sources report already: they get no log line and no Event."""


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage under way: when it began, and the first reason."""

    kind: OutageKind
    since_s: float
    why: str


def outages_of(
    signals: Signals, plan: Plan, applied: Mapping[str, Applied], before: Sequence[Outage]
) -> tuple[Outage, ...]:
    """Outages after a tick; one that was already in `before` keeps its beginning."""
    since_s = {one.kind: one.since_s for one in before}
    found = (_reading(signals, plan), _writing(applied, plan))
    return tuple(replace(one, since_s=since_s.get(one.kind, one.since_s)) for one in found if one is not None)


def _reading(signals: Signals, plan: Plan) -> Outage | None:
    """Whether demand is unknown for every deployment, or there is no deployment and a source is down."""
    down = [source for source in signals.sources if not source.up]
    if not down or any(one.fresh for one in plan.observations):
        return None
    return Outage("reading", plan.now_s, f"nothing can be read: source {down[0].name}: {down[0].why}")


def _writing(applied: Mapping[str, Applied], plan: Plan) -> Outage | None:
    """Whether writes failed and none succeeded. No writes at all are no outage."""
    failed = [one for one in applied.values() if one.outcome not in FINE_OUTCOMES]
    if not failed or any(one.outcome in ("ok", "published") for one in applied.values()):
        return None
    first = failed[0]
    return Outage("writing", plan.now_s, f"nothing can be written: {first.what}: {first.outcome}: {first.why}")
