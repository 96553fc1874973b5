"""Every limit between a policy's proposal and the plan, each with a name that appears in journal and metrics.

Pure. Two strengths: `full` for anything that acts on a live cluster (ControllerConfig.full_guards) and for the flagship
everywhere; `bounds` for rival policies in the simulator, which must behave as published (min/max, budget, pause only).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from autoscaler.core.state import SupplyMemory
from autoscaler.core.types import GuardRecord, GuardSettings, Observation
from policies.base import UNBOUNDED_SLOTS, DeploymentKey, whole_down, whole_like, whole_up
from policies.base.record import record

UNKNOWN = "unknown_is_not_zero"
PAUSED = "paused"
MINIMUM = "min_replicas"
MAXIMUM = "max_replicas"
BUDGET = "gpu_budget"
FAILING = "failing_is_not_idle"
START_UNDER_WAY = "start_under_way"
SURVIVORS = "survivors_carry"
IN_FLIGHT = "requests_in_flight"
STABILIZATION = "stabilization"
STEP_UP = "max_step_up"
STEP_DOWN = "max_step_down"
ABOVE_MAXIMUM = "above_max_replicas"
SECOND_WRITER = "second_writer"
INVARIANT = "invariant"
"""A decision that breaks an invariant: the level stays as it is."""
TARGET_RESET = "target_reset"
MANUAL = "manual_scaling"
WHOLE_GANGS = "whole_gangs"
"""A number that is no whole number of gangs is made one."""
NO_WHOLE_GANG = "no_whole_gang"
"""No whole number of gangs is allowed: the level stays as it is."""
OBSERVED_ONLY = "observed_only"
DECISION_FAILED = "decision_failed"
"""The deployment cannot be decided at this tick: its level stays."""
HINT_CEILING = "hint_ceiling"
"""A hint asked for more than the ceiling allows. Its numbers are req/s, not replicas."""

CONTESTED_S = 600.0
"""A second writer that has changed nothing for this time (s) is considered gone."""
_TURNS, _TURNS_COUNT_S = 3, 1800.0
_FAILING_FRACTION = 0.05


@record(frozen=True, slots=True)
class GuardContext:
    """Inputs of the guards for one deployment."""

    key: DeploymentKey
    observation: Observation
    memory: SupplyMemory
    settings: GuardSettings
    now_s: float
    current: int
    """The level in force: what the plan last said, or what Serve has."""
    min_replicas: int
    max_replicas: int
    capacity_rps: float | None
    max_ongoing_requests: int | None
    full: bool
    share: int | None = None
    """Replicas that its share of a GPU budget holds, if that is less than it wants. What it has above that is owed to
    others.
    """
    granted: int | None = None
    """Replicas that a GPU budget grants it now; None: no budget applies."""
    insists_on: int | None = None
    """Replicas of its minimum that it keeps even when the budget is used up; None: all."""
    max_step_up: int | None = None
    """Its own limit on replicas added in a tick, besides that of the settings."""
    shown: int | None = None
    """The level that Serve has."""
    gang_size: int = 1
    """Replicas that start and stop together: level, bounds and budget are multiples of it, and so is what comes out."""


Check = Callable[[GuardContext, int], tuple[int, str] | None]
"""A guard takes a number; None = it passes, else the number instead and the reason."""


def guard(context: GuardContext, proposed: int) -> tuple[int, tuple[GuardRecord, ...]]:
    """The number that may be planned, and a record of every guard that changed it, in order."""
    records: list[GuardRecord] = []
    number = proposed
    _remember(context, proposed)
    for name, check in _BOUNDS_AND_FULL if context.full else _BOUNDS:
        if number >= context.current and name in _ON_FEWER:
            continue
        changed = check(context, number)
        if changed is not None and context.gang_size > 1:
            changed = whole_like(changed[0], number, context.gang_size), changed[1]
        if changed is not None and name in _FOR_ITS_USERS and context.share is not None:
            changed = min(changed[0], max(number, context.share)), changed[1]
        if changed is not None and changed[0] != number:
            records.append(GuardRecord(name, context.key, number, changed[0], changed[1]))
            number = changed[0]
    return number, tuple(records)


def _remember(context: GuardContext, proposed: int) -> None:
    proposals = context.memory.proposals
    proposals.append([context.now_s, float(proposed)])
    while proposals and proposals[0][0] <= context.now_s - context.settings.scale_down_stabilization_s:
        proposals.pop(0)


def above_maximum(c: GuardContext) -> GuardRecord | None:
    """Reason why a level above the maximum (set by another writer) is left alone; None: the maximum carries its users.

    The level is set to the maximum in one write or not at all: a level between the two may not be posted.
    """
    why = _why_not_at_once(c, c.max_replicas)
    if not why:
        return None
    words = f"the level is {_level(c)}, above the most it may be ({c.max_replicas}); left as it is: {why}"
    return GuardRecord(ABOVE_MAXIMUM, c.key, c.max_replicas, None, words)


def without_remainder(c: GuardContext) -> tuple[GuardContext, GuardRecord | None]:
    """The context of a level that is no whole number of gangs, and why it is left alone (None: it is not).

    The whole gang above it is the level in force, unless the GPU budget does not allow it: then the one below is, if
    that carries what is in flight.
    """
    above = whole_up(c.current if c.shown is None else c.shown, c.gang_size)
    if c.granted is None or c.granted >= above:
        return c, None
    below = above - c.gang_size
    why = "nothing may be lowered" if c.settings.max_step_down == 0 else _why_not_at_once(c, below)
    if not why:
        return replace(c, current=below), None
    words = (
        f"{c.shown} replicas are no whole number of gangs of {c.gang_size}; left as it is: the GPU budget allows "
        f"{c.granted}, and {why}"
    )
    return c, GuardRecord(NO_WHOLE_GANG, c.key, below, None, words)


def _why_not_at_once(c: GuardContext, number: int) -> str:
    """Why the level may not be set to this lower number in one write; empty: it may."""
    for check in (_unknown, _second_writer, _failing, _start_under_way):
        found = check(c, number)
        if found is not None:
            return found[1]
    found = _survivors(c, number) or _in_flight(c, number)
    return "" if found is None or found[0] <= number else found[1]


def _level(c: GuardContext) -> int:
    """As Serve has it, where gangs made it whole."""
    return c.current if c.gang_size == 1 or c.shown is None else c.shown


def brought_to_maximum(c: GuardContext) -> GuardRecord:
    """Record that a level above the maximum is set to the maximum at once."""
    words = f"the level was {_level(c)}, above the most it may be ({c.max_replicas}), which carries what is in flight"
    return GuardRecord(ABOVE_MAXIMUM, c.key, _level(c), c.max_replicas, words)


def contested(memory: SupplyMemory, now_s: float) -> bool:
    """Whether another writer keeps reversing leadtime's changes."""
    return memory.contested_at_s is not None and now_s - memory.contested_at_s < CONTESTED_S


def note_other_writer(memory: SupplyMemory, shown: int, ours: int, now_s: float) -> None:
    """Note that another writer set `shown` where the plan had `ours`. Three reversals in half an hour make a second
    writer.
    """
    way = 1 if shown > ours else -1
    if memory.moved == -way:
        memory.turns = [*(at_s for at_s in memory.turns if at_s > now_s - _TURNS_COUNT_S), now_s]
    memory.moved = 0
    if contested(memory, now_s) or len(memory.turns) >= _TURNS:
        memory.contested_at_s = now_s


def _minimum(c: GuardContext, n: int) -> tuple[int, str] | None:
    """The minimum, without overdrawing a GPU budget that is used up: existing replicas stay, none is added."""
    least = c.min_replicas
    if c.granted is not None:
        kept = (
            least if c.insists_on is None else min(least, max(1, c.insists_on))
        )  # the last replica is nobody's to take
        least = min(least, max(c.granted, min(kept, c.current)))
    return (least, f"replicas.min is {c.min_replicas}") if n < least else None


def _granted(c: GuardContext, n: int) -> tuple[int, str] | None:
    """Limits of other guards that keep replicas never exceed the budget."""
    if c.granted is None:
        return None
    most = max(c.granted, c.current if c.shown is None else c.shown)
    return (most, f"the GPU budget allows {c.granted} now") if n > most else None


def _second_writer(c: GuardContext, n: int) -> tuple[int, str] | None:
    if n < c.current and contested(c.memory, c.now_s):
        return c.current, "another writer turns its level back again and again: the higher of the two levels stays"
    return None


def _maximum(c: GuardContext, n: int) -> tuple[int, str] | None:
    return (c.max_replicas, f"replicas.max is {c.max_replicas}") if n > c.max_replicas else None


def _unknown(c: GuardContext, n: int) -> tuple[int, str] | None:
    if n < c.current and not c.observation.fresh:
        return c.current, f"no scale-down on what is not known: {c.observation.why_stale}"
    return None


