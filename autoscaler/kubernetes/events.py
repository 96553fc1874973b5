"""Kubernetes Events: what `kubectl describe rayservice` shows of decisions, guards and wrong settings.

Best effort and rate-limited: an event that cannot be written is counted and forgotten, and never holds up a decision.
What lasts is one event with a rising count, not one a tick. `notices_of` reads a plan, `EventBook` limits (both pure),
`EventWriter` writes. Not a log: the journal has everything.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from autoscaler.common.errors import LeadtimeError, NotFound
from autoscaler.common.redaction import blank
from autoscaler.core import guards
from autoscaler.core.conditions import KINDS
from autoscaler.core.outages import LASTS_S, Outage, OutageKind
from autoscaler.core.types import FINE_OUTCOMES, Applied, Condition, DeploymentPlan, Outcome, Plan
from autoscaler.kubernetes.resources import EVENTS, ClusterApi, Object, PatchOperation, micro_time
from policies.base import DeploymentKey

log = logging.getLogger("leadtime")

CONTROLLER = "leadtime.dev/controller"
_LONGEST_NOTE = 1024


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The object that an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    api_version: str = "ray.io/v1"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to say of an object. `reason` is CamelCase; notices of one `subject` are repetitions of one event."""

    regarding: ObjectRef
    reason: str
    note: str
    subject: str
    action: str = "Scale"
    warning: bool = False


# ---------------------------------------------------------------- what a plan says

_GUARDS: Mapping[str, tuple[str, bool]] = {
    guards.MAXIMUM: ("ClampedByMax", True),
    guards.BUDGET: ("ClampedByBudget", True),
    guards.UNKNOWN: ("InputStale", True),
    guards.FAILING: ("ScaleDownWithheld", True),
    guards.TARGET_RESET: ("TargetReset", False),
    guards.MANUAL: ("ManualScalingRespected", False),
}
"""Guards that people should hear of: (reason, is it a warning). The others work every day and are in the journal."""


def notices_of(
    plan: Plan, outcomes: Sequence[Outcome], ref_of: Callable[[DeploymentKey], ObjectRef | None]
) -> list[Notice]:
    """Scalings, failures and guards of one tick; nothing of a dry run or a follower, who change nothing."""
    if plan.dry_run or not plan.leader:
        return []
    applied = {one.what: one for outcome in outcomes for one in outcome.applied}
    notices: list[Notice] = []
    for one in plan.deployments:
        ref = ref_of(one.key)
        if ref is not None:
            notices += _of_deployment(ref, one, applied.get(str(one.key)))
    for condition in plan.conditions:
        ref = ref_of(condition.deployment) if condition.deployment is not None else None
        if ref is not None and condition.deployment is not None:
            notices.append(_of_condition(ref, condition, condition.deployment))
    return notices


_OUTAGES: Mapping[OutageKind, str] = {"reading": "NothingReadable", "writing": "NothingWritable"}


def own_notices(
    pod: ObjectRef, conditions: Sequence[Condition], outages: Sequence[Outage], now_s: float
) -> list[Notice]:
    """What is wrong with the controller as a whole, as Events of its own pod: the reasons may name any service, which
    who looks at one service is not to read."""
    notices = [
        Notice(pod, _OUTAGES[one.kind], f"{one.why}; levels stay", one.kind, action="Control", warning=True)
        for one in outages
        if now_s - one.since_s >= LASTS_S
    ]
    for condition in conditions:
        if condition.deployment is None:
            kind = KINDS[condition.name]
            note = f"{condition.why}; {kind.mend}"
            notices.append(Notice(pod, kind.reason, note, condition.name, action="Control", warning=True))
    return notices


def _of_condition(ref: ObjectRef, condition: Condition, key: DeploymentKey) -> Notice:
    kind, what = KINDS[condition.name], f"{key.app}/{key.deployment}"
    return Notice(ref, kind.reason, f"{what}: {condition.why}; {kind.mend}", f"{what} {condition.name}", warning=True)


