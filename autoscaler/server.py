"""The controller's HTTP pages: health, metrics, status, plan, decisions, events, and the kill switch.

Reading needs no token; pausing does. It shows what is on the board and decides nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from autoscaler.board import Board
from autoscaler.dashboard_client import read_secret
from autoscaler.errors import ConfigError, LeadtimeError, StateError
from autoscaler.metrics import Exporter
from autoscaler.pause import NotPulled, PauseSwitch
from autoscaler.redaction import blank_json
from autoscaler.status import VERSION, decisions_view, plan_view, status_view
from policies.base import DeploymentKey, PolicyError

_MAX_BODY_BYTES = 16 * 1024
_DEFAULT_DECISIONS, _MAX_DECISIONS = 100, 5000
_MAX_EVENT_STREAMS = 32
_NAMES = frozenset({"deployment", "held"})
"""Keys whose values are deployments' keys: no secret removes them from a page, even one that equals them."""
_EVENT_PATIENCE_S = 15.0
"""After so long without a tick a comment keeps the connection of an event stream open."""


class Server:
    """Serves the pages from `start` to `stop`. `port` 0 takes a free one; `port` tells which afterwards."""

    def __init__(
        self, board: Board, pause: PauseSwitch, host: str = "127.0.0.1", port: int = 8080,
        token_file: Path | None = None, now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.host = host
        self.port = port
        self._pages = _Pages(board, pause, token_file, now_s, monotonic_s)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Errors: ConfigError when the address is taken or not ours."""
        self._runner = web.AppRunner(self._pages.application(), shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self.stop()
            what = (error.strerror or str(error)).lower()
            raise ConfigError(f"server.host, server.port: cannot listen on {self.host}:{self.port}: {what}") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._pages.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class _Pages:
    """The handlers; each is a few lines, what they show is made in `status` and `metrics`."""

    def __init__(
        self, board: Board, pause: PauseSwitch, token_file: Path | None,
        now_s: Callable[[], float], monotonic_s: Callable[[], float],
    ) -> None:  # fmt: skip
        self._board = board
        self._pause = pause
        self._token_file = token_file
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._exporter = Exporter(board, now_s)
        self._streams = 0
        self.closing = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors_as_json])
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/api/v1/status", self._status),
                web.get("/api/v1/plan", self._plan),
                web.get("/api/v1/decisions", self._decisions),
                web.get("/api/v1/events", self._events),
                web.post("/api/v1/pause", self._set_pause),
                web.post("/api/v1/resume", self._set_pause),
            ]
        )
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        if self._board.alive(self._monotonic_s()):
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"no tick for more than {self._board.alive_within_s:g} s\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self._board.plan is not None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the first tick is not done yet\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._exporter.registry), headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        return _json(status_view(self._board, self._now_s()))

    async def _plan(self, request: web.Request) -> web.Response:
        view = plan_view(self._board)
        if view is None:
            raise _refusal(503, "the first tick is not done yet")
        return _json(view)

    async def _decisions(self, request: web.Request) -> web.Response:
        limit = _limit(request.query.get("limit"))
        wanted = request.query.get("deployment")
        key = None if wanted is None else self._key(wanted)
        return _json(decisions_view(self._board, key, limit))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the status page at once and after each tick."""
        if self._streams >= _MAX_EVENT_STREAMS:
            raise _refusal(503, f"{_MAX_EVENT_STREAMS} event streams are open already")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._streams += 1
        try:
            await response.prepare(request)
            await self._stream(response)
        except ConnectionError:
            pass  # the reader left
        finally:
            self._streams -= 1
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        while not self.closing.is_set():
            changed = self._board.changed
            view = status_view(self._board, self._now_s())
            data = blank_json(json.dumps(view).encode(), _NAMES)
            await response.write(b"id: %s\nevent: tick\ndata: %s\n\n" % (str(view["tick"]).encode(), data))
            while not changed.is_set() and not self.closing.is_set():
                if not await _either(changed, self.closing, _EVENT_PATIENCE_S):
                    await response.write(b": still here\n\n")

    async def _set_pause(self, request: web.Request) -> web.Response:
        self._authorise(request)
        key = await self._wanted_key(request)
        try:
            state = await self._pause.pull(key, paused=request.path.endswith("/pause"))
        except NotPulled as error:
            raise _refusal(409, str(error)) from None
        except StateError as error:
            raise _refusal(503, f"not changed: {error}") from None
        deployments = sorted(str(one) for one in state.deployments)
        return _json({"version": VERSION, "paused": state.everything, "deployments": deployments})

    def _authorise(self, request: web.Request) -> None:
        if self._token_file is None:
            raise _refusal(403, "switched off: no server.token_file is configured")
        try:
            token = read_secret(self._token_file)
        except ConfigError as error:
            raise _refusal(403, f"server.{error}") from None
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise _refusal(401, "wrong or missing token: send 'Authorization: Bearer TOKEN'")

    async def _wanted_key(self, request: web.Request) -> DeploymentKey | None:
        text = await request.text()
        try:
            body = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError):
            raise _refusal(400, 'the body is not JSON; allowed: nothing, or {"key": DEPLOYMENT}') from None
        if not isinstance(body, dict) or not set(body) <= {"key"} or not isinstance(body.get("key"), str | None):
            raise _refusal(400, 'allowed in the body: nothing, or {"key": DEPLOYMENT}')
        return None if body.get("key") is None else self._key(body["key"])

    def _key(self, text: str) -> DeploymentKey:
        """A deployment that is known; a typo must not pause nothing."""
        try:
            key = DeploymentKey.parse(text)
        except PolicyError as error:
            raise _refusal(400, str(error)) from None
        known = {str(one.key) for one in self._board.plan.deployments} if self._board.plan else set()
        paused = self._pause.state.deployments
        if known and str(key) not in known and key not in paused and key not in self._board.decisions:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)[:20])}"
            raise _refusal(404, f"no deployment {text!r} here{hint}")
        return key


def _json(view: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page without secrets, whatever words are on it; names of deployments stay."""
    body = blank_json(json.dumps(view).encode(), _NAMES)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_DECISIONS
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_DECISIONS:
        raise _refusal(400, f"limit {text!r}: allowed: 1 .. {_MAX_DECISIONS}")
    return int(text)


async def _either(one: asyncio.Event, other: asyncio.Event, patience_s: float) -> bool:
    """Whether one of two events came within `patience_s`."""
    waits = [asyncio.create_task(event.wait()) for event in (one, other)]
    try:
        done, _ = await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)


class _Refusal(LeadtimeError):
    """A request that is answered with an error."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def _refusal(status: int, why: str) -> _Refusal:
    return _Refusal(status, why)


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    headers: dict[str, Any] = {}
    try:
        return await handler(request)
    except _Refusal as refused:
        status, why = refused.status, str(refused)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    except web.HTTPException as error:
        status, why = error.status, error.reason
        if "Allow" in error.headers:
            headers["Allow"] = error.headers["Allow"]
    return _json({"error": why}, status=status, headers=headers)