def _failing(c: GuardContext, n: int) -> tuple[int, str] | None:
    if n < c.current and c.observation.failing:
        return c.current, f"{c.observation.failing}: failing is not idleness"
    rate, errors = c.observation.rate_rps, c.observation.error_rate_rps
    if n < c.current and rate and errors and errors > _FAILING_FRACTION * rate:
        return c.current, f"{errors / rate:.0%} of requests fail: failing is not idleness"
    return None


def _start_under_way(c: GuardContext, n: int) -> tuple[int, str] | None:
    starting = len(c.observation.starting)
    if n < c.current and starting and (c.observation.waiting or 0) > 0:
        return c.current, f"{starting} start under way and {c.observation.waiting:.0f} requests wait for them"
    return None


def _survivors(c: GuardContext, n: int) -> tuple[int, str] | None:
    """The replicas that stay must carry today's traffic; those still starting do not count when removing."""
    running = c.observation.running
    if n >= c.current or running is None or n >= running:
        return None
    needed, why = n, ""
    if c.observation.rate_rps and c.capacity_rps:
        by_rate = math.ceil(c.observation.rate_rps / c.capacity_rps - 1e-9)
        if by_rate > needed:
            needed, why = (
                by_rate,
                f"{c.observation.rate_rps:.3g} req/s need {by_rate} at {c.capacity_rps:.3g} req/s each",
            )
    if c.observation.ongoing and c.max_ongoing_requests and c.max_ongoing_requests < UNBOUNDED_SLOTS:
        by_slots = math.ceil(c.observation.ongoing / c.max_ongoing_requests - 1e-9)
        if by_slots > needed:
            needed, why = by_slots, f"{c.observation.ongoing:.0f} requests in flight need {by_slots} replicas' slots"
    return (min(needed, c.current), why) if needed > n else None


def _in_flight(c: GuardContext, n: int) -> tuple[int, str] | None:
    busy = (c.observation.ongoing or 0) + (c.observation.waiting or 0)
    if n == 0 and c.current > 0 and busy > 0:
        return 1, f"{busy:.0f} requests are in flight: not to zero yet"
    return None


def _stabilization(c: GuardContext, n: int) -> tuple[int, str] | None:
    if n >= c.current:
        return None
    highest = int(max((p[1] for p in c.memory.proposals), default=n))
    allowed = min(max(highest, n), c.current)
    window_s = c.settings.scale_down_stabilization_s
    return (allowed, f"{highest} replicas were wanted within the last {window_s:.0f} s") if allowed > n else None


def _step_up(c: GuardContext, n: int) -> tuple[int, str] | None:
    limits = [step for step in (c.settings.max_step_up, c.max_step_up) if step is not None]
    step = _whole_step(c, min(limits)) if limits else None
    if step is not None and n > c.current + step:
        return c.current + step, f"at most {step} more per tick"
    return None


def _step_down(c: GuardContext, n: int) -> tuple[int, str] | None:
    limit = c.settings.max_step_down
    step = None if limit is None else _whole_step(c, limit)
    if step is not None and n < c.current - step:
        return c.current - step, f"at most {step} fewer per tick"
    return None


def _whole_step(c: GuardContext, step: int) -> int:
    """A limit on replicas of a tick in whole gangs, at least one: none smaller can be added or removed. 0 stays 0."""
    return max(whole_down(step, c.gang_size), c.gang_size) if c.gang_size > 1 and step > 0 else step


_BOUNDS: tuple[tuple[str, Check], ...] = ((MINIMUM, _minimum), (MAXIMUM, _maximum))
_FULL: tuple[tuple[str, Check], ...] = (
    (UNKNOWN, _unknown),
    (SECOND_WRITER, _second_writer),
    (FAILING, _failing),
    (START_UNDER_WAY, _start_under_way),
    (SURVIVORS, _survivors),
    (IN_FLIGHT, _in_flight),
    (STABILIZATION, _stabilization),
    (STEP_DOWN, _step_down),
    (STEP_UP, _step_up),
    (BUDGET, _granted),
)
_BOUNDS_AND_FULL = _BOUNDS + _FULL
_ON_FEWER = frozenset((UNKNOWN, SECOND_WRITER, FAILING, START_UNDER_WAY, SURVIVORS, STABILIZATION, STEP_DOWN))
"""Guards that act only on a number below the level in force."""
_FOR_ITS_USERS = frozenset((FAILING, START_UNDER_WAY, SURVIVORS, STABILIZATION))
"""Guards that keep replicas for a deployment's own users. They do not apply to replicas that another deployment has a
right to: a borrower that is always full would otherwise never give them back.
"""