def _of_deployment(ref: ObjectRef, one: DeploymentPlan, applied: Applied | None) -> list[Notice]:
    what = f"{one.key.app}/{one.key.deployment}"
    notices = []
    if one.blocked is not None:
        notices.append(Notice(ref, "ScalingBlocked", f"{what}: {one.blocked}", f"{what} blocked", warning=True))
    elif applied is not None and applied.outcome == "ok":
        change = f"{what}: {one.observed_target} -> {one.target} replicas"
        notices.append(Notice(ref, "Scaled", f"{change}. {one.sentence}".strip(), f"{change}"))
    elif applied is not None and applied.outcome not in FINE_OUTCOMES:
        note = f"{what}: {one.target} replicas not set: {applied.outcome}: {applied.why}"
        notices.append(Notice(ref, "ScaleFailed", note, f"{what} failed", warning=True))
    for record in one.guards:
        if record.name in _GUARDS:
            reason, warning = _GUARDS[record.name]
            note = f"{what}: {record.before} -> {record.after}: {record.why}"
            notices.append(Notice(ref, reason, note, f"{what} {record.name}", warning=warning))
    return notices


# ---------------------------------------------------------------- how much may be said


@dataclass(frozen=True, slots=True)
class EventLimits:
    """How often an event may be written: a burst, then a trickle; per object, and in all."""

    repeat_every_s: float = 300.0
    """A lasting event's count is written at most this often."""
    forget_after_s: float = 1800.0
    """Silence after which a repetition is a new event; servers keep events for about an hour."""
    burst_per_object: int = 10
    per_object_every_s: float = 60.0
    burst: int = 60
    every_s: float = 1.0
    most_remembered: int = 5000


@dataclass(slots=True)
class _Said:
    name: str
    first_at_s: float
    last_at_s: float
    written_at_s: float
    count: int = 1


@dataclass(slots=True)
class _Bucket:
    """Tokens that trickle in; `take` says whether there was one."""

    burst: int
    every_s: float
    tokens: float
    at_s: float

    def take(self, now_s: float) -> bool:
        self.tokens = min(self.burst, self.tokens + max(0.0, now_s - self.at_s) / self.every_s)
        self.at_s = max(self.at_s, now_s)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Saying:
    """What to write now: a new event, or (count > 1) the count of the one called `name`."""

    name: str
    count: int


class EventBook:
    """What was said of which object, and what may be said now. Pure: time is an argument."""

    def __init__(self, limits: EventLimits | None = None) -> None:
        self.limits = limits or EventLimits()
        self.suppressed = 0
        self._said: OrderedDict[tuple[ObjectRef, str, str], _Said] = OrderedDict()
        self._objects: OrderedDict[ObjectRef, _Bucket] = OrderedDict()
        self._all = _Bucket(self.limits.burst, self.limits.every_s, self.limits.burst, 0.0)
        self._numbers = itertools.count()

    def take(self, notice: Notice, now_s: float) -> Saying | None:
        """None: counted, nothing to write now."""
        key = (notice.regarding, notice.reason, notice.subject)
        said = self._said.get(key)
        if said is not None and now_s - said.last_at_s > self.limits.forget_after_s:
            said = None
        if said is not None:
            said.last_at_s, said.count = now_s, said.count + 1
            if now_s - said.written_at_s < self.limits.repeat_every_s or not self._allowed(notice.regarding, now_s):
                return None
            said.written_at_s = now_s
            return Saying(said.name, said.count)
        if not self._allowed(notice.regarding, now_s):
            self.suppressed += 1
            return None
        name = event_name(notice.regarding.name, now_s, next(self._numbers))
        self._remember(key, _Said(name, now_s, now_s, now_s))
        return Saying(name, 1)

    def forget(self, notice: Notice) -> None:
        """It is not in the cluster (any more): the next repetition is a new event."""
        self._said.pop((notice.regarding, notice.reason, notice.subject), None)

    def _allowed(self, ref: ObjectRef, now_s: float) -> bool:
        bucket = self._objects.get(ref)
        if bucket is None:
            limits = self.limits
            bucket = _Bucket(limits.burst_per_object, limits.per_object_every_s, limits.burst_per_object, now_s)
            self._objects[ref] = bucket
            if len(self._objects) > self.limits.most_remembered:
                self._objects.popitem(last=False)
        return bucket.take(now_s) and self._all.take(now_s)

    def _remember(self, key: tuple[ObjectRef, str, str], said: _Said) -> None:
        self._said[key] = said
        self._said.move_to_end(key)
        if len(self._said) > self.limits.most_remembered:
            self._said.popitem(last=False)


