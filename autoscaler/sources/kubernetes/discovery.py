"""What is in the cluster: services to scale, their annotations and Autoscalers, pools of nodes. Watched, never polled.

`KubernetesDiscovery` holds the views and answers from memory; run it as a task beside the ticks. `KubernetesPools` is
the source of node pools. Parsing and rules are in sources/kuberay and nodes.py; this file only joins
what was seen. Not for writing to the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoscaler.core.audit import Audit
from autoscaler.core.ports import Reading, Source
from autoscaler.core.tenants import NO_MORE_SAID, service_matches
from autoscaler.core.types import DeploymentSettings, PoolRefusal, PoolSettings, PoolSignals, TenantRules
from autoscaler.kubernetes.resources import EVENTS, NODES, PODS, RAY_CLUSTERS, RAY_SERVICES, ClusterApi, Resource
from autoscaler.sources.kuberay.annotations import (
    AnnotationReading,
    read_annotations,
    settings_for_service,
)
from autoscaler.sources.kuberay.autoscalers import AutoscalerView
from autoscaler.sources.kuberay.objects import RayClusterView, RayServiceView, parse_ray_cluster, parse_ray_service
from autoscaler.sources.kuberay.services import KubeService, ObjectKey, ServiceKey, discover
from autoscaler.sources.kuberay.upgrade import ServiceChange, change
from autoscaler.sources.kubernetes.autoscalers import AutoscalerReading, Autoscalers, entries_of, problems_of
from autoscaler.sources.kubernetes.cache import ObjectCache, WatchTimes
from autoscaler.sources.kubernetes.events import FAILED_SCALE_UP, PULLED, parse_failed_scale_up, parse_pulled
from autoscaler.sources.kubernetes.nodes import (
    PLACEHOLDER_LABEL,
    NodeView,
    PodView,
    parse_node,
    parse_pod,
    pool_name,
    pools_of,
)
from autoscaler.sources.kubernetes.pods import RayPods
from autoscaler.sources.readings import Pools
from policies.base import DeploymentKey
from policies.capacity import EngineProfile

_REFUSALS_KEPT = 20
_LASTS_S = 240.0
"""The same refusal told again within this is still that one."""
_PLACEHOLDER_PODS = f"{PLACEHOLDER_LABEL}=true"


class KubernetesDiscovery:
    """Services of the watched namespaces, kept current."""

    def __init__(
        self,
        api: ClusterApi,
        namespaces: Sequence[str],
        *,
        now_s: Callable[[], float],
        settings: Sequence[DeploymentSettings] = (),
        tenants: TenantRules = NO_MORE_SAID,
        budgets: Collection[str] = (),
        profile_of: Callable[[str], EngineProfile | None] | None = None,
        audit: Audit | None = None,
        times: WatchTimes | None = None,
    ) -> None:
        """`namespaces` empty: all of them (that needs rights on the whole cluster).

        `tenants`: what annotations and Autoscalers may do where no entry says more; `budgets`: the kinds of GPU that
        have one. `profile_of`: a preset by its name, for Autoscalers; None: these are not watched.
        """
        self._api, self._now_s, self._times = api, now_s, times
        self._settings = tuple(settings)
        self._tenants, self._budgets = tenants, frozenset(budgets)
        self._audit = audit
        self._seen_all = False
        """A look at everything is over: what comes from now on is a change."""
        places: list[str | None] = [*namespaces] or [None]
        self._services = [self._cache(RAY_SERVICES, place, parse_ray_service) for place in places]
        self._clusters = [self._cache(RAY_CLUSTERS, place, parse_ray_cluster) for place in places]
        self.autoscalers: Autoscalers | None = None
        """None: such objects are not watched."""
        if profile_of is not None:
            self.autoscalers = Autoscalers(
                api, places, profile_of, now_s=now_s, changed=self._mark, times=times, audit=audit
            )
        self._readings: dict[ObjectKey, tuple[tuple[tuple[str, str], ...], AnnotationReading]] = {}
        self._found: tuple[KubeService, ...] = ()
        self._stale = True
        self._shown: dict[ServiceKey, KubeService] = {}

    def _cache(self, resource: Resource, namespace: str | None, parse: Any) -> ObjectCache[Any]:
        return ObjectCache(
            self._api, resource, namespace, parse, now_s=self._now_s, times=self._times, changed=self._mark
        )

    def _mark(self) -> None:
        self._stale = True

    async def run(self) -> None:
        """Watch until cancelled."""
        objects = [] if self.autoscalers is None else self.autoscalers.caches
        await run_caches([*self._services, *self._clusters, *objects])

    # ------------------------------------------------------------ what there is

    @property
    def synced(self) -> bool:
        """Every view was complete once: before that, what is missing may merely not have been seen."""
        return all(cache.synced for cache in self._services)

    def services(self) -> tuple[KubeService, ...]:
        """All services, those that leadtime may act on and the others."""
        if self._stale:
            self._stale = False
            services: list[RayServiceView] = [view for cache in self._services for view in cache.items.values()]
            clusters: list[RayClusterView] = [view for cache in self._clusters for view in cache.items.values()]
            readings = self._read_annotations(services, clusters)
            asked = frozenset() if self.autoscalers is None else self.autoscalers.targets()
            self._found = discover(services, clusters, readings, [entry.match for entry in self._settings], asked)
        return self._found

    def service_version(self, namespace: str, name: str) -> str | None:
        """The resourceVersion of a RayService; None: there is none, or the watch does not follow the cluster now."""
        for cache in self._services:
            if (view := cache.items.get((namespace, name))) is not None:
                return None if cache.why else view.version or None
        return None

    def changes(self) -> list[ServiceChange]:
        """What happened to opted-in services since the last call."""
        now = {service.key: service for service in self.services() if service.opted_in}
        steps = [change(self._shown.get(key), now.get(key)) for key in sorted({*self._shown, *now})]
        self._shown = now
        return [step for step in steps if step is not None]

    def paused_services(self) -> frozenset[ServiceKey]:
        return frozenset(service.key for service in self.services() if service.reading.annotations.paused)

    def deployment_settings(self) -> tuple[DeploymentSettings, ...]:
        """Entries that Autoscalers and annotations make, to stand before those of the settings file."""
        return tuple(entry for service in self._asked() for entry in self._entries(service)[0])

    def paused_patterns(self) -> tuple[str, ...]:
        """What Autoscalers pause: patterns of keys in four parts."""
        return () if self.autoscalers is None else self.autoscalers.paused_patterns()

    def refusals(self, reading: AutoscalerReading) -> tuple[str, ...]:
        """Everything that is wrong with an Autoscaler, or refused of it, in words."""
        wanted = reading.wanted or reading.view.wanted
        target = None if wanted is None else (wanted.scope.namespace, wanted.scope.service)
        service = next((one for one in self.services() if one.key == target), None)
        made, refused = entries_of(reading, self._settings, self._tenants, self._budgets)
        found = (*problems_of(reading, service), *refused)
        if found or made or target is None or any(service_matches(entry.match, *target) for entry in self._settings):
            return found
        return ("spec.replicas.max: not given, and no settings match the target; it is only observed",)

    def autoscaler_of(self, key: DeploymentKey) -> AutoscalerView | None:
        """The narrowest object that counts for a deployment."""
        objects = () if self.autoscalers is None else self.autoscalers.of_service((key.namespace, key.service))
        found = (o.view for o in objects if o.wanted is not None and key.matches(o.wanted.scope.pattern))
        return next(found, None)

    def autoscaler_problems(self) -> tuple[tuple[AutoscalerView, str], ...]:
        """Every refusal of every Autoscaler."""
        found = () if self.autoscalers is None else self.autoscalers.all()
        return tuple((reading.view, words) for reading in found for words in self.refusals(reading))

    def problems(self) -> tuple[tuple[KubeService, str], ...]:
        """Every wrong annotation and every setting that is missing, in words, with the service it is about."""
        found: list[tuple[KubeService, str]] = []
        for service in self.services():
            found += [(service, words) for words in service.reading.problems]
            if service.opted_in:
                found += [(service, words) for words in self._entries(service)[1]]
                found += [(service, f"Ray cluster {c.name[:80]!a}: {c.refused}") for c in service.clusters if c.refused]
                found += [(service, f"application {app.name}: {app.refused}") for app in service.apps if app.refused]
        return tuple(found)

    def known_keys(self) -> frozenset[DeploymentKey]:
        """Deployments that the operator's status names; Serve's own API knows them all."""
        return frozenset(
            DeploymentKey(service.namespace, service.name, app, deployment)
            for service in self.services()
            for cluster in service.clusters
            for app, deployment in cluster.deployments
        )

    def status(self) -> tuple[bool, float | None, str]:
        """(up, as of, why not): of the oldest view. Before the Autoscalers were seen once it is not known who may act.

        Later their last state stays in force while they cannot be read.
        """
        if self.autoscalers is not None and not self.autoscalers.known:
            return False, None, f"Autoscalers: {self.autoscalers.why}"
        return _status([*self._services, *self._clusters])

    # ------------------------------------------------------------ inside

    def _asked(self) -> Iterable[KubeService]:
        return (service for service in self.services() if service.opted_in)

    def _entries(self, service: KubeService) -> tuple[tuple[DeploymentSettings, ...], tuple[str, ...]]:
        annotations = service.reading.annotations
        made, problems = settings_for_service(
            self._settings, service.namespace, service.name, annotations, self._tenants, self._budgets
        )
        objects = () if self.autoscalers is None else self.autoscalers.of_service(service.key)
        for reading in reversed(objects):
            made = (*entries_of(reading, self._settings, self._tenants, self._budgets)[0], *made)
        named = made or any(service_matches(entry.match, *service.key) for entry in self._settings)
        if annotations.enabled and not named and not problems and not service.reading.problems:
            problems = (
                "leadtime.dev/enabled: no settings match this service and leadtime.dev/max-replicas is not given; "
                "it is only observed",
            )
        return made, problems

    def _read_annotations(
        self, services: Sequence[RayServiceView], clusters: Sequence[RayClusterView]
    ) -> Mapping[ObjectKey, AnnotationReading]:
        """Each object's annotations: only what changed is read, and what was right stays while they are wrong."""
        kept: dict[ObjectKey, tuple[tuple[tuple[str, str], ...], AnnotationReading]] = {}
        for kind, views in (("RayService", services), ("RayCluster", clusters)):
            for view in views:
                key = (kind, view.namespace, view.name)
                before = self._readings.get(key)
                if before is not None and before[0] == view.annotations:
                    kept[key] = before
                else:
                    last_good = None if before is None else before[1].annotations
                    kept[key] = (view.annotations, read_annotations(view.annotations, last_good))
                    self._note(key, before, view)
        self._readings = kept
        self._seen_all = self._seen_all or self.synced
        return {key: reading for key, (_, reading) in kept.items()}

    def _note(
        self,
        key: ObjectKey,
        before: tuple[tuple[tuple[str, str], ...], AnnotationReading] | None,
        view: RayServiceView | RayClusterView,
    ) -> None:
        """For the audit; what was there when this process began is no change."""
        said = () if before is None else before[0]
        if self._audit is not None and self._seen_all and said != view.annotations:
            self._audit.note("annotations", "/".join(key), view.annotated_by, dict(said), dict(view.annotations))


