"""Reads the Ray clusters of all discovered services, however many there are and come and go.

To the runtime it is two sources. Behind them every Ray cluster has a link of its own (the adapters that a service from
the settings file has), made when discovery finds it and closed when it is gone. One that answers slowly delays nobody:
what it said last counts, and ages. During an upgrade both clusters of a service are read, and counted once. Not for
finding services (sources/kubernetes/discovery.py), nor for scaling them (writes.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from autoscaler.actuators.ray_serve import RayServeActuator
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.common.errors import LeadtimeError
from autoscaler.core.ports import Reading, Source
from autoscaler.core.types import DeploymentInventory, DeploymentMetrics
from autoscaler.kuberay.reach import Reach
from autoscaler.sources.join import NodePage, collect
from autoscaler.sources.kuberay.services import KubeService, ServeCluster, ServiceKey
from autoscaler.sources.kuberay.upgrade import combined
from autoscaler.sources.node_metrics import NodeMetricsSource
from autoscaler.sources.ray_dashboard import RayDashboardSource
from autoscaler.sources.readings import Inventories, JoinedMetrics, NodePages
from policies.base import DeploymentKey

LinkKey = tuple[str, str, str]
"""(namespace, service, Ray cluster): a Ray cluster that two services claim is read for each."""
_LARGE_AT_ONCE = 4
"""Large answers that services of one namespace may hold at once."""


_MOST_PLANNED = 10_000
"""Beyond it, levels of deployments that nobody lists now are forgotten."""


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
    in_part: str = ""
    """Which pages could not be read while others could."""
    counted: tuple[int, int] = (0, 0)
    """Deployments and series, as they count for the namespace."""
    task: asyncio.Task[None] | None = None

    def start(self, now_s: float, room: _Room) -> asyncio.Task[None]:
        """The read under way; a new one when there is none."""
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._read(now_s, room))
        return self.task

    async def _read(self, now_s: float, room: _Room) -> None:
        """What cannot be read stays as it was, and ages; what is too much for the namespace is dropped."""
        try:
            async with room.slots:
                inventories, pages = await asyncio.gather(self.dashboard.read(now_s), self.pages.read(now_s))
        except Exception as error:
            self.why = self.why_pages = f"bug: {error!r}"
            return
        self.why, self.why_pages = ("" if inventories.up else inventories.why), ("" if pages.up else pages.why)
        self.in_part = pages.why if pages.up else ""
        if isinstance(inventories.data, Inventories):
            self.inventories = inventories.data.deployments
            self.unreadable = inventories.data.unreadable
        if isinstance(pages.data, NodePages):
            self.last_pages = pages.data.pages
        if (why := room.excess(self)) is not None:
            self.why, self.why_pages, self.in_part = why, why, ""
            self.inventories, self.unreadable, self.last_pages = {}, {}, {}
            self.pages.forget()
            room.count(self)

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.pages.close()
        await self.client.close()


@dataclass(slots=True)
class _Room:
    """What the services of one namespace share: whoever writes there fills it up for nobody else."""

    namespace: str
    limits: ReadingLimits
    slots: asyncio.Semaphore
    turns: asyncio.Semaphore
    """To hold a large answer."""
    deployments: int = 0
    series: int = 0

    def count(self, link: Link) -> None:
        """What is kept of this link now."""
        before, link.counted = link.counted, (len(link.inventories) + len(link.unreadable), link.pages.series)
        self.deployments += link.counted[0] - before[0]
        self.series += link.counted[1] - before[1]

    def leave(self, link: Link) -> None:
        """The link is closed."""
        self.deployments -= link.counted[0]
        self.series -= link.counted[1]
        link.counted = (0, 0)

    def excess(self, link: Link) -> str | None:
        """Why what was read of this link is too much beside what is kept of the others; None: it is not."""
        self.count(link)
        for count, most, what, key in (
            (self.deployments, self.limits.namespace_deployments, "deployments", "namespace_deployments"),
            (self.series, self.limits.namespace_series, "known series", "namespace_series"),
        ):
            if count > most:
                return f"the services of namespace {self.namespace} have more than {most} {what} (reading.{key})"
        return None


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
        """`wait_s`: how long a round waits for the slow ones; `concurrency`: services of one namespace read at once."""
        self._discovery, self._reach = discovery, reach or Reach()
        self._wait_s, self._write_budget_s = wait_s, write_budget_s
        self._concurrency = concurrency
        self._rooms: dict[str, _Room] = {}
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
        return self._links.get((*service.key, cluster.name))

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
        tasks = [link.start(now_s, self._room(namespace)) for (namespace, *_), link in self._links.items()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_s)

    async def _renew_links(self) -> None:
        """Links of the clusters that there are now; a cluster whose address or token changed gets a new one."""
        self._services, self._refused = self._taken()
        wanted = {(*s.key, c.name): (s, c) for s in self._services.values() for c in s.clusters}
        gone = [key for key, link in self._links.items() if key not in wanted or _moved(link.cluster, wanted[key][1])]
        closing = []
        for key in gone:
            closing.append(self._links.pop(key))
            self._room(key[0]).leave(closing[-1])
        places = {namespace for namespace, *_ in wanted}
        self._rooms = {namespace: room for namespace, room in self._rooms.items() if namespace in places}
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
        if len(self.planned) > _MOST_PLANNED:  # names come and go
            known = self.known_keys()
            self.planned = {k: n for k, n in self.planned.items() if k in known}
        await asyncio.gather(*(link.close() for link in closing))

    def _taken(self) -> tuple[dict[ServiceKey, KubeService], dict[LinkKey, str]]:
        """The services that are looked after, and those that are too many for their namespace, with the reason."""
        most, count = self._reach.limits.namespace_services, Counter[str]()
        taken: dict[ServiceKey, KubeService] = {}
        refused: dict[LinkKey, str] = {}
        for service in self._discovery.services():
            if not service.opted_in or service.phase == "gone":
                continue
            count[service.namespace] += 1
            if count[service.namespace] <= most:
                taken[service.key] = service
            else:
                refused[(*service.key, "")] = (
                    f"namespace {service.namespace} has more than {most} services (reading.namespace_services)"
                )
        return taken, refused

    def _room(self, namespace: str) -> _Room:
        room = self._rooms.get(namespace)
        if room is None:
            slots, turns = asyncio.Semaphore(self._concurrency), asyncio.Semaphore(_LARGE_AT_ONCE)
            room = self._rooms[namespace] = _Room(namespace, self._reach.limits, slots, turns)
        return room

    def _new_link(self, service: KubeService, cluster: ServeCluster) -> Link:
        """Errors: LeadtimeError for a cluster that is not connected to."""
        client, timeout_s = self._reach.client(service, cluster), self._reach.timeout_s
        rules = self._reach.targets(service, cluster, client)
        place = (f"{service.namespace}/{cluster.name}", service.namespace, service.name)
        return Link(
            cluster,
            client,
            RayDashboardSource(*place, client, turns=self._room(service.namespace).turns),
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
            try:
                found.update(_inventories(service, links, self.planned))
            except Exception as error:
                _blame(links, error)
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
            links = self._serving(self._services[place])
            pages: dict[str, NodePage] = {}
            for link in links:
                pages.update(link.last_pages)
            try:
                found.update(collect(pages, inventories, *place, now_s) if pages else {})
            except Exception as error:
                _blame(links, error)
        return found

    def reading(self, name: str, now_s: float, data: object, why_of: Callable[[Link], tuple[str, str]]) -> Reading:
        """Up when discovery knows the cluster and, if there is anything to read, some of it could be read.

        `why_of`: why nothing of a link could be read, and why some of it could not.
        """
        known, _, why = self._discovery.status()
        serving = [(*s.key, cluster.name) for s in self._services.values() for cluster in s.serving]
        listed = dict.fromkeys([*serving, *self._refused])
        if not listed and not known:
            return Reading(name, False, None, None, f"no services known: {why}")
        failed: dict[str, str] = {}
        in_part: dict[str, str] = {}
        for key in listed:
            namespace, service, cluster = key
            link = self._links.get(key)
            words, some = (self._refused.get(key, "no answer yet"), "") if link is None else why_of(link)
            if words or some:
                (failed if words else in_part)[f"{namespace}/{cluster or service}"] = words or some
        up = not listed or len(failed) < len(listed)
        told = [_summary(failed, len(listed), "cannot be read"), _summary(in_part, len(listed), "are read in part")]
        words = "; ".join(filter(None, told)) or ("" if known else f"new services are not seen: {why}")
        return Reading(name, up, now_s if up else None, data if up else None, words)


def _inventories(
    service: KubeService, links: list[Link], planned: Mapping[DeploymentKey, int]
) -> dict[DeploymentKey, DeploymentInventory]:
    found = {}
    unreadable = {key for link in links for key in link.unreadable}
    for key in {key for link in links for key in link.inventories} - unreadable:
        by_cluster = {link.cluster.name: link.inventories[key] for link in links if key in link.inventories}
        one = combined(service, by_cluster, planned.get(key))
        if one is not None:
            found[key] = replace(one, act=service.reading.annotations.act or "external")
    return found


def _blame(links: Iterable[Link], error: Exception) -> None:
    """What cannot be made sense of is its own service's trouble."""
    for link in links:
        link.why = link.why_pages = f"bug: {error!r}"


