"""Reads the Ray clusters of all discovered services, however many there are and come and go.

To the runtime it is two sources. Behind them every Ray cluster has a link of its own (the adapters that a service from
the settings file has), made when discovery finds it and closed when it is gone. One that answers slowly delays nobody:
what it said last counts, and ages. During an upgrade both clusters of a service are read, and counted once. Not for
finding services (sources/kubernetes/discovery.py), nor for scaling them (writes.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from autoscaler.actuators.ray_serve import RayServeActuator
from autoscaler.dashboard_client import DashboardClient
from autoscaler.errors import LeadtimeError
from autoscaler.kuberay.reach import Reach
from autoscaler.model import DeploymentInventory, DeploymentMetrics
from autoscaler.ports import Reading
from autoscaler.sources.join import NodePage, collect
from autoscaler.sources.kuberay.services import KubeService, ServeCluster, ServiceKey
from autoscaler.sources.kuberay.upgrade import combined
from autoscaler.sources.node_metrics import NodeMetricsSource
from autoscaler.sources.ray_dashboard import RayDashboardSource
from autoscaler.sources.readings import Inventories, JoinedMetrics, NodePages
from policies.base import DeploymentKey

LinkKey = tuple[str, str]
"""(namespace, Ray cluster)."""


class Discovery(Protocol):
    """What is needed of discovery."""

    def services(self) -> tuple[KubeService, ...]: ...

    def status(self) -> tuple[bool, float | None, str]: ...


@dataclass(slots=True)
class Link:
    """One Ray cluster: how to reach it, and what it said last."""

    cluster: ServeCluster
    client: DashboardClient
    dashboard: RayDashboardSource
    pages: NodeMetricsSource
    actuator: RayServeActuator
    inventories: Mapping[DeploymentKey, DeploymentInventory] = field(default_factory=dict)
    unreadable: Mapping[DeploymentKey, str] = field(default_factory=dict)
    """Deployments whose entry made no sense in the last answer: why."""
    last_pages: Mapping[str, NodePage] = field(default_factory=dict)
    why: str = "no answer yet"
    """Why the inventories are not of the last round; empty when they are."""
    why_pages: str = "no answer yet"
    task: asyncio.Task[None] | None = None

    def start(self, now_s: float, slots: asyncio.Semaphore) -> asyncio.Task[None]:
        """The read under way; a new one when there is none."""
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._read(now_s, slots))
        return self.task

    async def _read(self, now_s: float, slots: asyncio.Semaphore) -> None:
        """What cannot be read stays as it was, and ages."""
        async with slots:
            inventories, pages = await asyncio.gather(self.dashboard.read(now_s), self.pages.read(now_s))
        self.why, self.why_pages = ("" if inventories.up else inventories.why), ("" if pages.up else pages.why)
        if isinstance(inventories.data, Inventories):
            self.inventories = inventories.data.deployments
            self.unreadable = inventories.data.unreadable
        if isinstance(pages.data, NodePages):
            self.last_pages = pages.data.pages

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.pages.close()
        await self.client.close()


class KubeRayFleet:
    """The links, and what was read through them. `inventories` and `metrics` are its ports."""

    def __init__(
        self,
        discovery: Discovery,
        reach: Reach | None = None,
        *,
        wait_s: float = 1.5,
        concurrency: int = 64,
        write_budget_s: Callable[[], float] | None = None,
    ) -> None:
        """`wait_s`: how long a round waits for the slow ones."""
        self._discovery, self._reach = discovery, reach or Reach()
        self._wait_s, self._write_budget_s = wait_s, write_budget_s
        self._slots = asyncio.Semaphore(concurrency)
        self._links: dict[LinkKey, Link] = {}
        self._refused: dict[LinkKey, str] = {}
        """Ray clusters without a link, and why."""
        self._services: dict[ServiceKey, KubeService] = {}
        self._round: tuple[float, asyncio.Task[None]] | None = None
        self.planned: dict[DeploymentKey, int] = {}
        """The level last written for each deployment: how a share of it is recognised during an upgrade."""
        self.inventories = _InventoriesSource(self)
        self.metrics = _MetricsSource(self)

    def known_keys(self) -> frozenset[DeploymentKey]:
        """Every deployment that was read."""
        return frozenset(key for link in self._links.values() for key in (*link.inventories, *link.unreadable))

    def service_of(self, key: DeploymentKey) -> KubeService | None:
        return self._services.get((key.namespace, key.service))

    def link(self, service: KubeService, cluster: ServeCluster) -> Link | None:
        return self._links.get((service.namespace, cluster.name))

    def active_clients(self) -> dict[ServiceKey, DashboardClient]:
        """How to reach the Ray cluster that serves each service."""
        found = {}
        for key, service in self._services.items():
            link = None if service.active is None else self.link(service, service.active)
            if link is not None:
                found[key] = link.client
        return found

    # ------------------------------------------------------------ rounds

    async def read(self, now_s: float) -> None:
        """One round over all links; both sources of a tick share it."""
        if self._round is None or self._round[0] != now_s:
            self._round = (now_s, asyncio.ensure_future(self._read(now_s)))
        await asyncio.shield(self._round[1])

    async def _read(self, now_s: float) -> None:
        await self._renew_links()
        tasks = [link.start(now_s, self._slots) for link in self._links.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_s)

    async def _renew_links(self) -> None:
        """Links of the clusters that there are now; a cluster whose address or token changed gets a new one."""
        self._services = {s.key: s for s in self._discovery.services() if s.opted_in and s.phase != "gone"}
        wanted = {(s.namespace, c.name): (s, c) for s in self._services.values() for c in s.clusters}
        gone = [key for key, link in self._links.items() if key not in wanted or _moved(link.cluster, wanted[key][1])]
        closing = [self._links.pop(key) for key in gone]
        self._refused = {}
        for key, (service, cluster) in wanted.items():
            link = self._links.get(key)
            if link is not None:
                link.cluster = cluster
                continue
            try:
                self._links[key] = self._new_link(service, cluster)
            except Exception as error:  # one cluster's trouble is that cluster's
                self._refused[key] = str(error) if isinstance(error, LeadtimeError) else f"bug: {error!r}"
        self.planned = {k: n for k, n in self.planned.items() if (k.namespace, k.service) in self._services}
        await asyncio.gather(*(link.close() for link in closing))

    def _new_link(self, service: KubeService, cluster: ServeCluster) -> Link:
        """Errors: LeadtimeError for a cluster that is not connected to."""
        client, timeout_s = self._reach.client(service, cluster), self._reach.timeout_s
        rules = self._reach.targets(service, cluster, client)
        place = (f"{service.namespace}/{cluster.name}", service.namespace, service.name)
        return Link(
            cluster,
            client,
            RayDashboardSource(*place, client),
            NodeMetricsSource(*place, client, timeout_s=timeout_s, rules=rules, resolve=self._reach.resolve),
            RayServeActuator(*place, client, timeout_s, write_budget_s=self._write_budget_s),
        )

    async def close(self) -> None:
        if self._round is not None:
            self._round[1].cancel()
            await asyncio.gather(self._round[1], return_exceptions=True)
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(link.close() for link in links))

    # ------------------------------------------------------------ what was read

    def _serving(self, service: KubeService) -> list[Link]:
        """The links of the clusters that traffic goes to."""
        return [link for cluster in service.serving if (link := self.link(service, cluster)) is not None]

    def all_inventories(self) -> dict[DeploymentKey, DeploymentInventory]:
        """One inventory for each deployment, of the clusters that serve it; none where one of them cannot be read."""
        found: dict[DeploymentKey, DeploymentInventory] = {}
        for service in self._services.values():
            links = self._serving(service)
            unreadable = {key for link in links for key in link.unreadable}
            for key in {key for link in links for key in link.inventories} - unreadable:
                by_cluster = {link.cluster.name: link.inventories[key] for link in links if key in link.inventories}
                one = combined(service, by_cluster, self.planned.get(key))
                if one is not None:
                    found[key] = replace(one, act=service.reading.annotations.act or "external")
        return found

    def all_unreadable(self) -> dict[DeploymentKey, str]:
        """Deployments whose entry makes no sense in a cluster that serves them: why."""
        found: dict[DeploymentKey, str] = {}
        for service in self._services.values():
            for link in self._serving(service):
                found |= link.unreadable
        return found

    def all_metrics(self, now_s: float) -> dict[DeploymentKey, DeploymentMetrics]:
        """Metrics of each deployment from the pages of all clusters that serve it."""
        by_service: dict[ServiceKey, dict[DeploymentKey, DeploymentInventory]] = {}
        for key, inventory in self.all_inventories().items():
            by_service.setdefault((key.namespace, key.service), {})[key] = inventory
        found: dict[DeploymentKey, DeploymentMetrics] = {}
        for place, inventories in by_service.items():
            pages: dict[str, NodePage] = {}
            for link in self._serving(self._services[place]):
                pages.update(link.last_pages)
            if pages:
                found.update(collect(pages, inventories, *place, now_s))
        return found

    def reading(self, name: str, now_s: float, data: object, why_of: Callable[[Link], str]) -> Reading:
        """Up when discovery knows the cluster and, if there is anything to read, some of it could be read."""
        known, _, why = self._discovery.status()
        serving = [(s.namespace, cluster.name) for s in self._services.values() for cluster in s.serving]
        if not serving and not known:
            return Reading(name, False, None, None, f"no services known: {why}")
        failed = {}
        for key in serving:
            link = self._links.get(key)
            words = self._refused.get(key, "no answer yet") if link is None else why_of(link)
            if words:
                failed["/".join(key)] = words
        up = not serving or len(failed) < len(serving)
        words = _summary(failed, len(serving)) or ("" if known else f"new services are not seen: {why}")
        return Reading(name, up, now_s if up else None, data if up else None, words)


class _InventoriesSource:
    name = "ray_dashboard"

    def __init__(self, fleet: KubeRayFleet) -> None:
        self._fleet = fleet

    async def read(self, now_s: float) -> Reading:
        await self._fleet.read(now_s)
        data = Inventories("", "", self._fleet.all_inventories(), self._fleet.all_unreadable())
        return self._fleet.reading(self.name, now_s, data, lambda link: link.why)

    async def close(self) -> None:
        await self._fleet.close()


class _MetricsSource:
    name = "node_metrics"

    def __init__(self, fleet: KubeRayFleet) -> None:
        self._fleet = fleet

    async def read(self, now_s: float) -> Reading:
        await self._fleet.read(now_s)
        data = JoinedMetrics(self._fleet.all_metrics(now_s))
        return self._fleet.reading(self.name, now_s, data, lambda link: link.why_pages)


def _moved(before: ServeCluster, now: ServeCluster) -> bool:
    def place(cluster: ServeCluster) -> tuple[str, str | None, str | None]:
        return (cluster.dashboard, cluster.auth_secret, cluster.refused)

    return place(before) != place(now)


def _summary(failed: Mapping[str, str], total: int) -> str:
    """How many, and the commonest trouble with an example."""
    if not failed:
        return ""
    why, count = Counter(failed.values()).most_common(1)[0]
    example = next(name for name, reason in failed.items() if reason == why)
    alike = f" (and {count - 1} alike)" if count > 1 else ""
    return f"{len(failed)} of {total} Ray clusters cannot be read: {example}{alike}: {why}"
