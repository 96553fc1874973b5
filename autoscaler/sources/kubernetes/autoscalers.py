"""The Autoscaler objects of the watched namespaces: which of them count for a service, and what is wrong with others.

Watched, never polled. A version of an object that is wrong leaves its last right one in force. What a request may
change is in core/tenants.py; status is written by kuberay/autoscaler_status.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from autoscaler.core.audit import Audit
from autoscaler.core.tenants import entries_for
from autoscaler.core.types import DeploymentSettings, TenantRules
from autoscaler.kubernetes.resources import AUTOSCALERS, ClusterApi, Object
from autoscaler.sources.kuberay.autoscalers import (
    FIELDS,
    MOST_IN_NAMESPACE,
    AutoscalerView,
    Wanted,
    in_force,
    parse_autoscaler,
)
from autoscaler.sources.kuberay.services import KubeService, ServiceKey
from autoscaler.sources.kubernetes.cache import ObjectCache, WatchTimes
from policies.capacity import EngineProfile

ObjectKey = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True)
class AutoscalerReading:
    """One object as it counts now."""

    view: AutoscalerView
    wanted: Wanted | None
    """In force: of this version, or of the last one that was right; None: there was none."""
    unused: str = ""
    """Why it does not count at all; empty when it does."""

    @property
    def counts(self) -> bool:
        return self.wanted is not None and not self.unused


class Autoscalers:
    """Run the `caches` beside the ticks; everything else answers from memory."""

    def __init__(
        self,
        api: ClusterApi,
        places: Sequence[str | None],
        profile_of: Callable[[str], EngineProfile | None],
        *,
        now_s: Callable[[], float],
        changed: Callable[[], None],
        times: WatchTimes | None = None,
        audit: Audit | None = None,
    ) -> None:
        """`places`: namespaces, or None for all; `changed` is called whenever something may be different."""
        self._profile_of, self._audit, self._tell = profile_of, audit, changed
        self.caches = [
            ObjectCache(api, AUTOSCALERS, place, self._parse, now_s=now_s, times=times, changed=self._mark)
            for place in places
        ]
        self._good: dict[str, Wanted] = {}
        """By uid: the last version that was right."""
        self._seen: dict[ObjectKey, AutoscalerView] = {}
        self._seen_all = False
        self._versions: dict[str, int] = {}
        """Generations by uid, as others were last told of them."""
        self._readings: dict[ObjectKey, AutoscalerReading] = {}
        self._by_service: dict[ServiceKey, list[AutoscalerReading]] = {}
        self._stale = True

    def _parse(self, obj: Object) -> AutoscalerView:
        return parse_autoscaler(obj, self._profile_of)

    def _mark(self) -> None:
        """Something of an object changed; if it was only its status, others need not look again."""
        self._stale = True
        now = {view.uid: view.generation for cache in self.caches for view in cache.items.values()}
        if now != self._versions:
            self._versions = now
            self._tell()

    @property
    def known(self) -> bool:
        """They were all seen once, or their kind is not in the cluster: nothing that holds leadtime back is missed."""
        return all(cache.synced or cache.absent for cache in self.caches)

    @property
    def why(self) -> str:
        """Why they are not followed now; empty when they are."""
        return next((cache.why for cache in self.caches if cache.why), "")

    def all(self) -> tuple[AutoscalerReading, ...]:
        """Every object, by namespace and name."""
        self._refresh()
        return tuple(self._readings[key] for key in sorted(self._readings))

    def of_service(self, service: ServiceKey) -> tuple[AutoscalerReading, ...]:
        """The objects that count for it, the narrowest first."""
        self._refresh()
        return tuple(self._by_service.get(service, ()))

    def targets(self) -> frozenset[ServiceKey]:
        """(namespace, name) of all services that some object is about."""
        self._refresh()
        return frozenset(self._by_service)

    def paused_patterns(self) -> tuple[str, ...]:
        """Patterns of keys in four parts; also of objects that are wrong or not used otherwise."""
        self._refresh()
        said = [wanted for one in self._readings.values() for wanted in (one.view.wanted, one.wanted)]
        return tuple(sorted({one.scope.pattern for one in said if one is not None and one.paused}))

    # ------------------------------------------------------------ inside

    def _refresh(self) -> None:
        if not self._stale:
            return
        self._stale = False
        views = {view.key: view for cache in self.caches for view in cache.items.values()}
        self._note(views)
        alive = {view.uid for view in views.values()}
        self._good = {uid: wanted for uid, wanted in self._good.items() if uid in alive}
        readings = dict(self._crowd_out(views.values()))
        counting: dict[ServiceKey, list[AutoscalerView]] = {}
        for view in views.values():
            if view.key in readings:
                continue
            reading = readings[view.key] = AutoscalerReading(view, self._in_force(view))
            if reading.wanted is not None:
                scope = reading.wanted.scope
                counting.setdefault((scope.namespace, scope.service), []).append(replace(view, wanted=reading.wanted))
        self._by_service = {}
        for service, found in counting.items():
            first, others = in_force(found)
            for key, why in others.items():
                readings[key] = replace(readings[key], unused=why)
            self._by_service[service] = [readings[view.key] for view in first]
        self._readings = readings

    def _in_force(self, view: AutoscalerView) -> Wanted | None:
        if view.wanted is not None and not view.problems:
            self._good[view.uid] = view.wanted
            return view.wanted
        last = self._good.get(view.uid)
        if last is None:
            return None
        return replace(last, paused=view.wanted.paused if view.wanted is not None else last.paused)

    @staticmethod
    def _crowd_out(views: Iterable[AutoscalerView]) -> Iterable[tuple[ObjectKey, AutoscalerReading]]:
        """What is beyond the number of objects that a namespace may have."""
        places: dict[str, list[AutoscalerView]] = {}
        for view in views:
            places.setdefault(view.namespace, []).append(view)
        why = f"{MOST_IN_NAMESPACE} older Autoscalers of the namespace are heard, and no more"
        for found in places.values():
            if len(found) > MOST_IN_NAMESPACE:
                found.sort(key=lambda one: (one.created_at_s, one.name))
                for view in found[MOST_IN_NAMESPACE:]:
                    yield view.key, AutoscalerReading(view, None, why)

    def _note(self, views: dict[ObjectKey, AutoscalerView]) -> None:
        """For the audit; what was there when this process began is no change."""
        if self._audit is not None and self._seen_all:
            for key in sorted({*self._seen, *views}):
                before, now = self._seen.get(key), views.get(key)
                said = [None if one is None else dict(one.spec) for one in (before, now)]
                if said[0] != said[1]:
                    who = {} if now is None else dict(now.written_by)
                    self._audit.note("autoscaler", "/".join(("Autoscaler", *key)), who, *said)
        self._seen = views
        self._seen_all = self._seen_all or all(cache.synced or cache.absent for cache in self.caches)


def entries_of(
    reading: AutoscalerReading,
    settings: Iterable[DeploymentSettings],
    rules: TenantRules,
    budgets: Collection[str],
) -> tuple[tuple[DeploymentSettings, ...], tuple[str, ...]]:
    """The entries that an object makes, and what of it is refused, in words."""
    if reading.wanted is None or reading.unused:
        return (), ()
    made, refused = entries_for(settings, reading.wanted.scope, reading.wanted.asked, rules, budgets)
    return made, tuple(f"{FIELDS[one.what]}: {one.why}" for one in refused)


def problems_of(reading: AutoscalerReading, service: KubeService | None) -> tuple[str, ...]:
    """What is wrong with an object beyond its limits, in words; `service` is its target, None where there is none."""
    found = list(reading.view.problems)
    if reading.unused:
        found.append(reading.unused)
    wanted = reading.wanted or reading.view.wanted
    if wanted is None:
        return tuple(found)
    if service is None or service.kind != wanted.kind:
        where = f"{wanted.kind} {wanted.scope.service}"
        found.append(f"spec.target: there is no {where} in namespace {wanted.scope.namespace}")
    elif service.reading.annotations.enabled is False:
        found.append('spec.target: its annotation leadtime.dev/enabled: "false" keeps leadtime away from it')
    return tuple(found)
