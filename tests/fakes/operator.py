"""KubeRay, Ray and users as far as an end-to-end test needs them: not the real operator, and no real Serve.

`Operator` has a Ray cluster for each spec of one RayService, prepares a new one beside the old one when the spec
changes (`NewCluster`), switches when told to, and deletes the old one when it has drained. `DoubleOperator` has
clusters that are doubles as well (a dashboard, a metrics page); `Plane` is what their users see: requests arrive at a
rate, wait for a free slot of a replica, and every one is counted until it is answered or lost with a cluster.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from aiohttp import web

from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.server import FakeApi

APP, LLM, INGRESS = "chat", "LLMServer:llama-70b", "OpenAiIngress"
SLOTS = 4
"""Requests that one replica works on at a time."""
SERVICE_S = 0.4
"""Seconds that one takes."""
_STEP_S = 0.05


@dataclass
class HeldDashboard(FakeDashboard):
    """One whose scale API can be made to hang in mid-write: the request arrived, nothing was done."""

    hold: bool = False
    held: int = 0

    async def _scale(self, request: web.Request) -> web.Response:
        if self.hold:
            self.held += 1
            await asyncio.Event().wait()
        return await super()._scale(request)


@dataclass
class Plane:
    """The requests of one Ray cluster, as numbers that may be fractions."""

    arrived: float = 0.0
    answered: float = 0.0
    deepest: float = 0.0
    """The longest that the queue ever was."""

    @property
    def inside(self) -> float:
        return self.arrived - self.answered

    def step(self, rate_rps: float, replicas: int, seconds: float) -> None:
        self.arrived += rate_rps * seconds
        ongoing = min(self.inside, replicas * SLOTS)
        self.answered += min(self.inside, ongoing * seconds / SERVICE_S)
        self.deepest = max(self.deepest, self.inside - ongoing)

    def page(self, replicas: int) -> str:
        """What the node's metrics page says."""
        labels = f'application="{APP}",deployment="{LLM}",handle="h"'
        ongoing = min(self.inside, replicas * SLOTS)
        lines = [
            f"ray_serve_num_router_requests_total{{{labels}}} {int(self.arrived)}",
            f"ray_serve_deployment_queued_queries{{{labels}}} {self.inside - ongoing:.0f}",
            f"ray_serve_num_ongoing_requests_at_replicas{{{labels}}} {ongoing:.0f}",
        ]
        for i in range(replicas):
            replica = f'application="{APP}",deployment="{LLM}",replica="{LLM}-{i}",WorkerId="w{i}"'
            lines.append(f"ray_serve_replica_processing_queries{{{replica}}} {ongoing / replicas:.2f}")
        return "\n".join(lines) + "\n"


class Cluster(Protocol):
    """One Ray cluster, as the operator knows it."""

    name: str

    @property
    def url(self) -> str:
        """Of its dashboard."""
        ...

    @property
    def drained(self) -> bool:
        """Whether nobody waits for an answer of it."""
        ...


C = TypeVar("C", bound=Cluster)