class KubernetesPools(Source):
    """The source of node pools: GPU nodes, and the pods on them or waiting for them. `data` is `Pools`.

    Without the right to list nodes the source is down and says so; leadtime then knows nothing of nodes, and goes on.
    """

    name = "kubernetes-nodes"

    def __init__(
        self,
        api: ClusterApi,
        namespaces: Sequence[str],
        pools: Sequence[PoolSettings],
        *,
        now_s: Callable[[], float],
        placeholders_in: str | None = None,
        times: WatchTimes | None = None,
        ray_pods: RayPods | None = None,
    ) -> None:
        """`placeholders_in`: also watch the pods there that hold warm nodes, and Events about them. `ray_pods`: a watch
        of those namespaces that stands elsewhere; None: one of its own."""
        self._pools = tuple(pools)
        places: list[str | None] = [*namespaces] or [None]
        self._ray_pods = ray_pods or RayPods(api, namespaces, now_s=now_s, times=times)
        own: list[ObjectCache[PodView]] = [] if ray_pods is not None else list(self._ray_pods.caches)
        told = list(places)
        if placeholders_in is not None:
            told.append(placeholders_in)
            own.append(
                ObjectCache(api, PODS, placeholders_in, parse_pod, now_s=now_s, labels=_PLACEHOLDER_PODS, times=times)
            )
        self._nodes: ObjectCache[NodeView] = ObjectCache(api, NODES, None, parse_node, now_s=now_s, times=times)
        self._own_pods = own
        self._pods = list(dict.fromkeys([*self._ray_pods.caches, *own]))
        self._failed = [
            _events(api, place, FAILED_SCALE_UP, parse_failed_scale_up, now_s, times) for place in dict.fromkeys(told)
        ]
        self._pulled = [_events(api, place, PULLED, parse_pulled, now_s, times) for place in places]
        self._refusals: dict[str, list[PoolRefusal]] = {}

    def receive(self, pool: str, refusal: PoolRefusal) -> None:
        """Capacity that was refused where no Event tells of it (Google's API, a ProvisioningRequest)."""
        kept = self._refusals.setdefault(pool, [])
        if kept and _lasts(kept[-1], refusal):
            kept.pop()
        kept.append(refusal)
        del kept[:-_REFUSALS_KEPT]

    async def run(self) -> None:
        """Watch until cancelled."""
        await run_caches([self._nodes, *self._own_pods, *self._failed, *self._pulled])

    async def read(self, now_s: float) -> Reading:
        up, as_of_s, why = _status([self._nodes, *self._pods])
        if as_of_s is None:
            return Reading(self.name, False, None, None, why)
        pods = [pod for cache in self._pods for pod in cache.items.values()]
        pools = pools_of(self._pools, self._nodes.items.values(), pods, as_of_s, self._pulls_s())
        return Reading(self.name, up, as_of_s, Pools(tuple(self._with_refusals(pool, pods) for pool in pools)), why)

    def _pulls_s(self) -> Mapping[tuple[str, str], float] | None:
        """By pod; None while Events cannot be read."""
        if not all(cache.synced for cache in self._pulled):
            return None
        seconds: dict[tuple[str, str], float] = {}
        for cache in self._pulled:
            for one in cache.items.values():
                key = (one.namespace, one.pod)
                seconds[key] = seconds.get(key, 0.0) + one.seconds
        return seconds

    def _with_refusals(self, pool: PoolSignals, pods: Sequence[PodView]) -> PoolSignals:
        places = {(pod.namespace, pod.name): pool_name(self._pools, pod.wanted) for pod in pods}
        found = list(self._refusals.get(pool.name, ()))
        for cache in self._failed:
            for one in cache.items.values():
                if places.get((one.namespace, one.pod)) == pool.name:
                    found += [PoolRefusal(one.at_s, one.kind, zone, one.words) for zone in one.zones or ("",)]
        found.sort(key=lambda one: (one.at_s, one.zone))
        last_s = found[-1].at_s if found else pool.refused_at_s
        return replace(pool, refused_at_s=last_s, refusals=tuple(found[-_REFUSALS_KEPT:]))


