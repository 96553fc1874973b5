"""KubeRay and its users around real local Ray heads: what the end-to-end test with a real Ray Serve needs besides them.

`LiveOperator` reconciles a RayService whose Ray clusters are real; `Relay` stands before each one's dashboard, sees
every write, and can keep one from being answered; `Users` send requests through Serve's proxy and note each answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.operator import Operator
from tests.live.local_serve import LocalServe

_PASSED_ON = ("Content-Type", "Authorization")


@dataclass
class Relay:
    """A reverse proxy before a dashboard that may not be there yet; `hold` keeps writes without an answer, undone."""

    target: Callable[[], LocalServe | None]
    hold: bool = False
    held: int = 0
    written: list[tuple[str, Any]] = field(default_factory=list)
    """(deployment, body) of every write that went through."""
    url: str = ""

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass(self, request: web.Request) -> web.Response:
        serve = self.target()
        if serve is None:
            return web.Response(status=503, text="the head is not up yet")
        body = await request.read()
        if request.method == "POST" and self.hold:
            self.held += 1
            await asyncio.Event().wait()
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        url = serve.dashboard + request.raw_path
        try:
            async with self._client.request(request.method, url, data=body or None, headers=headers) as answer:
                content, kind = await answer.read(), answer.content_type
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=str(error))
        if request.method == "POST" and answer.status == 200:
            self.written.append((request.path.split("/")[-2], await request.json()))
        return web.Response(status=answer.status, body=content, content_type=kind)


@dataclass(eq=False)
class LiveCluster:
    """A real Ray head behind its relay; `serve` is None until it is up and its application runs."""

    name: str
    relay: Relay
    app: str
    deployment: str
    serve: LocalServe | None = None
    inside: int = 0
    """Requests of users that wait for an answer."""

    @property
    def url(self) -> str:
        return self.relay.url

    @property
    def drained(self) -> bool:
        return self.inside == 0

    async def target(self) -> int:
        assert self.serve is not None
        shown = await asyncio.to_thread(self.serve.deployment, self.app, self.deployment)
        return int(shown["target_num_replicas"])


Heads = Callable[[], Awaitable[LocalServe]]
"""The next Ray head, with its application running."""


class LiveOperator(Operator[LiveCluster]):
    """The first head that `heads` gives must be there at once; later ones come up while the operator goes on."""

    def __init__(
        self, api: FakeApi, service: dict[str, Any], addresses: Path, heads: Heads, deployment: tuple[str, str]
    ) -> None:
        super().__init__(api, service, addresses)
        self._heads, self._deployment = heads, deployment
        self._stack = contextlib.AsyncExitStack()

    async def __aexit__(self, *failure: object) -> None:
        await super().__aexit__(*failure)
        await self._stack.aclose()

    async def make(self, name: str) -> LiveCluster:
        cluster = LiveCluster(name, Relay(lambda: cluster.serve), *self._deployment)
        await self._stack.enter_async_context(cluster.relay)

        async def come_up() -> None:
            cluster.serve = await self._heads()

        if self.clusters:
            self._tasks.append(asyncio.ensure_future(come_up()))
        else:
            await come_up()
        return cluster


class Users:
    """`rate_rps` requests a second to the active cluster, each of `seconds`; every one is counted until it ends."""

    def __init__(self, operator: LiveOperator, path: str) -> None:
        self.rate_rps = 0.0
        self.sent = 0
        self.answers: Counter[str] = Counter()
        """How many got which status, or failed in which way."""
        self._operator, self._path = operator, path
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=90)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        self._sender = asyncio.ensure_future(self._send())
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._sender.cancel()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(self._sender, *self._under_way, return_exceptions=True)
        await self._session.close()

    @property
    def waiting(self) -> int:
        return len(self._under_way)

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s + 1 / self.rate_rps, loop.time() - 1.0) if self.rate_rps else loop.time() + 0.05
            await asyncio.sleep(due_s - loop.time())
            if self.rate_rps:
                task = asyncio.ensure_future(self._ask(self._operator.now_active))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _ask(self, cluster: LiveCluster) -> None:
        assert cluster.serve is not None
        self.sent += 1
        cluster.inside += 1
        try:
            async with self._session.get(cluster.serve.http + self._path) as answer:
                await answer.read()
                self.answers[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers[type(error).__name__] += 1
        finally:
            cluster.inside -= 1
