"""What the runtime logs of its ticks: a lasting trouble once, its end, and decisions that were carried out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from autoscaler.common.log_limits import KIND, SUBJECT
from autoscaler.core import conditions as wrong
from autoscaler.core.outages import KINDS, LASTS_S, Outage
from autoscaler.core.types import FINE_OUTCOMES, Applied, Condition, Plan, Signals

log = logging.getLogger("leadtime")


_MOST_SUBJECTS = 1000
_ABOUT_A_DEPLOYMENT = ("writing to ", "level ")


class TickLog:
    """`last`: what was logged last on each subject."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}
        self._conditions: set[tuple[str, str]] = set()

    def say(self, subject: str, words: str, level: int) -> None:
        """Log `words` when they are other than the last ones on `subject`; "" means that all is well again."""
        before = self.last.get(subject, "")
        kind = {KIND: subject.partition(" ")[0], SUBJECT: subject}
        if words and words != before:
            log.log(level, "%s", words, extra=kind)
        elif before and not words:
            log.info("%s: well again", subject, extra=kind)
        if words:
            self.last[subject] = words
        else:
            self.last.pop(subject, None)

    def sources(self, signals: Signals) -> None:
        for source in signals.sources:
            was_down = bool(self.last.get(f"source {source.name}"))
            if not source.up and not was_down:
                self.say(f"source {source.name}", f"source {source.name} is down: {source.why}", logging.WARNING)
            elif source.up:
                self.say(f"source {source.name}", "", logging.WARNING)

    def outages(self, outages: Sequence[Outage], now_s: float) -> None:
        """Once when nothing can be read or written for a while, and once when it can again."""
        there = {one.kind: one.why for one in outages if now_s - one.since_s >= LASTS_S}
        for kind in KINDS:
            if not there.get(kind) or not self.last.get(f"{kind} as a whole"):
                self.say(f"{kind} as a whole", there.get(kind, ""), logging.ERROR)

    def conditions(self, conditions: Sequence[Condition]) -> None:
        """Each condition once, and its end."""
        now = {(one.name, str(one.deployment) if one.deployment else ""): one for one in conditions}
        for name, whose in self._conditions - now.keys():
            log.info("%s%s: over", f"{whose}: " if whose else "", name, extra={KIND: name, SUBJECT: whose})
        for (name, whose), one in now.items():
            if (name, whose) not in self._conditions:
                kind = wrong.KINDS[name]
                level = logging.ERROR if kind.severity == "critical" else logging.WARNING
                extra = {KIND: name, SUBJECT: whose}
                log.log(level, "%s%s: %s; %s", f"{whose}: " if whose else "", name, one.why, kind.mend, extra=extra)
        self._conditions = set(now)

    def decisions(self, plan: Plan, applied_to: Mapping[str, Applied]) -> None:
        words = "; ".join(f"{one.deployment}: {one.invariant}" for one in plan.breaches)
        self.say("invariants", f"a bug, its level stays as it is: {words}" if words else "", logging.ERROR)
        for one in plan.deployments:
            applied = applied_to.get(str(one.key))
            failed = applied is not None and applied.outcome not in FINE_OUTCOMES
            if applied is not None and self._newly_set(applied):
                log.info("%s: %s", one.key, one.sentence)
            words = f"{one.key}: {applied.outcome}: {applied.why}" if applied is not None and failed else ""
            self.say(f"writing to {one.key}", words, logging.WARNING)
        self._forget_gone(plan)
        for pool in plan.pools:
            held = applied_to.get(pool.name)
            if held is not None:
                self._pool(pool.name, held)

    def _forget_gone(self, plan: Plan) -> None:
        """Names come and go: what was said of deployments that are gone is dropped when it is much."""
        if len(self.last) <= _MOST_SUBJECTS + 2 * len(plan.deployments):
            return
        there = {f"{about}{one.key}" for one in plan.deployments for about in _ABOUT_A_DEPLOYMENT}
        gone = [one for one in self.last if one.startswith(_ABOUT_A_DEPLOYMENT) and one not in there]
        for subject in gone:
            del self.last[subject]

    def _pool(self, name: str, applied: Applied) -> None:
        if applied.outcome == "ok":
            log.info("pool %s: %s", name, applied.why)
        words = f"pool {name}: {applied.outcome}: {applied.why}" if applied.outcome not in FINE_OUTCOMES else ""
        self.say(f"pre-warming {name}", words, logging.WARNING)

    def _newly_set(self, applied: Applied) -> bool:
        """A level that was posted, or that Serve's controller is to follow by itself. Said once, until it is another
        one or was reached: what is accepted again and again and never done is a condition, not a line a tick."""
        subject = f"level {applied.what}"
        if applied.outcome == "unchanged":
            self.last.pop(subject, None)
        if applied.outcome not in ("ok", "published"):
            return False
        before = self.last.get(subject)
        self.last[subject] = str(applied.value)
        return before != str(applied.value)
