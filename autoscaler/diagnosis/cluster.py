"""The checks of Kubernetes: rights by SelfSubjectAccessReview, what discovery finds, and every Ray cluster of that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from autoscaler.common.errors import ConfigError, LeadtimeError, NotFound
from autoscaler.common.extras import install
from autoscaler.diagnosis.finding import Finding
from autoscaler.diagnosis.ray_service import service_findings
from autoscaler.kuberay.reach import Reach
from autoscaler.kubernetes.lease import lost_lease, record_of
from autoscaler.kubernetes.resources import (
    AUTOSCALERS,
    CAPACITY_BUFFERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    NODES,
    PODS,
    PROVISIONING_REQUESTS,
    RAY_CLUSTERS,
    RAY_SERVICES,
    ClusterApi,
    Resource,
)
from autoscaler.settings.model import Config, KubernetesConfig
from autoscaler.sources.kuberay.services import ServeCluster
from autoscaler.sources.kubernetes.discovery import KubernetesDiscovery, run_caches
from autoscaler.sources.kubernetes.pods import RayPods
from autoscaler.wiring.kubernetes import own_namespace, preset

ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
_FIND_S = 15.0


@dataclass(frozen=True, slots=True)
class Right:
    """One cell of the table in docs/rights.md. `namespace` "": everywhere; `name` "": all of them."""

    verb: str
    resource: Resource
    namespace: str
    purpose: str
    name: str = ""
    needed: bool = True
    """False: without it something is missing, and the rest works."""
    subresource: str = ""

    def __str__(self) -> str:
        plural = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        what = f"{plural}.{self.resource.group}" if self.resource.group else plural
        place = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {what}{' ' + self.name if self.name else ''} {place}"


def rights(config: Config, block: KubernetesConfig) -> Iterator[Right]:
    """All that these settings need, and no more."""
    own = block.namespace or own_namespace()
    writes_events = block.events and not config.controller.dry_run
    for place in block.watch_namespaces or ("",):
        for resource in (RAY_SERVICES, RAY_CLUSTERS):
            for verb in ("list", "watch"):
                yield Right(verb, resource, place, "to find Ray services")
        if block.autoscalers:
            for verb in ("list", "watch"):
                yield Right(verb, AUTOSCALERS, place, "to hear what Autoscalers ask for")
            purpose = "to write what became of Autoscalers"
            yield Right("patch", AUTOSCALERS, place, purpose, needed=False, subresource="status")
        for verb in ("list", "watch"):
            yield Right(verb, PODS, place, "to see which addresses Ray heads may list", needed=False)
        if block.nodes:
            yield from _seeing_events(place)
        if writes_events:
            yield from _writing_events(place, "to write Events")
    if writes_events and block.watch_namespaces and own not in block.watch_namespaces:
        yield from _writing_events(own, "to write Events of the pod itself")
    if block.nodes:
        for verb in ("list", "watch"):
            yield Right(verb, NODES, "", "to see what node pools have", needed=False)
    yield Right(
        "get", CONFIG_MAPS, own, "for the kill switch; without it everything counts as paused", f"{block.name}-pause"
    )
    if config.election is not None:
        for verb in ("get", "update"):
            yield Right(verb, LEASES, own, "to elect a leader", block.name)
    yield from prewarm_rights(config, block, own)


def _seeing_events(place: str) -> Iterator[Right]:
    for verb in ("list", "watch"):
        yield Right(verb, EVENTS, place, "to see refused nodes and how long images took", needed=False)


def _writing_events(place: str, purpose: str) -> Iterator[Right]:
    for verb in ("create", "patch"):
        yield Right(verb, EVENTS, place, purpose, needed=False)


def prewarm_rights(config: Config, block: KubernetesConfig, own: str) -> Iterator[Right]:
    """Of the ways to pre-warm that are in use: to look, and where it acts to write."""
    acts = not config.controller.dry_run
    for pool in config.prewarm:
        purpose = f"to pre-warm pool {pool.name} by {pool.way}"
        if pool.way == "placeholder":
            yield Right("get", DEPLOYMENTS, own, purpose, pool.object)
            if acts:
                yield Right("patch", DEPLOYMENTS, own, purpose, pool.object, subresource="scale")
        elif pool.way == "capacity_buffer":
            for verb in ("get", "patch") if acts else ("get",):
                yield Right(verb, CAPACITY_BUFFERS[0], own, purpose, pool.object)
        elif pool.way == "provisioning_request":
            for verb in ("get", "delete") if acts else ("get",):
                yield Right(verb, PROVISIONING_REQUESTS, own, purpose, pool.object)
            if acts:
                yield Right("create", PROVISIONING_REQUESTS, own, purpose)
        elif pool.way == "worker_group":
            for place in block.watch_namespaces or ("",):
                for verb in ("get", "patch") if acts else ("get",):
                    yield Right(verb, RAY_SERVICES, place, purpose)
    elsewhere = bool(block.watch_namespaces) and own not in block.watch_namespaces
    if block.nodes and elsewhere and any(pool.way == "placeholder" for pool in config.prewarm):
        for verb in ("list", "watch"):
            yield Right(verb, PODS, own, "to see placeholders", needed=False)
        yield from _seeing_events(own)


async def kubernetes_findings(
    config: Config,
    block: KubernetesConfig,
    api: ClusterApi | None = None,
    dashboard: Callable[[ServeCluster], str] = lambda cluster: cluster.dashboard,
) -> list[Finding]:
    """`api` None: the cluster of the settings."""
    try:
        from autoscaler.kubernetes.api import connect

        api = api or connect(block.kubeconfig, block.context)
    except (ConfigError, ImportError) as error:
        mend = install("kube") if isinstance(error, ImportError) else ""
        return [Finding("fail", "kubernetes", str(error), mend)]
    try:
        try:
            findings = await rights_findings(api, list(rights(config, block)))
        except LeadtimeError as error:
            return [Finding("fail", "kubernetes", str(error))]
        if any(finding.level == "fail" for finding in findings):
            return findings
        if config.election is not None:
            findings += await lease_findings(api, block.namespace or own_namespace(), block.name)
        return [*findings, *[finding async for finding in _services(config, block, api, dashboard)]]
    finally:
        await api.close()


async def rights_findings(api: ClusterApi, wanted: Sequence[Right]) -> list[Finding]:
    """One line for each right that is missing, else one for all. Errors: LeadtimeError when the API does not answer."""
    allowed = await asyncio.gather(*(_allowed(api, right) for right in wanted))
    missing = [right for right, yes in zip(wanted, allowed, strict=True) if not yes]
    if not missing:
        return [Finding("ok", "kubernetes rights", f"all {len(wanted)} that these settings need are there")]
    return [
        Finding(
            "fail" if right.needed else "warn", "kubernetes rights", f"may not {right}", f"it is needed {right.purpose}"
        )
        for right in missing
    ]


async def lease_findings(api: ClusterApi, namespace: str, name: str) -> list[Finding]:
    """Who leads; a Lease that is gone fails where nobody may make it again."""
    try:
        lease = record_of(await api.get(LEASES, namespace, name))
    except NotFound:
        if await _allowed(api, Right("create", LEASES, namespace, "")):
            return [Finding("ok", "leader election", f"Lease {namespace}/{name} is not there yet: a pod will make it")]
        words, mend = lost_lease(namespace, name).split(": ", 1)
        return [Finding("fail", "leader election", words, mend)]
    except LeadtimeError as error:
        return [Finding("fail", "leader election", str(error))]
    holder = f"{lease.holder} leads" if lease.holder else "nobody leads now"
    return [Finding("ok", "leader election", f"Lease {namespace}/{name}: {holder}")]


async def _allowed(api: ClusterApi, right: Right) -> bool:
    attributes = {
        "verb": right.verb,
        "group": right.resource.group,
        "resource": right.resource.plural,
        "namespace": right.namespace,
        "name": right.name,
        "subresource": right.subresource,
    }
    body = {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    answer = await api.create(ACCESS_REVIEWS, None, body)
    return bool((answer.get("status") or {}).get("allowed"))


async def _services(
    config: Config, block: KubernetesConfig, api: ClusterApi, dashboard: Callable[[ServeCluster], str]
) -> AsyncIterator[Finding]:
    """What discovery finds, what is wrong with it, and the Ray clusters behind it."""
    places = block.watch_namespaces
    core = config.controller
    discovery = KubernetesDiscovery(
        api, places, now_s=time.time, settings=core.deployments, tenants=core.tenants, budgets=core.gpu_budget,
        profile_of=preset if block.autoscalers else None,
    )  # fmt: skip
    pods = RayPods(api, places, now_s=time.time)
    running = [asyncio.ensure_future(work) for work in (discovery.run(), run_caches(pods.caches))]
    try:
        ends_at_s = time.monotonic() + _FIND_S
        while not discovery.status()[0] and time.monotonic() < ends_at_s:  # noqa: ASYNC110 (it tells by status only)
            await asyncio.sleep(0.1)
        while not (pods.listed or pods.why) and time.monotonic() < ends_at_s:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        up, _, why = discovery.status()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if not up:
        yield Finding("fail", "kubernetes discovery", why)
        return
    asked = [service for service in discovery.services() if service.opted_in]
    words = f"{len(asked)} of {len(discovery.services())} Ray services are to be looked after"
    mend = (
        "" if asked else "annotate one with leadtime.dev/enabled=true, or name it in deployments[].match by four parts"
    )
    yield Finding("ok" if asked else "warn", "kubernetes discovery", words, mend)
    for service, problem in discovery.problems():
        yield Finding("warn", f"{service.namespace}/{service.name}", problem)
    for view, problem in discovery.autoscaler_problems():
        yield Finding("warn", f"Autoscaler {view.namespace}/{view.name}", problem)
    reach = Reach(block.tokens, config.reading, pods.addresses, dashboard, timeout_s=block.timeout_s)
    entries = discovery.deployment_settings()
    for service in asked:
        for cluster in service.clusters:
            try:
                client = reach.client(service, cluster)
            except LeadtimeError as error:
                yield Finding("fail", f"{service.namespace}/{service.name} dashboard", str(error))
                continue
            place = (service.namespace, service.name, client)
            rules = reach.targets(service, cluster, client)
            act = service.reading.annotations.act or "external"
            for finding in await service_findings(
                config.controller, *place, timeout_s=block.timeout_s, rules=rules, entries=entries, act=act
            ):
                yield finding