class _InventoriesSource(Source):
    name = "ray_dashboard"

    def __init__(self, fleet: KubeRayFleet) -> None:
        self._fleet = fleet

    async def read(self, now_s: float) -> Reading:
        await self._fleet.read(now_s)
        data = Inventories("", "", self._fleet.all_inventories(), self._fleet.all_unreadable())
        return self._fleet.reading(self.name, now_s, data, lambda link: (link.why, ""))

    async def close(self) -> None:
        await self._fleet.close()


class _MetricsSource(Source):
    name = "node_metrics"

    def __init__(self, fleet: KubeRayFleet) -> None:
        self._fleet = fleet

    async def read(self, now_s: float) -> Reading:
        await self._fleet.read(now_s)
        data = JoinedMetrics(self._fleet.all_metrics(now_s))
        return self._fleet.reading(self.name, now_s, data, lambda link: (link.why_pages, link.in_part))


def _moved(before: ServeCluster, now: ServeCluster) -> bool:
    def place(cluster: ServeCluster) -> tuple[str, str | None, str | None]:
        return (cluster.dashboard, cluster.auth_secret, cluster.refused)

    return place(before) != place(now)


def _summary(failed: Mapping[str, str], total: int, what: str) -> str:
    """How many, and the commonest trouble with an example."""
    if not failed:
        return ""
    why, count = Counter(failed.values()).most_common(1)[0]
    example = next(name for name, reason in failed.items() if reason == why)
    alike = f" (and {count - 1} alike)" if count > 1 else ""
    return f"{len(failed)} of {total} Ray clusters {what}: {example}{alike}: {why}"
