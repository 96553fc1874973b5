"""Everything that a controller needs of Kubernetes, built from settings and ready for the runtime.

Discovery, the fleet of found services, node pools, the kill switch, the leader's lease, events. It wires and decides
nothing; without `kubernetes` in the settings nobody imports it, nor the client behind it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autoscaler.api.telemetry import Telemetry
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.core.audit import Audit, writer_of
from autoscaler.core.ports import Actuator, Source
from autoscaler.core.types import ControllerConfig, DeploymentSettings, Outcome
from autoscaler.kuberay.autoscaler_status import StatusWriter, governed_by, status_of
from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.kuberay.reach import Reach
from autoscaler.kuberay.tokens import Tokens
from autoscaler.kuberay.writes import KubeRayActuator
from autoscaler.kubernetes.events import EventWriter, Notice, ObjectRef, notices_of, own_notices
from autoscaler.kubernetes.leader import LeaderElector, LeaseSettings
from autoscaler.kubernetes.lease import KubernetesLease
from autoscaler.kubernetes.resources import AUTOSCALERS, ClusterApi, Object
from autoscaler.sources.kuberay.autoscalers import AutoscalerView
from autoscaler.sources.kuberay.services import KubeService, ServeCluster
from autoscaler.sources.kubernetes.cache import WatchTimes
from autoscaler.sources.kubernetes.discovery import KubernetesDiscovery, KubernetesPools, run_caches
from autoscaler.sources.kubernetes.pause import (
    DEPLOYMENTS,
    PAUSED,
    AnnotationPauseSource,
    ClusterPause,
    ConfigMapSwitch,
    KubernetesPauseSource,
    SwitchMemory,
)
from autoscaler.sources.kubernetes.pods import RayPods
from policies.base import DeploymentKey
from policies.capacity import EngineProfile
from policies.capacity.load import load_profile, preset_names

log = logging.getLogger("leadtime")

_LOOK_EVERY_S = 5.0
Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """What the settings file says of Kubernetes."""

    watch_namespaces: tuple[str, ...]
    """Empty: all of them."""
    namespace: str
    """Its own: of the lease and of the kill switch."""
    name: str = "leadtime"
    """Of its lease; the kill switch is the ConfigMap NAME-pause."""
    lease_suffix: str = ""
    """Behind the lease's name: a standby has a lease of its own, and the controller's kill switch."""
    tokens: Tokens = field(default_factory=Tokens)
    """Where the tokens of Ray dashboards are."""
    reading: ReadingLimits = ReadingLimits()
    nodes: bool = False
    """Watch nodes and worker pods."""
    autoscalers: bool = False
    """Autoscaler objects count, and get a status."""
    events: bool = True
    """Write Events; never in a dry run."""
    placeholders: bool = False
    """Some pool is pre-warmed by placeholder pods."""
    timeout_s: float = 4.0
    """Of one read or write of a Ray dashboard."""


@dataclass(frozen=True, slots=True)
class KubernetesParts:
    """What the runtime takes."""

    sources: tuple[Source, ...]
    actuators: tuple[Actuator, ...]
    background: tuple[Work, ...]
    leader: Callable[[], bool]
    write_budget_s: Callable[[], float] | None
    """For writers that are not built here; None: there is no other controller."""
    deployment_settings: Callable[[], tuple[DeploymentSettings, ...]]
    """Entries that annotations make, to stand before those of the file."""
    discovery: KubernetesDiscovery
    elector: LeaderElector | None
    api: ClusterApi
    fleet: KubeRayFleet
    pools: KubernetesPools | None
    """None: nodes are not watched."""
    switch: ConfigMapSwitch


def process_identity() -> str:
    """The pod's name, and what tells this life of it from the one before."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def connected_parts(
    settings: KubernetesSettings,
    config: ControllerConfig,
    telemetry: Telemetry,
    lease: LeaseSettings | None = None,
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    memory: SwitchMemory | None = None,
    audit: Audit | None = None,
) -> KubernetesParts:
    """`kubernetes_parts` on the cluster of the kubeconfig, else of this pod. Errors: ConfigError.

    The lease gets a client of its own, so that no other call can delay it.
    """
    from autoscaler.kubernetes.api import connect

    api = connect(kubeconfig, context)
    election = None if lease is None else (connect(kubeconfig, context, threads=2, timeout_s=5.0), lease)
    return kubernetes_parts(settings, config, telemetry, api, election, memory=memory, audit=audit)


