"""Nothing can be read, or nothing can be written: what a plan and its outcomes say of the whole. Pure.

One source or deployment that fails is told elsewhere; here all of them do, which is the network, the rights or the
tokens of the controller itself. It stays ready meanwhile: its pages, and the plan that it publishes, are needed then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autoscaler.core.types import FINE_OUTCOMES, Applied, Plan, Signals

OutageKind = Literal["reading", "writing"]
KINDS: tuple[OutageKind, ...] = ("reading", "writing")


LASTS_S = 30.0
"""Shorter ones are a start, or a hiccup that sources are told of: neither log nor Event says them."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One that lasts: since when, and the first reason met."""

    kind: OutageKind
    since_s: float
    why: str


def outages_of(
    signals: Signals, plan: Plan, applied: Mapping[str, Applied], before: Sequence[Outage]
) -> tuple[Outage, ...]:
    """Those that are there after a tick; one that was there `before` keeps its beginning."""
    since_s = {one.kind: one.since_s for one in before}
    found = (_reading(signals, plan), _writing(applied, plan))
    return tuple(replace(one, since_s=since_s.get(one.kind, one.since_s)) for one in found if one is not None)


def _reading(signals: Signals, plan: Plan) -> Outage | None:
    """Of no deployment is known what it does; or none is known at all, and a source is down."""
    down = [source for source in signals.sources if not source.up]
    if not down or any(one.fresh for one in plan.observations):
        return None
    return Outage("reading", plan.now_s, f"nothing can be read: source {down[0].name}: {down[0].why}")


def _writing(applied: Mapping[str, Applied], plan: Plan) -> Outage | None:
    """Writes failed and none went through; no writes at all are no outage."""
    failed = [one for one in applied.values() if one.outcome not in FINE_OUTCOMES]
    if not failed or any(one.outcome in ("ok", "published") for one in applied.values()):
        return None
    first = failed[0]
    return Outage("writing", plan.now_s, f"nothing can be written: {first.what}: {first.outcome}: {first.why}")
