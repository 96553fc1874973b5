"""A dead man's switch: what a standby knows of the controller that it stands in for.

Serve's own autoscaler is off where leadtime acts through the external-scaler API, so levels would stand for ever once
leadtime is gone. A standby reads the plan that the controller publishes and judges its age exactly as the policy
inside Serve does (leadtime_serve_policy). What it then wants: policies/standby.py; how it is built: wiring/standby.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from autoscaler.common.errors import StateError
from leadtime_serve_policy import PlanReader
from policies.base import DeploymentKey, DeploymentView

log = logging.getLogger("leadtime")

BACK_OFF_S = 900.0
"""For this long a standby leaves a deployment alone whose level somebody else has lowered."""


@dataclass(slots=True)
class _Seen:
    """Of one deployment."""

    short_since_s: float | None = None
    """Since when Serve's target has been below the level that the controller's plan names."""
    highest: int | None = None
    """The highest target during this silence."""
    backs_off_until_s: float = -1.0
    stands_in: bool = False


class HeardPauses(Protocol):
    """Keeps what the controller last said is paused, over restarts of the standby; both raise StateError."""

    def load_heard_paused(self) -> frozenset[str] | None:
        """None: no plan was ever heard."""
        ...

    def save_heard_paused(self, keys: frozenset[str]) -> None: ...


class ControllerWatch:
    """Says of each deployment whether its controller has been silent for `after_s`.

    Silent means: no plan of an acting controller for that long, or a plan that Serve's target does not reach for that
    long (the controller cannot write). A deployment that was paused when the controller fell silent stays paused, also
    over a restart of the standby where there is a `memory`; what that cannot give back counts as paused.
    All times are monotonic seconds of `monotonic_s`.
    """

    def __init__(
        self,
        reader: PlanReader,
        after_s: float,
        monotonic_s: Callable[[], float],
        memory: HeardPauses | None = None,
    ) -> None:
        self._reader = reader
        self._after_s = after_s
        self._monotonic_s = monotonic_s
        self._acted_at_s = monotonic_s()
        """When the controller was last known to act; before the first look it gets the benefit of the doubt."""
        self._memory, self._unsaved = memory, ""
        self._paused: frozenset[str] | None = None
        """What the controller last said; None: nothing was ever heard of it."""
        self._hands_off = ""
        """Why everything counts as paused until a plan is read."""
        try:
            self._paused = memory.load_heard_paused() if memory is not None else None
        except StateError as error:
            self._hands_off = str(error)
            log.error("%s: everything counts as paused until a plan of the controller is read", error)
        self._seen: dict[DeploymentKey, _Seen] = {}

    @property
    def stands_in_for(self) -> frozenset[DeploymentKey]:
        """Deployments that the controller does not look after now, as of the last decision."""
        return frozenset(key for key, seen in self._seen.items() if seen.stands_in)

    def released(self, d: DeploymentView, now_s: float) -> str | None:
        """Why the standby looks after `d` now; None while it must not. `now_s` (wall clock) is not used."""
        seen = self._seen.setdefault(d.key, _Seen())
        why = self._released(seen, d, self._monotonic_s())
        if seen.stands_in != (why is not None):
            seen.stands_in = why is not None
            log.warning("%s: %s", d.key, f"stands in: {why}" if why else "stands in no longer")
        return why

    def _released(self, seen: _Seen, d: DeploymentView, moment_s: float) -> str | None:
        silent_s = self._silent_for_s(moment_s)
        if self._hands_off or (self._paused is not None and str(d.key) in self._paused):
            return None
        if silent_s >= self._after_s:
            why = f"no plan of a controller that acts for {silent_s:.0f} s ({self._reader.why or 'too old'})"
        else:
            short_s = self._short_for_s(seen, d, moment_s)
            if short_s < self._after_s:
                seen.highest = None
                return None
            why = f"the controller has not reached its planned level for {short_s:.0f} s: it cannot write"
        return None if self._somebody_lowers(seen, d.target, moment_s) else why

    def _silent_for_s(self, moment_s: float) -> float:
        sighting = self._reader.seen
        if sighting is not None and sighting.plan.acts and sighting.is_fresh(moment_s):
            self._acted_at_s = max(self._acted_at_s, moment_s)
            self._note_paused(sighting.plan.paused)
        return moment_s - self._acted_at_s

    def _note_paused(self, paused: frozenset[str]) -> None:
        self._hands_off = ""
        if paused == self._paused and not self._unsaved:
            return
        self._paused = paused
        if self._memory is None:
            return
        try:
            self._memory.save_heard_paused(paused)
            unsaved = ""
        except StateError as error:
            unsaved = f"what is paused cannot be remembered over a restart: {error}"
        if unsaved != self._unsaved:
            log.log(logging.ERROR if unsaved else logging.INFO, "%s", unsaved or "what is paused is remembered again")
        self._unsaved = unsaved

    def _short_for_s(self, seen: _Seen, d: DeploymentView, moment_s: float) -> float:
        sighting = self._reader.seen
        planned = None if sighting is None else sighting.plan.targets.get(str(d.key))
        if planned is None or d.target is None or d.target >= planned:
            seen.short_since_s = None
            return 0.0
        if seen.short_since_s is None:
            seen.short_since_s = moment_s
        return moment_s - seen.short_since_s

    def _somebody_lowers(self, seen: _Seen, target: int | None, moment_s: float) -> bool:
        """A standby lowers nothing, so a target that falls is the work of somebody who acts."""
        if target is None:
            return moment_s < seen.backs_off_until_s
        if seen.highest is not None and target < seen.highest:
            seen.backs_off_until_s = moment_s + BACK_OFF_S
            seen.highest = target
        seen.highest = target if seen.highest is None else max(seen.highest, target)
        return moment_s < seen.backs_off_until_s
