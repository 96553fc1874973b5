"""Autoscaler objects (leadtime.dev/v1alpha1): what a tenant asks for, as a resource of its own. Pure.

The API server holds an object to its schema (charts/generate/crd.py). What it cannot know, and what an older schema let
through, is checked here: an object with anything wrong is not used at all, and the last version of it that was right
stays in force. `paused: true` is heard in any case. What an object may change is in core/tenants.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoscaler.clients.addresses import is_subdomain
from autoscaler.common.fields import LONGEST_NAME, count, identifier, mapping, mappings, number, text, time_s, whole
from autoscaler.core.audit import writer_of
from autoscaler.core.scheduled_load import (
    CRON_WORDS,
    LONGEST_CRON,
    LONGEST_S,
    MOST_MULTIPLIER,
    MOST_RECURRING,
    MOST_RPS,
    SHORTEST_S,
    schedule_problem,
)
from autoscaler.core.tenants import Asked, Scope
from autoscaler.core.types import RecurringLoad
from autoscaler.kubernetes.resources import Object
from autoscaler.sources.kuberay.annotations import MOST_REPLICAS
from policies.base import LEAST_TARGET_FRACTION, LONGEST_ITL_S, LONGEST_TTFT_S, TARGET_FRACTION_BELOW
from policies.capacity import EngineProfile

MOST_IN_NAMESPACE = 500
"""Objects of one namespace that are heard, the oldest first."""
MOST_POOLS = 16
PRIORITIES = (-1000, 1000)
FIELDS = {
    "min_replicas": "spec.replicas.min",
    "max_replicas": "spec.replicas.max",
    "slo_ttft_s": "spec.slo.ttftSeconds",
    "slo_itl_s": "spec.slo.itlSeconds",
    "target_fraction": "spec.slo.targetFraction",
    "profile": "spec.profile",
    "node_pools": "spec.nodePools",
    "weight": "spec.weight",
    "priority": "spec.priority",
}
"""Where each field of `Asked` stands in an object."""
_IN_PATTERNS = set("*?[]/")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an object says."""

    kind: str
    """Of its target: RayService or RayCluster."""
    scope: Scope
    asked: Asked = Asked()
    paused: bool = False


@dataclass(frozen=True, slots=True)
class ConditionView:
    """One condition of an object's status, as it stands in the cluster."""

    status: str
    since: str
    """RFC 3339; since when it has this status."""


@dataclass(frozen=True, slots=True)
class AutoscalerView:
    """One Autoscaler object."""

    namespace: str
    name: str
    uid: str
    generation: int
    created_at_s: float
    wanted: Wanted | None
    """What it says, as far as it can be read at all; None: not even its target."""
    problems: tuple[str, ...] = ()
    """Not empty: it is not used in this version, except for `paused`."""
    written_by: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, ConditionView] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)


def parse_autoscaler(obj: Object, profile_of: Callable[[str], EngineProfile | None]) -> AutoscalerView:
    """`profile_of`: a preset by its name, None where there is none."""
    meta, spec = mapping(obj, "metadata"), mapping(obj, "spec")
    reader = _Reader(profile_of)
    wanted = reader.wanted(text(meta, "namespace"), spec)
    conditions = {
        text(one, "type"): ConditionView(text(one, "status"), text(one, "lastTransitionTime"))
        for one in mappings(mapping(obj, "status"), "conditions")
    }
    return AutoscalerView(
        text(meta, "namespace"),
        text(meta, "name"),
        text(meta, "uid"),
        whole(meta.get("generation")) or 0,
        time_s(meta.get("creationTimestamp")) or 0.0,
        wanted,
        tuple(reader.problems),
        writer_of(obj, "spec"),
        spec,
        conditions,
    )


