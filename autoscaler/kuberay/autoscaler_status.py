"""The status of Autoscaler objects: what leadtime makes of each, in figures and conditions; few writes, none lost.

`status_of` and `StatusBook` are pure. A status is written when something that people act on has changed, at most every
half minute for one object; figures that only drift are written every five minutes. Of many, ten a tick, the most urgent
first. Reading the objects is in sources/kubernetes/autoscalers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from autoscaler.common.errors import Conflict, LeadtimeError, NotFound
from autoscaler.common.redaction import blank
from autoscaler.core import guards
from autoscaler.core.types import DeploymentPlan, DeploymentSettings, Plan, PoolSettings
from autoscaler.kubernetes.resources import AUTOSCALERS, ClusterApi, PatchOperation
from autoscaler.sources.kuberay.autoscalers import AutoscalerView
from autoscaler.sources.kubernetes.autoscalers import AutoscalerReading
from policies.base import DeploymentKey

AT_LEAST_EVERY_S, FIGURES_EVERY_S, MOST_A_TICK = 30.0, 300.0, 10
LEAD_LEVEL = 0.9
"""Quantile of the lead time that is shown, as on the live page."""
_LONGEST_WORDS = 600
_LIMITS = (guards.MAXIMUM, guards.BUDGET)
Said = tuple[bool, str, str]
"""(is it so, reason in CamelCase, message)."""


Status = tuple[AutoscalerView, Mapping[str, Any], Mapping[str, Said]]
"""An object, its figures, and its conditions by type."""


@dataclass(frozen=True, slots=True)
class Governed:
    """What a tick found of the deployments of one object."""

    reading: AutoscalerReading
    refusals: tuple[str, ...]
    plans: tuple[DeploymentPlan, ...]


def governed_by(
    readings: Iterable[AutoscalerReading],
    refusals: Callable[[AutoscalerReading], tuple[str, ...]],
    plans: Sequence[DeploymentPlan],
    narrowest: Callable[[tuple[str, str]], Sequence[AutoscalerReading]],
) -> list[Governed]:
    """Every object with the deployments that it is the narrowest one for (`narrowest`: the objects that count for a
    service, the narrowest first)."""
    by_object: dict[tuple[str, str], list[DeploymentPlan]] = {}
    for plan in plans:
        for reading in narrowest((plan.key.namespace, plan.key.service)):
            if reading.wanted is not None and plan.key.matches(reading.wanted.scope.pattern):
                by_object.setdefault(reading.view.key, []).append(plan)
                break
    return [Governed(one, refusals(one), tuple(by_object.get(one.view.key, ()))) for one in readings]


def status_of(
    governed: Governed,
    plan: Plan,
    settings_for: Callable[[DeploymentKey], DeploymentSettings | None],
    pools: Mapping[str, PoolSettings],
    paused: Callable[[DeploymentKey], bool],
) -> tuple[dict[str, Any], dict[str, Said]]:
    """(figures, conditions by type) of one object. What is unknown is left out: missing is not zero."""
    listed = tuple(one for one in governed.plans if settings_for(one.key) is not None)
    governed = replace(governed, plans=listed or governed.plans)  # a deployment without settings is only observed
    plans = governed.plans
    seen = {one.key: one for one in plan.observations}
    found = [seen.get(one.key) for one in plans]
    running = [None if one is None else one.running for one in found]
    wanted = [one.observed_target if one.target is None else one.target for one in plans]
    leads = [plan.lead_times[one.key].new_node.quantile(LEAD_LEVEL) for one in plans if one.key in plan.lead_times]
    forecasts = []
    for one in plans:
        forecast, times = plan.forecasts.get(one.key), plan.lead_times.get(one.key)
        if forecast is not None and times is not None:
            forecasts.append(forecast.quantile(times.new_node.quantile(LEAD_LEVEL), 0.5))
    attained = [one.attained_fraction for one in found if one is not None and one.attained_fraction is not None]
    prices = [
        None if count is None else _usd_per_hour(count, settings_for(one.key), pools)
        for count, one in zip(running, plans, strict=True)
    ]
    figures: dict[str, Any] = {
        "deployments": len(plans),
        "current": _sum(running),
        "desired": _sum(wanted),
        "forecastRps": _short(_sum(forecasts)) if len(forecasts) == len(plans) else None,
        "leadTimeSeconds": round(max(leads)) if leads else None,
        "attainedFraction": round(min(attained), 4) if attained else None,
        "costUsdPerHour": _short(_sum(prices)),
    }
    told = max(plans, key=_change, default=None)
    reason = governed.refusals[0] if told is None and governed.refusals else "" if told is None else told.sentence
    figures["reason"] = _words(reason)
    stale = [one.why_stale for one in found if one is not None and not one.fresh]
    conditions = _conditions(governed, plan, stale, paused)
    return {name: value for name, value in figures.items() if value is not None}, conditions


def _conditions(
    governed: Governed, plan: Plan, stale: Sequence[str], paused: Callable[[DeploymentKey], bool]
) -> dict[str, Said]:
    plans, wanted = governed.plans, governed.reading.wanted
    held = [one for one in plans if paused(one.key)]
    is_paused = bool(held) or (wanted is not None and wanted.paused)
    limits = [record for one in plans for record in one.guards if record.name in _LIMITS]
    blocked = next((one.blocked for one in plans if one.blocked is not None), None)
    silent = [one for one in plans if one.target is None]
    if governed.refusals:
        ready: Said = (False, "Refused", "; ".join(governed.refusals))
    elif not plans:
        ready = (False, "NoDeployments", "nothing that runs in the target matches yet")
    else:
        ready = (True, "InForce", "the settings are in force")
    if not plans:
        active: Said = (False, "NoDeployments", "there is nothing to act on")
    elif is_paused:
        active = (False, "Paused", "a person paused it")
    elif plan.dry_run:
        active = (False, "DryRun", "config.dry_run is true: leadtime only says what it would do")
    elif blocked is not None:
        active = (False, "Blocked", blocked)
    elif silent:
        active = (False, "Withheld", silent[0].sentence or "the level is left as it is")
    else:
        active = (True, "Acting", "leadtime sets the number of replicas")
    return {
        "Ready": ready,
        "Acting": active,
        "Limited": (True, "AtLimit", limits[0].why) if limits else (False, "Free", "no limit holds it back"),
        "SourceStale": (True, "Stale", stale[0] or "not all is fresh") if stale else (False, "Fresh", "all is fresh"),
        "Paused": (True, "Paused", "a person paused it") if is_paused else (False, "Running", "nobody paused it"),
        "DryRun": (True, "DryRun", "nothing is written to Ray") if plan.dry_run else (False, "Live", "levels count"),
    }  # fmt: skip


def _change(one: DeploymentPlan) -> tuple[int, bool]:
    known = one.target is not None and one.observed_target is not None
    return (abs((one.target or 0) - (one.observed_target or 0)) if known else 0, bool(one.sentence))


def _sum(values: Sequence[int | float | None]) -> float | int | None:
    """None where one is unknown, or there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _short(value: float | None) -> float | None:
    """Three digits that say something."""
    return None if value is None else float(f"{value:.3g}")


