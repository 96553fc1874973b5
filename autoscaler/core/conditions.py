"""Everything that can be wrong for long: its name, how bad it is, what to do. Pure.

A condition that lasts is told by every way there is: one log line and one when it is over, `/api/v1/status` and
`leadtime status`, the metric `leadtime_condition`, a Kubernetes Event, an alert and docs/runbooks/condition.md. To add
one, add its Kind here, its row to that page, and a Candidate where it is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from autoscaler.core import guards
from autoscaler.core.observe import DeploymentTick
from autoscaler.core.state import HANDLES
from autoscaler.core.supply.inventory import MOST_FAILED
from autoscaler.core.types import DeploymentPlan
from autoscaler.core.types.plan import Condition
from policies.base import DeploymentKey

Severity = Literal["warning", "critical"]

HOLDING_ON_UNKNOWN = "holding_on_unknown"
FAILING = "failing"
NOT_DONE = "not_done"
CRASH_LOOP = "crash_loop"
NODE_SILENT = "node_silent"
COUNTER_WENT_BACK = "counter_went_back"
ARRIVALS_DISAGREE = "arrivals_disagree"
ARRIVALS_UNCOUNTED = "arrivals_uncounted"
SECOND_WRITER = "second_writer"
ABOVE_MAXIMUM = "above_max_replicas"
UNREADABLE = "unreadable"
DECISION_FAILED = "decision_failed"
INVARIANT = "invariant_broken"
STATE_NOT_SAVED = "state_not_saved"
JOURNAL_NOT_WRITTEN = "journal_not_written"
CERTIFICATE_NOT_RENEWED = "certificate_not_renewed"
WITHOUT_FORECAST = "without_forecast"
NO_WHOLE_GANG = "no_whole_gang"


STARTS_THAT_MAKE_A_LOOP = 3
"""Starts in a row, of replicas or whole gangs, that ended before the replica ran."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`reason`: of the Event, CamelCase. `mend`: what a person can do, in a sentence."""

    name: str
    reason: str
    severity: Severity
    mend: str


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            HOLDING_ON_UNKNOWN, "HoldingOnUnknown", "critical",
            "make the named data readable again; until then the level cannot go down",
        ),
        Kind(FAILING, "Failing", "warning", "mend the service: while it fails, fewer requests are no reason to shrink"),
        Kind(
            NOT_DONE, "ScaleNotDone", "critical",
            "look at the log of Serve's controller: it accepted a level and did not take it",
        ),
        Kind(CRASH_LOOP, "StartsFail", "critical", "read the replica's message and mend the deployment"),
        Kind(NODE_SILENT, "NodeSilent", "warning", "look at the Ray node: its metrics page cannot be read"),
        Kind(COUNTER_WENT_BACK, "CounterWentBack", "warning", "look for two processes that export one series"),
        Kind(
            ARRIVALS_DISAGREE, "ArrivalsDisagree", "warning",
            "find the way by which requests come that is not counted, or what counts them twice",
        ),
        Kind(
            ARRIVALS_UNCOUNTED, "ArrivalsUncounted", "warning",
            "open the metrics pages of all Ray nodes: nothing that counts its arrivals is on any",
        ),
        Kind(
            SECOND_WRITER, "SecondWriter", "critical",
            "find what else sets the target, and leave it to one of the two",
        ),
        Kind(ABOVE_MAXIMUM, "AboveMaximum", "warning", "raise replicas.max or lower the target by hand"),
        Kind(
            NO_WHOLE_GANG, "NoWholeGang", "warning",
            "set replicas.min and replicas.max so that a whole number of gangs lies between, or widen the GPU budget",
        ),
        Kind(UNREADABLE, "Unreadable", "warning", "compare Ray's version with the versions that were tried"),
        Kind(
            WITHOUT_FORECAST, "WithoutForecast", "warning",
            "raise reading.namespace_forecasters, or name the deployment in full in an entry of its own",
        ),
        Kind(DECISION_FAILED, "DecisionFailed", "critical", "report it with the journal: the level stays meanwhile"),
        Kind(INVARIANT, "InvariantBroken", "critical", "report it with the journal: the level stays meanwhile"),
        Kind(STATE_NOT_SAVED, "StateNotSaved", "warning", "free or make writable the disk of state.path"),
        Kind(JOURNAL_NOT_WRITTEN, "JournalNotWritten", "warning", "free or make writable the disk of journal.path"),
        Kind(
            CERTIFICATE_NOT_RENEWED, "CertificateNotRenewed", "warning",
            "write a certificate and the key that belongs to it to server.cert_file and server.key_file",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something is wrong at this tick. It becomes a condition when it has been for `after_s`.

    `mark`: what it is about; another mark begins anew (a target that moves is not one that stands still).
    """

    name: str
    deployment: DeploymentKey | None
    why: str
    after_s: float = 0.0
    mark: str = ""


def lasting(first_seen_s: dict[str, float], candidates: Iterable[Candidate], now_s: float) -> tuple[Condition, ...]:
    """The candidates that have lasted long enough. Updates `first_seen_s`, which the caller keeps: id -> seconds."""
    found: list[Condition] = []
    present: dict[str, float] = {}
    for one in candidates:
        name = f"{one.name}|{one.deployment.full if one.deployment else ''}|{one.mark}"
        since_s = present[name] = min(first_seen_s.get(name, now_s), now_s)
        if now_s - since_s >= one.after_s:
            found.append(Condition(one.name, one.deployment, since_s, one.why))
    if first_seen_s != present:
        first_seen_s.clear()
        first_seen_s.update(present)
    return tuple(found)


_LEAD_TIMES = 3.0
"""Holding a level on unknown data becomes a condition after this many median lead times of a new node."""
_NOT_DONE_S = 120.0
_LOOP_WINDOW_S = 1800.0
"""A start that failed longer ago is no part of a crash loop."""
_SILENT_S = 60.0
_FAILING_S = 60.0
_WITHOUT_FORECAST_S = 600.0
_UNCOUNTED_S = 30.0
"""Another count than that of handles is found sooner, where there is one."""
_BY_GUARD = {
    guards.DECISION_FAILED: DECISION_FAILED,
    guards.INVARIANT: INVARIANT,
    guards.ABOVE_MAXIMUM: ABOVE_MAXIMUM,
    guards.NO_WHOLE_GANG: NO_WHOLE_GANG,
}


def noticed(
    d: DeploymentTick, plan: DeploymentPlan, may_write: bool, tick_s: float, now_s: float
) -> Iterator[Candidate]:
    """`may_write`: levels are written, so that one that Serve does not take is odd."""
    observation, memory, inventory = d.observation, d.memory, d.signals.inventory
    if inventory is None and d.signals.unreadable:
        yield Candidate(UNREADABLE, d.key, d.signals.unreadable)
    for record in plan.guards:
        name = _BY_GUARD.get(record.name)
        if name is not None:
            yield Candidate(name, d.key, record.why)
    if d.settings is None:
        return
    if guards.contested(memory.supply, now_s):
        why = "another writer turns its level back again and again; only higher levels are posted"
        yield Candidate(SECOND_WRITER, d.key, why)
    if not observation.fresh and not d.failed and d.current != 0:
        after_s = _LEAD_TIMES * d.times.new_node.median_s
        yield Candidate(HOLDING_ON_UNKNOWN, d.key, observation.why_stale, after_s)
    if d.no_forecast and d.memory.busy_rps > 0.0:
        yield Candidate(WITHOUT_FORECAST, d.key, d.no_forecast, _WITHOUT_FORECAST_S)
    if observation.failing:
        yield Candidate(FAILING, d.key, observation.failing, _FAILING_S)
    if d.signals.metrics is not None and d.signals.metrics.silent_pages:
        pages = d.signals.metrics.silent_pages
        why = f"{pages} metrics page{'s' if pages > 1 else ''} that held its series cannot be read"
        yield Candidate(NODE_SILENT, d.key, why, _SILENT_S)
    if memory.demand.arrivals.odd_at_s is not None:
        yield Candidate(COUNTER_WENT_BACK, d.key, "a counter of its arrivals went back or held no number")
    if observation.arrivals.disagrees:
        yield Candidate(ARRIVALS_DISAGREE, d.key, observation.arrivals.disagrees)
    if memory.demand.bypassed and observation.arrivals.source == HANDLES and memory.demand.unknown:
        yield Candidate(ARRIVALS_UNCOUNTED, d.key, memory.demand.unknown, _UNCOUNTED_S)
    failed_starts = memory.supply.failed_starts
    if len(failed_starts) >= STARTS_THAT_MAKE_A_LOOP:
        enough = min(STARTS_THAT_MAKE_A_LOOP * d.gang_size, MOST_FAILED)  # the members of a gang fail together, once
        since_s = (observation.inventory_as_of_s or 0.0) - _LOOP_WINDOW_S
        count = sum(at_s > since_s for at_s in failed_starts)
        if count >= enough:
            said = inventory.message if inventory is not None else ""
            why = f"{count} replicas ended before they ran{': ' + said[:300] if said else ''}"
            yield Candidate(CRASH_LOOP, d.key, why)
    shown, target = plan.observed_target, plan.target
    if may_write and plan.blocked is None and plan.act == "external" and target is not None and shown != target:
        why = f"Serve's target stays {shown} although {target} is asked for"
        yield Candidate(NOT_DONE, d.key, why, max(_NOT_DONE_S, 3 * tick_s), f"{shown}")