def event_name(regarding: str, now_s: float, number: int) -> str:
    """Unique within a process and between processes that start at different moments."""
    return f"{regarding[:220]}.{int(now_s * 1e6):x}{number & 0xFFF:03x}"


def event_object(notice: Notice, name: str, at: datetime, instance: str) -> Object:
    """The Event as events.k8s.io/v1 wants it."""
    ref, note = notice.regarding, blank(notice.note)
    regarding = {"apiVersion": ref.api_version, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": name, "namespace": ref.namespace},
        "eventTime": micro_time(at),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": notice.action,
        "reason": notice.reason,
        "regarding": {**regarding, **({"uid": ref.uid} if ref.uid else {})},
        "note": note if len(note) <= _LONGEST_NOTE else note[: _LONGEST_NOTE - 3] + "...",
        "type": "Warning" if notice.warning else "Normal",
    }


# ---------------------------------------------------------------- writing


class EventWriter:
    """Takes notices at once, writes them one by one from `run()`; what does not fit in the queue is dropped."""

    def __init__(
        self,
        api: ClusterApi,
        instance: str,
        book: EventBook | None = None,
        *,
        now_s: Callable[[], float],
        timeout_s: float = 5.0,
        most_waiting: int = 500,
    ) -> None:
        self.failed = 0
        self.dropped = 0
        self._api, self._instance, self._book = api, instance, book or EventBook()
        self._now_s, self._timeout_s = now_s, timeout_s
        self._waiting: deque[tuple[Notice, Saying, float]] = deque()
        self._most_waiting = most_waiting
        self._something = asyncio.Event()
        self._failing = False

    def tell(self, notices: Iterable[Notice]) -> None:
        """Never waits and never raises."""
        now_s = self._now_s()
        for notice in notices:
            saying = self._book.take(notice, now_s)
            if saying is None:
                continue
            if len(self._waiting) >= self._most_waiting:
                self._book.forget(notice)
                self.dropped += 1
                continue
            self._waiting.append((notice, saying, now_s))
            self._something.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. Never raises."""
        while self._waiting:
            notice, saying, at_s = self._waiting.popleft()
            try:
                await self._write(notice, saying, datetime.fromtimestamp(at_s, UTC))
                self._failing = False
            except LeadtimeError as error:
                self._failed(notice, str(error))
            except Exception as error:
                self._failed(notice, f"{type(error).__name__}: {error}")

    async def _write(self, notice: Notice, saying: Saying, at: datetime) -> None:
        namespace = notice.regarding.namespace
        if saying.count > 1:
            series = {"count": saying.count, "lastObservedTime": micro_time(at)}
            operations = [PatchOperation("add", "/series", series)]
            try:
                await self._api.patch(EVENTS, namespace, saying.name, operations, timeout_s=self._timeout_s)
                return
            except NotFound:  # servers forget events after an hour or so
                pass
        event = event_object(notice, saying.name, at, self._instance)
        await self._api.create(EVENTS, namespace, event, timeout_s=self._timeout_s)

    def _failed(self, notice: Notice, why: str) -> None:
        self.failed += 1
        self._book.forget(notice)
        if not self._failing:
            log.warning("an event was not written (said once until it works again): %s", why)
        self._failing = True
