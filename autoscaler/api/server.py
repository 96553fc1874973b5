"""The controller's HTTP pages: the live page, health, metrics, status, plan, decisions, events, and the kill switch.

It shows what is on the board and decides nothing. Who may ask is `access`, how many may and for how long `listener`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from autoscaler.api.access import Access, AccessRefused, Readers
from autoscaler.api.listener import Certificate, ConnectionLimits, Listener, begun, streams
from autoscaler.api.live import page
from autoscaler.api.metrics import Exporter
from autoscaler.api.status import VERSION, decisions_view, plan_view, status_view
from autoscaler.api.telemetry import Telemetry
from autoscaler.common.errors import ConfigError, LeadtimeError, StateError
from autoscaler.common.redaction import blank_json
from autoscaler.core.conditions import CERTIFICATE_NOT_RENEWED
from autoscaler.core.pause import NotPulled, PauseSwitch
from policies.base import DeploymentKey, PolicyError

_MAX_BODY_BYTES = 16 * 1024
_DEFAULT_DECISIONS, _MAX_DECISIONS = 100, 5000
_MAX_EVENT_STREAMS = 32
_NAMES = frozenset({"deployment", "held", "paused"})
"""Keys whose values are deployments' keys: no secret removes them from a page, even one that equals them."""
_MAX_EVENT_STREAMS_OF_PEER = 8
_EVENT_STREAM_S = 3600.0
"""After so long an event stream ends; its reader connects again, with a token that holds then."""
_WRITE_S = 30.0
"""A reader of an event stream that takes nothing for so long is gone."""
_OPEN = ("/healthz", "/readyz")
"""For probes: they need no token and may be asked by any name."""
_SIGN_IN = "/sign-in"
_ASSETS = "/assets/"
_COOKIE = "leadtime-read"
"""A browser's sign that it showed a token that reads. It is sent along by no page of others (SameSite=Strict)."""
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Of HTML pages: nothing from elsewhere, no script but ours. Places in the charts are style attributes."""
_POLICY = "Content-Security-Policy"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    _POLICY: "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "leadtime",
}
_EVENT_PATIENCE_S = 15.0
"""After so long without a tick a comment keeps the connection of an event stream open."""


class Server:
    """Serves the pages from `start` to `stop`. `port` 0 takes a free one; `port` tells which afterwards."""

    def __init__(
        self, telemetry: Telemetry, pause: PauseSwitch, host: str = "127.0.0.1", port: int = 8080,
        token_file: Path | None = None, now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
        readers: Readers | None = None, cert_file: Path | None = None, key_file: Path | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:  # fmt: skip
        """`token_file`: with the token that pause and resume need. `cert_file`: the pages are served with TLS."""
        self.host = host
        self.port = port
        self.scheme = "http" if cert_file is None else "https"
        self._certificate_files = None if cert_file is None else (cert_file, key_file)
        self._limits = limits or ConnectionLimits()
        self._pages = _Pages(telemetry, pause, Access(token_file, readers), now_s, monotonic_s)
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    @property
    def connections(self) -> int:
        """Open now."""
        return 0 if self._listener is None else len(self._listener)

    async def start(self) -> None:
        """Errors: ConfigError when the address is taken or not ours, or the certificate cannot be used."""
        certificate = None
        if self._certificate_files is not None:
            certificate = Certificate(*self._certificate_files, told=self._pages.certificate)
        self._runner = web.AppRunner(self._pages.application(), shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = Listener(self._runner.server, self._limits, certificate)
        try:
            self.port = await self._listener.start(self.host, self.port)
        except OSError as error:
            await self.stop()
            what = (error.strerror or str(error)).lower()
            raise ConfigError(f"server.host, server.port: cannot listen on {self.host}:{self.port}: {what}") from None

    async def stop(self) -> None:
        self._pages.closing.set()
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class _Pages:
    """The handlers; each is a few lines, what they show is made in `status` and `metrics`."""

    def __init__(
        self, telemetry: Telemetry, pause: PauseSwitch, access: Access,
        now_s: Callable[[], float], monotonic_s: Callable[[], float],
    ) -> None:  # fmt: skip
        self._telemetry = telemetry
        self.certificate = partial(telemetry.report, CERTIFICATE_NOT_RENEWED)
        """Hears why a renewed certificate is not used."""
        self._pause = pause
        self._access = access
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._exporter = Exporter(telemetry, now_s)
        self._live = page.LivePages(telemetry)
        self._streams: Counter[str] = Counter()
        self.closing = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors_as_json, self._guarded])
        application.on_response_prepare.append(_add_headers)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get(_ASSETS + "{name}", self._asset),
                web.get(_SIGN_IN, self._sign_in_form),
                web.post(_SIGN_IN, self._sign_in),
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

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Asks `access` before every page but the probes'."""
        begun(request)
        path = request.path
        if path in _OPEN:
            return await handler(request)
        self._access.check_host(request.headers.getall("Host", []))
        if path == _SIGN_IN or path.startswith(_ASSETS):
            return await handler(request)  # the form and the files of pages: no data are in them
        authorization = request.headers.get("Authorization", "")
        if request.method == "POST":
            self._access.check_change(authorization)
        elif not (path == "/metrics" and self._access.metrics_open):
            try:
                own = self._access.namespaces(authorization, request.cookies.get(_COOKIE, ""))
            except AccessRefused:
                if path == "/":
                    return _html(page.sign_in(), status=401)
                raise
            if own is not None and path != "/api/v1/plan":
                raise _refusal(403, "this token reads /api/v1/plan of its namespace, and nothing else")
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        """The live page."""
        return _html(self._live.whole(self._open_key(request), self._now_s()))

    async def _asset(self, request: web.Request) -> web.Response:
        kind = page.ASSETS.get(request.match_info["name"])
        if kind is None:
            raise _refusal(404, "no such file")
        return web.Response(body=page.asset(request.match_info["name"]), content_type=kind, charset="utf-8")

    async def _sign_in_form(self, request: web.Request) -> web.Response:
        return _html(page.sign_in())

    async def _sign_in(self, request: web.Request) -> web.Response:
        """A token that reads every page becomes a cookie that holds no token, for this browser session."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise _refusal(403, "signing in works from this page alone")
        token = (await request.post()).get("token")
        try:
            sign = self._access.sign_for(token if isinstance(token, str) else "")
        except AccessRefused as error:
            why = "wrong token" if error.status == 401 else str(error)
            return _html(page.sign_in(why), status=error.status)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(_COOKIE, sign, path="/", httponly=True, samesite="Strict", secure=request.secure)
        return response

    def _open_key(self, request: web.Request) -> DeploymentKey | None:
        """The deployment whose detail is asked for; None: none, or none of that name."""
        try:
            return DeploymentKey.parse(request.query.get("open", ""))
        except PolicyError:
            return None

    async def _healthz(self, request: web.Request) -> web.Response:
        if self._telemetry.alive(self._monotonic_s()):
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"no tick for more than {self._telemetry.alive_within_s:g} s\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """False before the first look alone: later the pages tell of what is wrong, and must stay reachable."""
        if self._telemetry.plan is not None or self._telemetry.failed_steps:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the first tick is not done yet\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._exporter.registry), headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        return _json(status_view(self._telemetry, self._now_s()))

    async def _plan(self, request: web.Request) -> web.Response:
        own = self._access.namespaces(request.headers.get("Authorization", ""))
        wanted = request.query.get("namespace")
        if wanted is not None:
            if own is not None and wanted not in own:
                raise _refusal(403, "this token reads the plan of another namespace")
            own = frozenset({wanted})
        view = plan_view(self._telemetry, own)
        if view is None:
            raise _refusal(503, "the first tick is not done yet")
        return _json(view)

    async def _decisions(self, request: web.Request) -> web.Response:
        limit = _limit(request.query.get("limit"))
        wanted = request.query.get("deployment")
        key = None if wanted is None else self._key(wanted)
        return _json(decisions_view(self._telemetry, key, limit))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the status page at once and after each tick; `view=page`: what changed on `/`."""
        shown = request.query.get("view", "status")
        if shown not in ("status", "page"):
            raise _refusal(400, f"view {shown!r}: allowed: status, page")
        peer = streams(request)
        if self._streams.total() >= _MAX_EVENT_STREAMS or self._streams[peer] >= _MAX_EVENT_STREAMS_OF_PEER:
            raise _refusal(503, f"{_MAX_EVENT_STREAMS} event streams are open already, or yours are too many")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._streams[peer] += 1
        try:
            await response.prepare(request)
            if shown == "page":
                await self._stream_page(response, self._open_key(request), request.query)
            else:
                await self._stream(response)
        except (ConnectionError, TimeoutError):
            pass  # the reader left, or takes nothing any more
        finally:
            self._streams -= Counter({peer: 1})
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        ends_at_s = asyncio.get_running_loop().time() + _EVENT_STREAM_S
        while not self.closing.is_set() and asyncio.get_running_loop().time() < ends_at_s:
            changed = self._telemetry.changed
            view = status_view(self._telemetry, self._now_s())
            data = blank_json(json.dumps(view).encode(), _NAMES)
            await _write(response, b"id: %s\nevent: tick\ndata: %s\n\n" % (str(view["tick"]).encode(), data))
            await self._next(response, changed)

    async def _stream_page(
        self, response: web.StreamResponse, wanted: DeploymentKey | None, asked: Mapping[str, str]
    ) -> None:
        """What changes on the page that the reader has: `layout` and `tick` say which; else everything at first."""
        ends_at_s = asyncio.get_running_loop().time() + _EVENT_STREAM_S
        layout, tick = asked.get("layout", ""), asked.get("tick", "")
        newest = self._live.fragments(wanted, self._now_s())
        before = newest if (newest.layout, str(newest.tick)) == (layout, tick) else None
        while not self.closing.is_set() and asyncio.get_running_loop().time() < ends_at_s:
            changed = self._telemetry.changed
            now, data = self._live.news(wanted, before, self._now_s())
            await _write(response, b"event: page\ndata: %s\n\n" % data)
            if now.layout != layout:
                return  # it loads itself anew
            before = now
            await self._next(response, changed)

    async def _next(self, response: web.StreamResponse, changed: asyncio.Event) -> None:
        """Until the next tick, or the end."""
        while not changed.is_set() and not self.closing.is_set():
            if not await _either(changed, self.closing, _EVENT_PATIENCE_S):
                await _write(response, b": still here\n\n")

    async def _set_pause(self, request: web.Request) -> web.Response:
        key = await self._wanted_key(request)
        try:
            who = {"peer": request.remote or "unknown", "token": "server.token_file"}
            state = await self._pause.pull(key, request.path.endswith("/pause"), who)
        except NotPulled as error:
            raise _refusal(409, str(error)) from None
        except StateError as error:
            raise _refusal(503, f"not changed: {error}") from None
        deployments = sorted(str(one) for one in state.deployments)
        return _json({"version": VERSION, "paused": state.everything, "deployments": deployments})

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
        known = {str(one.key) for one in self._telemetry.plan.deployments} if self._telemetry.plan else set()
        paused = self._pause.state.deployments
        if known and str(key) not in known and key not in paused and key not in self._telemetry.decisions:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)[:20])}"
            raise _refusal(404, f"no deployment {text!r} here{hint}")
        return key


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Errors: TimeoutError when the reader does not take it; ConnectionError when it left."""
    async with asyncio.timeout(_WRITE_S):
        await response.write(data)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """A page of HTML has brought a policy of its own."""
    own = response.headers.get(_POLICY)
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if own is not None:
        response.headers[_POLICY] = own


def _json(view: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page without secrets, whatever words are on it; names of deployments stay."""
    body = blank_json(json.dumps(view).encode(), _NAMES)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _html(text: str, status: int = 200) -> web.Response:
    headers = {_POLICY: _PAGE_POLICY}
    return web.Response(text=text, status=status, headers=headers, content_type="text/html")


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
    except (_Refusal, AccessRefused) as refused:
        status, why = refused.status, str(refused)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    except web.HTTPException as error:
        status, why = error.status, error.reason
        if "Allow" in error.headers:
            headers["Allow"] = error.headers["Allow"]
    return _json({"error": why}, status=status, headers=headers)