def _events(
    api: ClusterApi,
    namespace: str | None,
    reason: str,
    parse: Any,
    now_s: Callable[[], float],
    times: WatchTimes | None,
) -> ObjectCache[Any]:
    fields = f"reason={reason}"
    return ObjectCache(api, EVENTS, namespace, parse, now_s=now_s, fields=fields, times=times)


async def run_caches(caches: Sequence[ObjectCache[Any]]) -> None:
    """Watch until cancelled."""
    async with asyncio.TaskGroup() as group:
        for cache in caches:
            group.create_task(cache.run(), name=f"watch {cache.resource.plural} {cache.namespace or ''}".strip())


def _lasts(before: PoolRefusal, now: PoolRefusal) -> bool:
    """Whether it is the same refusal told again: its words say for how long, so they differ each time."""
    return (before.kind, before.zone) == (now.kind, now.zone) and now.at_s - before.at_s < _LASTS_S


def _status(caches: Sequence[ObjectCache[Any]]) -> tuple[bool, float | None, str]:
    """Of several views together: as old as the oldest, and not known before all are."""
    times = [cache.as_of_s() for cache in caches]
    why = next((cache.why for cache in caches if cache.why), "")
    known = [at for at in times if at is not None]
    return not why, min(known) if len(known) == len(times) else None, why
