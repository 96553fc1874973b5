"""The actuators that pre-warm, for a controller and for `leadtime release`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from autoscaler.common.errors import LeadtimeError, SourceError

if TYPE_CHECKING:
    from autoscaler.actuators.prewarm import PrewarmActuator, RayHead, Refusal, Surroundings
    from autoscaler.core.ports import Source
    from autoscaler.kubernetes.resources import ClusterApi
    from autoscaler.settings.model import Config
    from autoscaler.sources.kubernetes.discovery import KubernetesPools
    from autoscaler.wiring.kubernetes import KubernetesParts


def warm_actuators(config: Config, cluster: KubernetesParts | None, listed: Sequence[RayHead]) -> list[PrewarmActuator]:
    """Also in a dry run: they look, and say what they would send. `listed`: the services of the settings."""
    if not config.prewarm:
        return []
    from autoscaler.wiring.ways import prewarm_actuators

    budget_s = cluster.write_budget_s if cluster else None
    heads = _heads(listed, cluster)
    around = _surroundings(config, cluster.api if cluster else None, heads, budget_s)
    around = replace(around, deadline_s=within_s(config.controller.tick_s))
    if cluster is not None:
        around = replace(around, service_version=cluster.discovery.service_version)
    if cluster is not None and cluster.pools is not None:
        around = replace(around, on_refusal=_teller(cluster.pools))
    return prewarm_actuators(config.prewarm, around)


def within_s(tick_s: float) -> float:
    """How long one pool may take: less than the runtime waits (0.9 of a tick, at least 1 s), so that it can say why."""
    return min(4.0, max(0.9, 0.8 * tick_s))


def _teller(pools: KubernetesPools) -> Callable[[Refusal], None]:
    """What a way hears of refused capacity goes where the Events' is."""
    from autoscaler.core.types import PoolRefusal

    def tell(one: Refusal) -> None:
        pools.receive(one.pool, PoolRefusal(one.at_s, one.kind, one.zone, one.words))

    return tell


def _surroundings(
    config: Config,
    api: ClusterApi | None,
    heads: Callable[[], Sequence[RayHead]],
    write_budget_s: Callable[[], float] | None = None,
) -> Surroundings:
    from autoscaler.actuators.prewarm import Surroundings
    from autoscaler.wiring.cluster import own_place
    from autoscaler.wiring.ways import consent

    matches = [entry.match for entry in config.controller.deployments]
    return Surroundings(
        api=api,
        namespace=own_place(config),
        watch_namespaces=config.kubernetes.watch_namespaces if config.kubernetes else (),
        consent=lambda pools: consent(pools, matches),
        heads=heads,
        write_budget_s=write_budget_s,
    )


def _heads(listed: Sequence[RayHead], cluster: KubernetesParts | None) -> Callable[[], Sequence[RayHead]]:
    """Ray clusters of the settings, and those that discovery found."""
    from autoscaler.actuators.prewarm import RayHead

    def heads() -> Sequence[RayHead]:
        found = cluster.fleet.active_clients() if cluster else {}
        return [*listed, *(RayHead(*place, client) for place, client in found.items())]

    return heads


@asynccontextmanager
async def standing_prewarm(config: Config) -> AsyncIterator[list[PrewarmActuator]]:
    """The actuators that pre-warm, without a controller around them. Errors: ConfigError."""
    from autoscaler.actuators.prewarm import RayHead
    from autoscaler.api.telemetry import new_telemetry
    from autoscaler.clients.ray_dashboard import DashboardClient
    from autoscaler.wiring.cluster import cluster_parts
    from autoscaler.wiring.ways import prewarm_actuators

    clients = [
        RayHead(
            s.namespace,
            s.name,
            DashboardClient(s.dashboard, s.token_file, s.ca_file, s.timeout_s, limits=config.reading),
        )
        for s in config.services
    ]
    cluster = cluster_parts(config, new_telemetry(config.controller), elect=False)
    tasks = [asyncio.ensure_future(work()) for work in cluster.background] if cluster else []
    around = _surroundings(config, cluster.api if cluster else None, _heads(clients, cluster))
    around = replace(around, in_use=_in_use(config, cluster, clients))
    actuators = prewarm_actuators(config.prewarm, around)
    try:
        if cluster is not None and any(pool.way == "request_resources" for pool in config.prewarm):
            await _until_found(cluster)
        if cluster is not None and any(pool.gke is not None and not pool.gke.autoscaled for pool in config.prewarm):
            await _until_seen(cluster)
        yield actuators
    finally:
        for actuator in actuators:
            await actuator.close()
        for head in clients:
            await head.client.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if cluster is not None:
            await cluster.fleet.inventories.close()


def _in_use(
    config: Config, cluster: KubernetesParts | None, heads: Sequence[RayHead]
) -> Callable[[str], Awaitable[int | None]] | None:
    """How many nodes of a pool workers are on, by who sees nodes: Kubernetes, else every Ray cluster's own list.

    None where nobody sees all of them.
    """
    from autoscaler.sources.ray_nodes import RayNodesSource
    from autoscaler.sources.readings import Pools

    sources: list[Source] = []
    if cluster is not None:
        sources += [cluster.pools] if cluster.pools is not None else []
    elif all(service.nodes for service in config.services):
        sources += [RayNodesSource("/".join(head.place), head.client, config.controller.pools) for head in heads]
    if not sources:
        return None

    async def in_use(pool: str) -> int | None:
        readings = await asyncio.gather(*(source.read(time.time()) for source in sources))
        busy = []
        for reading in readings:
            if not reading.up or not isinstance(reading.data, Pools):
                why = reading.why or "no answer yet"
                raise SourceError(f"whether workers run on pool {pool} cannot be seen: {why}")
            busy += [node.busy for one in reading.data.pools if one.name == pool for node in one.nodes]
        return sum(busy)

    return in_use


async def _until_seen(cluster: KubernetesParts, within_s: float = 15.0) -> None:
    """Let the nodes be seen, or be said why not; where they cannot be, the way says so when it asks."""
    ends_at_s = time.monotonic() + within_s
    while cluster.pools is not None and time.monotonic() < ends_at_s:
        reading = await cluster.pools.read(time.time())
        if reading.as_of_s is not None or reading.why:
            return
        await asyncio.sleep(0.1)


async def _until_found(cluster: KubernetesParts, within_s: float = 15.0) -> None:
    """Let discovery find the Ray clusters, and make their links. Errors: LeadtimeError when it cannot."""
    ends_at_s = time.monotonic() + within_s
    while not cluster.discovery.synced:
        if time.monotonic() > ends_at_s:
            raise LeadtimeError(f"the Ray clusters were not found: {cluster.discovery.status()[2]}")
        await asyncio.sleep(0.1)
    await cluster.fleet.read(time.time())