def _usd_per_hour(running: int, settings: DeploymentSettings | None, pools: Mapping[str, PoolSettings]) -> float | None:
    """At the price of the first pool that it may run on; None: it has none."""
    if settings is None:
        return None
    gpus = settings.gpus_per_replica or (settings.profile.gpus if settings.profile is not None else 1)
    for name in settings.node_pools:
        pool = pools.get(name)
        if pool is not None and pool.price_usd_per_hour is not None and pool.gpus_per_node > 0:
            return running * gpus * pool.price_usd_per_hour / pool.gpus_per_node
    return None


def _words(text: str) -> str:
    text = blank(text)
    return text if len(text) <= _LONGEST_WORDS else text[: _LONGEST_WORDS - 3] + "..."


# ---------------------------------------------------------------- what is to be written


@dataclass(slots=True)
class _Written:
    """The last status of one object that is in the cluster, and when it was tried."""

    tried_at_s: float | None = None
    at_s: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Said] = field(default_factory=dict)
    since: dict[str, str] = field(default_factory=dict)
    generation: int = -1


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """One status to write."""

    view: AutoscalerView
    status: Mapping[str, Any]
    figures: Mapping[str, Any]
    conditions: Mapping[str, Said]


class StatusBook:
    """What each object's status says in the cluster, and which are to be written now. Pure: time is an argument."""

    def __init__(self) -> None:
        self._written: dict[str, _Written] = {}
        self._began_s: float | None = None

    def due(self, statuses: Sequence[Status], now_s: float) -> list[StatusWrite]:
        """At most `MOST_A_TICK`: changed conditions first, then changed levels, then figures that drifted.

        What was found of no deployments yet waits in the first half minute: the Ray heads are only being read.
        """
        self._began_s = began_s = now_s if self._began_s is None else self._began_s
        alive = {view.uid for view, _, _ in statuses}
        self._written = {uid: one for uid, one in self._written.items() if uid in alive}
        found: list[tuple[int, float, str, StatusWrite]] = []
        for view, figures, conditions in statuses:
            written = self._written.setdefault(view.uid, _Written())
            if not figures.get("deployments") and now_s - began_s < AT_LEAST_EVERY_S:
                continue
            urgency = _urgency(view, written, figures, conditions, now_s)
            if urgency is None or (written.tried_at_s is not None and now_s - written.tried_at_s < AT_LEAST_EVERY_S):
                continue
            wanted = self._write(view, written, figures, conditions, now_s)
            found.append((urgency, written.tried_at_s or 0.0, view.uid, wanted))
        found.sort(key=lambda one: one[:3])
        return [one[3] for one in found[:MOST_A_TICK]]

    def tried(self, write: StatusWrite, now_s: float, written: bool) -> None:
        """It was sent; `written`: and taken."""
        kept = self._written.setdefault(write.view.uid, _Written())
        kept.tried_at_s = now_s
        if written:
            kept.at_s, kept.figures, kept.conditions = now_s, write.figures, write.conditions
            kept.generation = write.view.generation
            kept.since = {one["type"]: one["lastTransitionTime"] for one in write.status["conditions"]}

    @staticmethod
    def _write(
        view: AutoscalerView,
        written: _Written,
        figures: Mapping[str, Any],
        conditions: Mapping[str, Said],
        now_s: float,
    ) -> StatusWrite:
        listed = []
        now = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for kind, (so, reason, message) in conditions.items():
            status = "True" if so else "False"
            before = written.conditions.get(kind)
            since = written.since.get(kind) if before is not None and before[0] == so else None
            if before is None and kind in view.conditions and view.conditions[kind].status == status:
                since = view.conditions[kind].since
            listed.append(
                {
                    "type": kind, "status": status, "observedGeneration": view.generation,
                    "lastTransitionTime": since or now, "reason": reason, "message": _words(message),
                }
            )  # fmt: skip
        return StatusWrite(
            view, {"observedGeneration": view.generation, **figures, "conditions": listed}, figures, conditions
        )