def own_pod() -> ObjectRef | None:
    """The pod that this runs in, as the chart's environment says; None elsewhere."""
    name, namespace = os.environ.get("POD_NAME"), os.environ.get("POD_NAMESPACE")
    if not name or not namespace:
        return None
    return ObjectRef("Pod", namespace, name, os.environ.get("POD_UID", ""), "v1")


def own_namespace() -> str:
    """Where this pod runs; `default` outside of a cluster."""
    from autoscaler.kubernetes import api

    return os.environ.get("POD_NAMESPACE") or api.own_namespace() or "default"


def kubernetes_parts(
    settings: KubernetesSettings,
    config: ControllerConfig,
    telemetry: Telemetry,
    api: ClusterApi,
    lease: tuple[ClusterApi, LeaseSettings] | None = None,
    *,
    now_s: Callable[[], float] = time.time,
    dashboard: Callable[[ServeCluster], str] = lambda cluster: cluster.dashboard,
    times: WatchTimes | None = None,
    memory: SwitchMemory | None = None,
    audit: Audit | None = None,
) -> KubernetesParts:
    """`lease`: an API client of its own and the election's settings; None: this is the only controller.

    `memory` keeps the kill switch as it was last read; `audit` is told who changed it, and annotations.
    """
    elector = None
    if lease is not None:
        store = KubernetesLease(lease[0], settings.namespace, settings.name + settings.lease_suffix)
        elector = LeaderElector(store, lease[1], on_change=_say_leader, on_trouble=_say_trouble)
    budget_s = None if elector is None else (lambda: elector.write_budget_s(elector.clock()))
    places = settings.watch_namespaces
    discovery = KubernetesDiscovery(
        api, places, now_s=now_s, settings=config.deployments, tenants=config.tenants, budgets=config.gpu_budget,
        profile_of=preset if settings.autoscalers else None, audit=audit, times=times,
    )  # fmt: skip
    ray_pods = RayPods(api, places, now_s=now_s, times=times)
    reach = Reach(settings.tokens, settings.reading, ray_pods.addresses, dashboard, timeout_s=settings.timeout_s)
    fleet = KubeRayFleet(discovery, reach, write_budget_s=budget_s)

    def known_keys() -> frozenset[DeploymentKey]:
        return fleet.known_keys() | discovery.known_keys()

    def told(before: ClusterPause, now: ClusterPause, config_map: Object) -> None:
        if audit is not None:
            writers = [writer_of(config_map, "data", name) for name in (PAUSED, DEPLOYMENTS)]
            who = max(writers, key=lambda one: one.get("written_at", ""))
            about = f"ConfigMap {settings.namespace}/{settings.name}-pause"
            audit.note("pause", about, who, before.said, now.said)

    sources: list[Source] = [
        fleet.inventories,
        fleet.metrics,
        KubernetesPauseSource(api, settings.namespace, f"{settings.name}-pause", known_keys, memory=memory, told=told),
        AnnotationPauseSource(discovery.paused_services, known_keys, discovery.paused_patterns),
    ]
    background: list[Work] = [discovery.run, lambda: run_caches(ray_pods.caches)]
    pools: KubernetesPools | None = None
    if settings.nodes:
        pools = KubernetesPools(
            api,
            places,
            config.pools,
            now_s=now_s,
            placeholders_in=settings.namespace if settings.placeholders else None,
            times=times,
            ray_pods=ray_pods,
        )
        sources.append(pools)
        background.append(pools.run)
    writer = None
    if settings.events and not config.dry_run:
        writer = EventWriter(api, elector.settings.identity if elector else process_identity(), now_s=now_s)
        background.append(writer.run)
    teller = _Teller(discovery, writer, lambda: elector is None or elector.is_leader(elector.clock()), own_pod())
    background += [teller.observe, lambda: teller.follow(telemetry)]
    if discovery.autoscalers is not None:
        statuses = _Statuses(discovery, StatusWriter(api, now_s=now_s), config, teller.leads)
        background.append(lambda: statuses.follow(telemetry))
    if elector is not None and lease is not None:
        background.append(lambda: _closing(elector.serve(), lease[0]))
    background.append(lambda: _closing(asyncio.Event().wait(), api))
    return KubernetesParts(
        sources=tuple(sources),
        actuators=(KubeRayActuator(fleet),),
        background=tuple(background),
        leader=(lambda: True) if elector is None else (lambda: elector.is_leader(elector.clock())),
        write_budget_s=budget_s,
        deployment_settings=discovery.deployment_settings,
        discovery=discovery,
        elector=elector,
        api=api,
        fleet=fleet,
        pools=pools,
        switch=ConfigMapSwitch(api, settings.namespace, settings.name),
    )