class Operator(abc.ABC, Generic[C]):
    """Reconciles one RayService as KubeRay does. `addresses` is a file that tells where dashboards listen.

    How a Ray cluster comes and goes is for those who derive from it: `make` and `gone`.
    """

    def __init__(self, api: FakeApi, service: dict[str, Any], addresses: Path) -> None:
        self.api, self.service = api, service
        self._addresses = addresses
        self.clusters: dict[str, C] = {}
        self.active: C | None = None
        self.pending: C | None = None
        self._specs: dict[str, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @abc.abstractmethod
    async def make(self, name: str) -> C:
        """A new Ray cluster, or the beginning of one."""

    def gone(self, cluster: C) -> None:
        """The cluster was deleted."""

    async def __aenter__(self) -> Self:
        self.api.add(self.service)
        await self._reconcile()
        self.switch()
        self._tasks = [asyncio.ensure_future(self._operate())]
        return self

    async def __aexit__(self, *failure: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # ------------------------------------------------------------ what a test does and asks

    @property
    def now_active(self) -> C:
        assert self.active is not None
        return self.active

    def change_spec(self, ray_version: str) -> None:
        """What a user does who upgrades."""
        self.api.change(self.service, {"spec": {"rayClusterConfig": {"rayVersion": ray_version}}})

    def switch(self) -> None:
        """The new cluster becomes the active one; the old one stays until it has drained."""
        assert self.pending is not None
        self.active, self.pending = self.pending, None
        self._set_status()

    # ------------------------------------------------------------ the operator's loop

    async def _operate(self) -> None:
        while True:
            await self._reconcile()
            await asyncio.sleep(0.1)

    async def _reconcile(self) -> None:
        wanted = self.api.read(self.service)["spec"]["rayClusterConfig"]
        newest = self.pending or self.active
        if newest is None or self._specs[newest.name] != wanted:
            self.pending = await self._build(
                f"{self.service['metadata']['name']}-{'abcdefg'[len(self._specs)]}", wanted
            )
            self._set_status()
        for cluster in list(self.clusters.values()):
            if cluster not in (self.active, self.pending) and cluster.drained:
                self.api.remove(objects.ray_cluster(cluster.name))
                del self.clusters[cluster.name]
                self.gone(cluster)

    async def _build(self, name: str, spec: Any) -> C:
        self._specs[name] = spec
        cluster = self.clusters[name] = await self.make(name)
        self._addresses.write_text(json.dumps({c.name: c.url for c in self.clusters.values()}))
        self.api.add(objects.ray_cluster(name, spec=spec, service=self.service["metadata"]["name"]))
        return cluster

    def _set_status(self) -> None:
        names = [None if c is None else c.name for c in (self.active, self.pending)]
        generation = self.api.read(self.service)["metadata"].get("generation", 1)
        self.api.set_status(self.service, objects.service_status(names[0], names[1], generation=generation))


# ---------------------------------------------------------------- Ray clusters that are doubles too


@dataclass(eq=False)
class RayCluster:
    """A fake dashboard, and the plane that users' requests go through."""

    name: str
    dashboard: HeldDashboard
    plane: Plane = field(default_factory=Plane)

    @property
    def url(self) -> str:
        return self.dashboard.url

    @property
    def drained(self) -> bool:
        return self.plane.inside < 0.5

    @property
    def replicas(self) -> int:
        return self.dashboard.of(APP, LLM).target


class DoubleOperator(Operator[RayCluster]):
    """`rate_rps` is the users' traffic; it goes to the active cluster."""

    def __init__(self, api: FakeApi, service: dict[str, Any], addresses: Path, token: str) -> None:
        super().__init__(api, service, addresses)
        self.rate_rps = 0.0
        self._token = token
        self._stack = AsyncExitStack()
        self.answered_before = self.lost = 0.0
        """Requests of clusters that are gone."""

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        await super().__aenter__()
        self._tasks.append(asyncio.ensure_future(self._serve()))
        return self

    async def __aexit__(self, *failure: object) -> None:
        await super().__aexit__(*failure)
        await self._stack.aclose()

    @property
    def arrived(self) -> float:
        return self.answered_before + self.lost + sum(c.plane.arrived for c in self.clusters.values())

    @property
    def answered(self) -> float:
        return self.answered_before + sum(c.plane.answered for c in self.clusters.values())

    async def make(self, name: str) -> RayCluster:
        deployments = {LLM: FakeDeployment(), INGRESS: FakeDeployment()}
        dashboard = HeldDashboard({APP: FakeApplication(deployments)}, token=self._token)
        cluster = RayCluster(name, dashboard)
        dashboard.metrics_pages = [await self._page(cluster)]
        await self._stack.enter_async_context(dashboard.serve())
        return cluster

    async def _page(self, cluster: RayCluster) -> str:
        async def metrics(request: web.Request) -> web.Response:
            return web.Response(text=cluster.plane.page(cluster.replicas))

        application = web.Application()
        application.add_routes([web.get("/metrics", metrics)])
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{runner.addresses[0][1]}"

    def gone(self, cluster: RayCluster) -> None:
        self.answered_before += cluster.plane.answered
        self.lost += cluster.plane.inside

    async def _serve(self) -> None:
        while True:
            for cluster in self.clusters.values():
                rate_rps = self.rate_rps if cluster is self.active else 0.0
                cluster.plane.step(rate_rps, cluster.replicas, _STEP_S)
            await asyncio.sleep(_STEP_S)