class _Reader:
    """Reads one object's spec; what is wrong is collected."""

    def __init__(self, profile_of: Callable[[str], EngineProfile | None]) -> None:
        self._profile_of = profile_of
        self.problems: list[str] = []

    def wanted(self, namespace: str, spec: Mapping[str, Any]) -> Wanted | None:
        target = mapping(spec, "target")
        name = target.get("name")
        if not isinstance(name, str) or not is_subdomain(name):
            self._wrong("spec.target.name", name, "the name of a RayService or RayCluster of the same namespace")
            return None
        kind = target.get("kind", "RayService")
        if kind not in ("RayService", "RayCluster"):
            self._wrong("spec.target.kind", kind, "RayService or RayCluster")
        app = self._place(target, "application")
        deployment = self._place(target, "deployment")
        paused = spec.get("paused", False)
        if not isinstance(paused, bool):
            self._wrong("spec.paused", paused, "true or false")
            paused = True
        return Wanted(str(kind), Scope(namespace, name, app, deployment), self._asked(spec), paused)

    def _asked(self, spec: Mapping[str, Any]) -> Asked:
        replicas, slo = mapping(spec, "replicas"), mapping(spec, "slo")
        least = self._replicas(replicas, "min", 0)
        most = self._replicas(replicas, "max", 1)
        if least is not None and most is not None and least > most:
            self.problems.append(f"spec.replicas.min: {least} is above spec.replicas.max: {most}")
        share_words = f"a share >= {LEAST_TARGET_FRACTION:g} and < {TARGET_FRACTION_BELOW:g}"
        share = self._number(slo, "spec.slo.", "targetFraction", LEAST_TARGET_FRACTION, 1.0, share_words)
        if share is not None and share >= TARGET_FRACTION_BELOW:
            self._wrong("spec.slo.targetFraction", share, share_words)
        return Asked(
            least,
            most,
            self._seconds(slo, "ttftSeconds", LONGEST_TTFT_S),
            self._seconds(slo, "itlSeconds", LONGEST_ITL_S),
            share,
            self._profile(spec),
            self._pools(spec),
            self._number(spec, "spec.", "weight", 1e-9, 1e9, "a number > 0"),
            self._priority(spec),
            self._schedule(spec),
        )

    def _replicas(self, replicas: Mapping[str, Any], name: str, least: int) -> int | None:
        value = replicas.get(name)
        read = count(value, MOST_REPLICAS)
        if value is not None and (read is None or read < least):
            self._wrong(f"spec.replicas.{name}", value, f"a whole number from {least} to {MOST_REPLICAS}")
            return None
        return read

    def _seconds(self, slo: Mapping[str, Any], name: str, most_s: float) -> float | None:
        return self._number(slo, "spec.slo.", name, 1e-6, most_s, f"seconds > 0 and <= {most_s:g}")

    def _number(
        self, obj: Mapping[str, Any], path: str, name: str, least: float, most: float, allowed: str
    ) -> float | None:
        value = obj.get(name)
        read = number(value, least, most)
        if value is not None and read is None:
            self._wrong(f"{path}{name}", value, allowed)
        return read

    def _priority(self, spec: Mapping[str, Any]) -> int | None:
        value = spec.get("priority")
        read = whole(value)
        if value is not None and (read is None or not PRIORITIES[0] <= read <= PRIORITIES[1]):
            self._wrong("spec.priority", value, f"a whole number from {PRIORITIES[0]} to {PRIORITIES[1]}")
        return read

    def _pools(self, spec: Mapping[str, Any]) -> tuple[str, ...] | None:
        value = spec.get("nodePools")
        if value is None:
            return None
        names = value if isinstance(value, list) else []
        pools = tuple(dict.fromkeys(name for name in names if identifier(name) is not None))
        if not pools or len(pools) != len(names) or len(names) > MOST_POOLS:
            self._wrong("spec.nodePools", value, f"a list of 1 to {MOST_POOLS} different names of node pools")
            return None
        return pools

    def _schedule(self, spec: Mapping[str, Any]) -> tuple[RecurringLoad, ...]:
        listed = spec.get("schedule")
        if listed is None:
            return ()
        if not isinstance(listed, list) or not 0 < len(listed) <= MOST_RECURRING:
            self._wrong("spec.schedule", listed, f"a list of 1 to {MOST_RECURRING} recurring loads")
            return ()
        loads = [
            self._load(one if isinstance(one, dict) else {}, f"spec.schedule[{i}].") for i, one in enumerate(listed)
        ]
        names = [load.name for load in loads if load is not None]
        if len(set(names)) < len(names):
            self._wrong("spec.schedule", ", ".join(names), "each name only once")
        return tuple(load for load in loads if load is not None)

    def _load(self, one: Mapping[str, Any], path: str) -> RecurringLoad | None:
        before = len(self.problems)
        name, cron, zone = one.get("name"), one.get("cron"), one.get("timeZone", "UTC")
        if not isinstance(name, str) or identifier(name) is None or len(name) > LONGEST_NAME:
            self._wrong(f"{path}name", name, "a name")
        length = self._number(
            one, path, "durationSeconds", SHORTEST_S, LONGEST_S, f"{SHORTEST_S} to {LONGEST_S} seconds"
        )
        if one.get("durationSeconds") is None:
            self._wrong(f"{path}durationSeconds", None, f"{SHORTEST_S} to {LONGEST_S} seconds")
        rps = self._number(one, path, "rps", 1e-9, MOST_RPS, f"requests per second > 0 and <= {MOST_RPS:.0f}")
        times = self._number(one, path, "multiplier", 1.0, MOST_MULTIPLIER, f"1 to {MOST_MULTIPLIER:g}")
        sure = self._number(one, path, "confidenceFraction", 1e-9, 1.0, "a share > 0 and <= 1")
        if (one.get("rps") is None) == (one.get("multiplier") is None):
            self.problems.append(f"{path[:-1]}: exactly one of rps and multiplier is needed")
        if not isinstance(cron, str) or len(cron) > LONGEST_CRON:
            self._wrong(f"{path}cron", cron, CRON_WORDS)
        elif length is not None:
            found = schedule_problem(cron, str(zone), length)
            if found is not None:
                field = {"cron": "cron", "time_zone": "timeZone", "duration_s": "durationSeconds"}[found[0]]
                self.problems.append(f"{path}{field}: {found[1][:300]}")
        if len(self.problems) > before or length is None:
            return None
        return RecurringLoad(str(name), str(cron), str(zone), length, rps, times, 1.0 if sure is None else sure)

    def _profile(self, spec: Mapping[str, Any]) -> EngineProfile | None:
        name = spec.get("profile")
        if name is None:
            return None
        found = self._profile_of(name) if isinstance(name, str) else None
        if found is None:
            self._wrong("spec.profile", name, "the name of a preset (`leadtime profiles` lists them)")
        return found

    def _place(self, target: Mapping[str, Any], name: str) -> str:
        value = target.get(name, "*")
        sound = isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and identifier(value) is not None
        if value == "*" or (sound and not _IN_PATTERNS & set(value)):
            return str(value)
        self._wrong(f"spec.target.{name}", value, "a name without * ? [ ] /, or * for all")
        return "*"

    def _wrong(self, where: str, value: Any, allowed: str) -> None:
        self.problems.append(f"{where}: {str(value)[:80]!r}; allowed: {allowed}")


def in_force(views: Iterable[AutoscalerView]) -> tuple[tuple[AutoscalerView, ...], dict[tuple[str, str], str]]:
    """The objects of one service that count, the narrowest first; and why the others do not, by their keys.

    Of two objects with one target the older counts: a new object must not take over what another governs.
    """
    first: dict[Scope, AutoscalerView] = {}
    others: dict[tuple[str, str], str] = {}
    for view in sorted(views, key=lambda one: (one.created_at_s, one.name)):
        if view.wanted is None:
            continue
        taken = first.setdefault(view.wanted.scope, view)
        if taken is not view:
            others[view.key] = f"spec.target: the older Autoscaler {taken.name} has the same one; this is unused"

    def width(view: AutoscalerView) -> tuple[bool, bool, str]:
        scope = view.wanted.scope if view.wanted is not None else Scope("", "")
        return (scope.app == "*", scope.deployment == "*", view.name)

    return tuple(sorted(first.values(), key=width)), others