def preset(name: str) -> EngineProfile | None:
    """A preset that an Autoscaler names; never a file."""
    return load_profile(name) if name in preset_names() else None


def _say_leader(leader: bool) -> None:
    log.info("leads from now on" if leader else "does not lead any more: writes nothing")


def _say_trouble(why: str) -> None:
    log.log(logging.ERROR if why else logging.INFO, "leader election: %s", why or "the lease can be had again")


async def _closing(work: Awaitable[object], api: ClusterApi) -> None:
    """Close a client when the work that goes on until the end is cancelled."""
    try:
        await work
    finally:
        await api.close()


class _Teller:
    """Tells people: of services that come, go and switch, of wrong annotations, of what a plan did."""

    def __init__(
        self,
        discovery: KubernetesDiscovery,
        writer: EventWriter | None,
        leads: Callable[[], bool],
        pod: ObjectRef | None = None,
    ) -> None:
        """`pod`: what this runs in; None: nowhere that is known."""
        self._discovery, self._writer, self.leads, self._pod = discovery, writer, leads, pod
        self._said: set[tuple[str, str]] = set()

    async def observe(self) -> None:
        """Every few seconds, until cancelled."""
        while True:
            for step in self._discovery.changes():
                log.info("%s %s/%s: %s", step.service.kind, *step.service.key, step.words)
            services = [(ref_of(service), words) for service, words in self._discovery.problems()]
            objects = [(ref_of_autoscaler(view), words) for view, words in self._discovery.autoscaler_problems()]
            self._tell_problems([*services, *objects])
            await asyncio.sleep(_LOOK_EVERY_S)

    def _tell_problems(self, problems: Iterable[tuple[ObjectRef, str]]) -> None:
        now: set[tuple[str, str]] = set()
        for ref, words in problems:
            about = f"{ref.kind} {ref.namespace}/{ref.name}"
            now.add((about, words))
            if (about, words) not in self._said:
                log.warning("%s: %s", about, words)
            if self._writer is not None and self.leads():
                notice = Notice(ref, "SettingRejected", words, words, action="Configure", warning=True)
                self._writer.tell([notice])
        self._said = now

    async def follow(self, telemetry: Telemetry) -> None:
        """Events of every finished tick, until cancelled."""
        while True:
            changed = telemetry.changed
            await changed.wait()
            if self._writer is None or telemetry.plan is None:
                continue
            if self._pod is not None:
                self._writer.tell(own_notices(self._pod, telemetry.conditions, telemetry.outages, telemetry.plan.now_s))
            refs = {service.key: ref_of(service) for service in self._discovery.services()}

            def ref(key: DeploymentKey, refs: dict[tuple[str, str], ObjectRef] = refs) -> ObjectRef | None:
                view = self._discovery.autoscaler_of(key)
                return refs.get((key.namespace, key.service)) if view is None else ref_of_autoscaler(view)

            outcome = Outcome("", tuple(telemetry.applied.values()))
            self._writer.tell(notices_of(telemetry.plan, [outcome], ref))


class _Statuses:
    """Status of Autoscalers after each tick; also in a dry run, where it says that nothing is done."""

    def __init__(
        self, discovery: KubernetesDiscovery, writer: StatusWriter, config: ControllerConfig, leads: Callable[[], bool]
    ) -> None:
        self._discovery, self._writer, self._leads = discovery, writer, leads
        self._pools = {pool.name: pool for pool in config.pools}
        self._said = ""

    async def follow(self, telemetry: Telemetry) -> None:
        """Until cancelled."""
        while True:
            changed = telemetry.changed
            await changed.wait()
            plan, objects = telemetry.plan, self._discovery.autoscalers
            if plan is None or objects is None or not self._leads():
                continue
            found = governed_by(objects.all(), self._discovery.refusals, plan.deployments, objects.of_service)
            statuses = [
                (one.reading.view, *status_of(one, plan, telemetry.settings_for, self._pools, telemetry.pause.covers))
                for one in found
            ]
            await self._writer.write(statuses, self._leads)
            why = self._writer.why or objects.why
            if why and why != self._said:
                log.warning("Autoscalers (said once until it changes): %s", why)
            self._said = why


def ref_of(service: KubeService) -> ObjectRef:
    """The object that events of a service are about."""
    return ObjectRef(service.kind, service.namespace, service.name, service.uid)


def ref_of_autoscaler(view: AutoscalerView) -> ObjectRef:
    """The object that events of an Autoscaler are about."""
    return ObjectRef(AUTOSCALERS.kind, view.namespace, view.name, view.uid, AUTOSCALERS.api_version)
