"""A Kubernetes API server for tests: enough of the real one's behaviour that a client's mistakes show.

It speaks plain HTTP (or TLS) on a loopback port from a thread of its own, so that blocking and asyncio clients and
kubectl can all use it. What it does not prove is listed in docs/kubernetes-tested.md: no admission plugins, no CEL
rules, no field ownership, no conversion, no garbage collection, and no real timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.kubernetes import discovery, patches
from tests.fakes.kubernetes.handlers import Handlers, Target, decode_body, resolve, verb_of
from tests.fakes.kubernetes.rbac import ADMIN, Attributes, Rbac
from tests.fakes.kubernetes.resources import BUILT_IN, ResourceType, from_crd
from tests.fakes.kubernetes.selectors import name_in_selector
from tests.fakes.kubernetes.status import ApiError
from tests.fakes.kubernetes.store import Object, Store
from tests.fakes.kubernetes.traffic import Fault, Request, Traffic
from tests.fakes.kubernetes.watches import Watch, stream

_WATCH_TIMEOUT_S = 1800.0
_ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class FakeApi:
    """Start it with `with FakeApi(...) as api:`; clients talk to `api.url`, tests also to its methods."""

    def __init__(
        self,
        *,
        crds: Iterable[Mapping[str, Any]] = (),
        rbac: Rbac | None = None,
        tokens: Mapping[str, str] | None = None,
        namespaces: Iterable[str] = ("default",),
        keep_changes: int = 100_000,
        bookmark_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tokens`: bearer token -> user; None: everybody is the administrator. `rbac` None: everybody may do all."""
        self.kinds = [*BUILT_IN, *(kind for crd in crds for kind in from_crd(crd))]
        self.store = Store(keep_changes)
        self.rbac, self.tokens = rbac, dict(tokens) if tokens is not None else None
        self.traffic = Traffic()
        self.bookmark_s = bookmark_s
        self.expired_as_status = False
        """A watch from a forgotten version: an ERROR event in a 200 answer, or (True) a plain 410."""
        self._tls = tls
        self._handlers = Handlers(self.store)
        self._watches: dict[asyncio.Event, asyncio.Transport | None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        for namespace in namespaces:
            self.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    # ------------------------------------------------------------ for tests

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        return self.traffic.requests

    def kind(self, obj: Object) -> ResourceType:
        wanted = (obj["apiVersion"], obj["kind"])
        return next(k for k in self.kinds if (k.api_version, k.kind) == wanted)

    def add(self, obj: Object) -> Object:
        """Create an object as an administrator, its status included."""
        kind = self.kind(obj)
        made = self.store.create(kind, obj["metadata"].get("namespace", ""), obj)
        if "status" in obj and kind.status_subresource:
            made = self.set_status(obj, obj["status"])
        return made

    def change(self, obj: Object, patch: Object, subresource: str = "") -> Object:
        """Merge-patch an object as an administrator; `obj` names it."""
        meta = obj["metadata"]
        return self.store.update(
            self.kind(obj),
            meta.get("namespace", ""),
            meta["name"],
            lambda current: patches.merge(current, patch),
            subresource=subresource,
        )

    def set_status(self, obj: Object, status: Object) -> Object:
        """Replace an object's status."""
        meta = obj["metadata"]
        return self.store.update(
            self.kind(obj),
            meta.get("namespace", ""),
            meta["name"],
            lambda o: {**o, "status": status},
            subresource="status",
        )

    def remove(self, obj: Object) -> None:
        meta = obj["metadata"]
        self.store.delete(self.kind(obj), meta.get("namespace", ""), meta["name"])

    def read(self, obj: Object) -> Object:
        """The object as it is now; `obj` names it. Errors: ApiError 404."""
        meta = obj["metadata"]
        return self.store.get(self.kind(obj), meta.get("namespace", ""), meta["name"])

    def all(self, api_version: str, kind: str) -> list[Object]:
        return self.store.find(self.kind({"apiVersion": api_version, "kind": kind}), "", lambda o: True)[0]

    def compact(self) -> None:
        """Forget the log and wake all watches: those that lag behind get 410."""
        self.store.compact()
        self._wake()

    def cut_watches(self) -> None:
        """Close every watch's connection, as a dying proxy would."""
        assert self._loop is not None
        for transport in list(self._watches.values()):
            if transport is not None:
                self._loop.call_soon_threadsafe(transport.abort)

    @property
    def open_watches(self) -> int:
        return len(self._watches)

    # ------------------------------------------------------------ lifecycle

    def __enter__(self) -> FakeApi:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="fake-api", daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the fake API server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stopping is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self.store.changed.append(self._wake)
        server = web.Server(self._handle, handler_cancellation=True)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls, shutdown_timeout=0.1)
        await site.start()
        self.port = runner.addresses[0][1]
        started.set()
        await self._stopping.wait()
        self.store.changed.remove(self._wake)
        for transport in list(self._watches.values()):
            if transport is not None:
                transport.abort()
        await runner.cleanup()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lambda: [event.set() for event in self._watches])

    # ------------------------------------------------------------ requests

    async def _handle(self, web_request: web.BaseRequest) -> web.StreamResponse:
        raw = await web_request.read()
        request = Request(
            time.monotonic(),
            "",
            web_request.method,
            web_request.path,
            dict(web_request.query),
            web_request.headers.copy(),
        )
        request.body = _loose_json(raw)
        self.traffic.requests.append(request)
        try:
            target = self._recognise(request)
            fault = self.traffic.fault_for(request)
            if (answer := await self._fault(fault, request, web_request)) is not None:
                return answer
            response = await self._answer(request, target, fault, raw, web_request)
        except ApiError as error:
            response = _json(error.code, error.body(), error.retry_after_s)
        except Exception as error:  # a defect of the fake must not look like a quirk of the server
            response = web.Response(status=500, text=f"the fake API server failed: {error!r}")
        request.status = response.status
        return response

    def _recognise(self, request: Request) -> Target | None:
        target = None if request.path == _ACCESS_REVIEWS else resolve(request.path, self.kinds)
        if target is not None:
            request.verb = verb_of(request.method, target, request.query)
            request.group, request.resource = target.kind.group, target.resource
            request.namespace = target.namespace
            request.name = target.name or name_in_selector(request.query.get("fieldSelector", ""))
        request.user = self._user(request)
        return target

    def _user(self, request: Request) -> str:
        if self.tokens is None:
            return ADMIN
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token:
            return "system:anonymous"
        if scheme.lower() != "bearer" or token.strip() not in self.tokens:
            raise ApiError(401, "Unauthorized")
        return self.tokens[token.strip()]

    async def _fault(self, fault: Fault, request: Request, web_request: web.BaseRequest) -> web.StreamResponse | None:
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.hang:
            await asyncio.sleep(3600)
        if fault.drop:
            return _abort(web_request)
        if fault.status is None:
            return None
        request.status = fault.status
        headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
        if fault.text is not None:
            return web.Response(status=fault.status, text=fault.text, headers=headers)
        error = ApiError(fault.status, "a fault of the test", retry_after_s=fault.retry_after_s)
        return _json(fault.status, error.body(), fault.retry_after_s)

    async def _answer(
        self, request: Request, target: Target | None, fault: Fault, raw: bytes, web_request: web.BaseRequest
    ) -> web.StreamResponse:
        accepts = request.headers.get("Accept", "*/*")
        if "json" not in accepts and "*/*" not in accepts:
            raise ApiError(406, "only the following media types are accepted: application/json")
        if target is None:
            return self._page(request) if request.path != _ACCESS_REVIEWS else self._review(request)
        if self.rbac is not None:
            asked = Attributes(
                request.user, request.verb, request.group, request.resource, request.namespace, request.name
            )
            self.rbac.check(asked)
            if (also := self._handlers.may_create(request, target)) is not None:
                self.rbac.check(also)
        if request.verb == "watch":
            return await self._watch(request, target, fault, web_request)
        if request.verb == "patch":
            request.body = patches.decode(request.content_type, raw)
        elif request.verb in ("create", "update"):
            request.body = decode_body(request.content_type, raw)
        code, body = self._handlers.answer(request, target)
        if fault.drop_after:
            request.status = code
            return _abort(web_request)
        return _json(code, body)

    def _review(self, request: Request) -> web.Response:
        """Whether the user who asks may do something: everybody may ask that."""
        wanted = dict(request.body["spec"]["resourceAttributes"])
        if wanted.get("subresource"):
            wanted["resource"] += "/" + wanted["subresource"]
        parts = [wanted.get(part, "") for part in ("verb", "group", "resource", "namespace", "name")]
        free = self.rbac is None or request.user == ADMIN
        allowed = free or bool(self.rbac and self.rbac.permits(Attributes(request.user, *parts)))
        return _json(201, {**request.body, "status": {"allowed": allowed}})

    def _page(self, request: Request) -> web.Response:
        path = request.path.rstrip("/")
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        found = discovery.document(path, self.kinds)
        if found is None:
            raise ApiError(404, "the server could not find the requested resource")
        return _json(200, found)

    async def _watch(self, request: Request, target: Target, fault: Fault, web_request: Any) -> web.StreamResponse:
        query = dict(request.query)
        if query.get("sendInitialEvents") in ("1", "true"):
            raise ApiError(422, "sendInitialEvents: Forbidden: not served by this fake", "Invalid")
        if target.name:
            query["fieldSelector"] = f"metadata.name={target.name}"
        watch = Watch(self.store, target, query)
        if self.expired_as_status:
            watch.refuse_if_expired()
        changed = asyncio.Event()
        self._watches[changed] = web_request.transport
        request.status = 200
        try:
            return await stream(
                web_request,
                watch,
                changed,
                timeout_s=float(query.get("timeoutSeconds") or _WATCH_TIMEOUT_S),
                bookmark_s=self.bookmark_s,
                cut_after=fault.cut_after_events,
            )
        except ConnectionError:
            return web.Response(status=499)
        finally:
            self._watches.pop(changed, None)


def _abort(web_request: web.BaseRequest) -> web.Response:
    if web_request.transport is not None:
        web_request.transport.abort()
    return web.Response(status=500)


def _json(code: int, body: Object, retry_after_s: int | None = None) -> web.Response:
    headers = {"Content-Type": "application/json"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return web.Response(status=code, body=msgspec.json.encode(body), headers=headers)


def _loose_json(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw
