"""Ray heads that answer with too much, too slowly or without an end.

    python -m tests.fakes.hostile_head KIND

serves one of them, prints its address, and goes on until its input ends: a process of its own, so that what it does
takes nothing from the good heads that a test serves.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from autoscaler.sources import names

MB = 1 << 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LIST, TARGETS, PAGE = "/api/serve/applications/", "/api/prometheus/sd", "/metrics"


@asynccontextmanager
async def head(**answers: Handler) -> AsyncIterator[str]:
    """A Ray head: `list`, `targets` and `page` are answered by these; what is left out as an idle head would."""

    async def idle(request: web.Request) -> web.Response:
        return web.json_response({"controller_info": {"a": "b"}, "applications": {}})

    async def itself(request: web.Request) -> web.Response:
        return web.json_response([{"targets": [request.host]}])

    async def empty(request: web.Request) -> web.Response:
        return web.Response(text="")

    application = web.Application()
    application.router.add_get(LIST, answers.get("list", idle))
    application.router.add_get(TARGETS, answers.get("targets", itself))
    application.router.add_get(PAGE, answers.get("page", empty))
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()  # all of 127.0.0.0/8
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def streamed(*parts: bytes, every_s: float = 0.0, **headers: str) -> Handler:
    """The first parts, and the last one again and again without an end."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for part in parts[:-1]:
            await response.write(part)
        with suppress(ConnectionError):
            while True:
                await response.write(parts[-1])
                await asyncio.sleep(every_s)
        return response

    return handler


def body(content: bytes, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=content, headers=headers)

    return handler


def listing(deployments: int, replicas: int = 1, name: str = "a{}") -> bytes:
    """Applications with a deployment each."""
    seen = [{"replica_id": f"r{i}", "state": "RUNNING"} for i in range(replicas)]
    one = {"deployment_config": {}, "replicas": seen, "target_num_replicas": replicas}
    apps = {name.format(i): {"status": "RUNNING", "deployments": {"d": one}} for i in range(deployments)}
    return json.dumps({"controller_info": {"a": "b"}, "applications": apps}).encode()


async def a_million_series(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for first in range(0, 1_000_000, 500):
        lines = (f'{names.SERVE_QUEUED}{{application="a{i}",deployment="d"}} 1\n' for i in range(first, first + 500))
        await response.write("".join(lines).encode())
    return response


async def a_thousand_targets(request: web.Request) -> web.Response:
    port = request.host.rpartition(":")[2]
    return web.json_response([{"targets": [f"127.0.{i // 250}.{i % 250 + 1}:{port}" for i in range(1000)]}])


BOMB = gzip.compress(b"{" + b" " * 62 * MB, 1)
TOO_MUCH = "metric pages could not be read"
"""Of bytes, or of time on a busy machine."""
HOSTILE: dict[str, tuple[dict[str, Handler], str]] = {
    "3,000 applications": ({"list": body(listing(3000))}, "lists more than 200 deployments"),
    "as many as are read, of one": ({"list": body(listing(200, 20))}, ""),
    "gzip": ({"list": body(BOMB, **{"Content-Encoding": "gzip"})}, "longer than 4 MiB"),
    "gzip page": ({"page": body(gzip.compress(b"x 1\n" * (15 * MB)), **{"Content-Encoding": "gzip"})}, "100 times"),
    "slow drip": ({"list": streamed(b" ", every_s=0.2), "page": streamed(b"a\n", every_s=0.2)}, "no answer within 2 s"),
    "endless list": ({"list": streamed(b" " * 65536)}, "longer than 4 MiB"),
    "endless page": ({"page": streamed(b"ab 1\n" * 13000)}, TOO_MUCH),
    "endless line": ({"page": streamed(b"x" * 65536)}, "a line has no end"),
    "a thousand endless pages": (
        {"page": streamed(b"a 1\n" * 16000), "targets": a_thousand_targets}, TOO_MUCH
    ),
    "a million series": ({"page": a_million_series}, "more than 30000 known series"),
    "a hundred thousand targets": (
        {"targets": body(json.dumps([{"targets": ["h:1"] * 100_000}]).encode())}, "reading.targets"
    ),
    "many small values": ({"list": body(b"[" + b"[]," * 1_300_000 + b"[]]")}, "reading.answer_values"),
    "deep": ({"list": body(b"[" * 100_000 + b"]" * 100_000)}, "is not JSON"),
}  # fmt: skip


async def main(kind: str) -> None:
    answers, _ = HOSTILE[kind]
    async with head(**answers) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