def _urgency(
    view: AutoscalerView,
    written: _Written,
    figures: Mapping[str, Any],
    conditions: Mapping[str, Said],
    now_s: float,
) -> int | None:
    """0 is the most urgent; None: there is nothing to write."""

    def states(said: Mapping[str, Said]) -> dict[str, tuple[bool, str]]:
        return {kind: one[:2] for kind, one in said.items()}

    if written.generation != view.generation or states(written.conditions) != states(conditions):
        return 0
    if any(written.figures.get(name) != figures.get(name) for name in ("current", "desired", "deployments")):
        return 1
    drifted = written.figures != figures or written.conditions != conditions
    return 2 if drifted and now_s - (written.at_s or 0.0) >= FIGURES_EVERY_S else None


class StatusWriter:
    """Writes what is due, one after the other. Never raises."""

    def __init__(self, api: ClusterApi, *, now_s: Callable[[], float], timeout_s: float = 5.0) -> None:
        self.book = StatusBook()
        self.why = ""
        """Why a write of the last tick with any failed; empty when none did."""
        self._api, self._now_s, self._timeout_s = api, now_s, timeout_s

    async def write(self, statuses: Sequence[Status], leads: Callable[[], bool]) -> None:
        """`leads`: asked before each write."""
        due = self.book.due(statuses, self._now_s())
        failed = ""
        for one in due:
            if not leads():
                return
            view, taken = one.view, False
            same = PatchOperation("test", "/metadata/uid", view.uid)
            operations = [same, PatchOperation("add", "/status", one.status)]
            try:
                await self._api.patch(
                    AUTOSCALERS, view.namespace, view.name, operations, subresource="status", timeout_s=self._timeout_s
                )
                taken = True
            except (NotFound, Conflict):
                pass  # it is gone
            except LeadtimeError as error:
                failed = str(error)
            self.book.tried(one, self._now_s(), written=taken)
        if due:
            self.why = failed
