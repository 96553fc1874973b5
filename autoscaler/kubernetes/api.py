"""The Kubernetes API through the official client, off the event loop. The only file that imports `kubernetes`.

The client's configuration, credentials and connection pool are used; its generated calls are not: they always send a
merge patch for custom resources, and build typed objects that nobody here needs. A call runs in a bounded pool of
threads with a deadline of its own; a watch has a thread of its own, which is freed by shutting its socket. Not for
retrying: who calls decides what a failure means.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import urllib3
from kubernetes import config as kube_config
from kubernetes.client import ApiClient, Configuration

from autoscaler import __version__
from autoscaler.common.errors import ConfigError, Unavailable
from autoscaler.common.redaction import remember
from autoscaler.kubernetes.resources import Object, ObjectList, PatchOperation, Resource, WatchEvent
from autoscaler.kubernetes.wire import (
    CHUNK_BYTES,
    JSON,
    JSON_PATCH,
    MOST_BYTES,
    Call,
    WatchStream,
    decoded,
    one_line,
    refusal,
    wrapped,
)

_CONNECT_S = 5.0
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect(
    kubeconfig: Path | None = None, context: str | None = None, *, threads: int = 8, timeout_s: float = 10.0
) -> KubernetesApi:
    """The cluster of a kubeconfig, else that of this pod, else that of the user's kubeconfig. Errors: ConfigError."""
    configuration = Configuration()
    in_pod = kubeconfig is None and context is None and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        if in_pod:
            kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = None if kubeconfig is None else str(kubeconfig)
            kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                file, context, client_configuration=configuration, persist_config=False
            )
    except (kube_config.ConfigException, OSError) as error:
        where = "the pod's service account" if in_pod else str(kubeconfig or "your kubeconfig (KUBECONFIG)")
        raise ConfigError(f"kubernetes: no usable access from {where}: {one_line(error)}") from None
    return KubernetesApi(configuration, threads=threads, timeout_s=timeout_s)


def own_namespace() -> str | None:
    """The namespace of the pod that this runs in; None outside a cluster."""
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


class KubernetesApi:
    """A ClusterApi over HTTP. The leader's lease gets one of its own, so that no other call can delay it."""

    def __init__(self, configuration: Configuration, *, threads: int = 8, timeout_s: float = 10.0) -> None:
        configuration.retries = False
        configuration.connection_pool_maxsize = threads + 8
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kubernetes")
        self._timeout_s = timeout_s

    # ------------------------------------------------------------ reading

    async def get(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        subresource: str = "",
        timeout_s: float | None = None,
    ) -> Object:
        call = Call("get", "GET", _words(resource, namespace, name), resource.path(namespace, name, subresource))
        return await self._answer(call, timeout_s)

    async def version(self, timeout_s: float | None = None) -> str:
        """The server's version, as it calls itself: `v1.35.2-gke.1842000`. Errors: as of `get`."""
        answer = await self._answer(Call("get", "GET", "version", "/version"), timeout_s)
        return str(answer.get("gitVersion", ""))

    async def pages(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        fields: str = "",
        page_size: int = 250,
        timeout_s: float | None = None,
    ) -> AsyncIterator[ObjectList]:
        selectors = _given(labelSelector=labels, fieldSelector=fields, limit=str(page_size))
        path, what = resource.path(namespace), _words(resource, namespace)
        token = ""
        while True:
            call = Call("list", "GET", what, path, {**selectors, **_given(**{"continue": token})})
            page = await self._answer(call, timeout_s)
            meta = page.get("metadata") or {}
            yield ObjectList(tuple(page.get("items") or ()), str(meta.get("resourceVersion", "")))
            token = meta.get("continue") or ""
            if not token:
                return

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        lasts_s: float = 270.0,
        silence_s: float = 90.0,
    ) -> AsyncIterator[tuple[WatchEvent, ...]]:
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, round(lasts_s)))}
        query.update(_given(resourceVersion=resource_version, labelSelector=labels, fieldSelector=fields))
        call = Call("watch", "GET", _words(resource, namespace), resource.path(namespace), query)
        stream = WatchStream(call, lambda: self._open(call, _CONNECT_S, silence_s))
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"watch-{resource.plural}")
        loop = asyncio.get_running_loop()
        try:
            while (batch := await loop.run_in_executor(thread, stream.next_batch)) is not None:
                yield batch
        finally:
            stream.close()
            thread.submit(stream.release)
            thread.shutdown(wait=False)

    # ------------------------------------------------------------ writing

    async def create(
        self, resource: Resource, namespace: str | None, body: Object, *, timeout_s: float | None = None
    ) -> Object:
        meta = body.get("metadata", {})
        what = _words(resource, namespace, meta.get("name") or meta.get("generateName"))
        call = Call("create", "POST", what, resource.path(namespace), body=msgspec.json.encode(body))
        return await self._answer(call, timeout_s)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Object, *, timeout_s: float | None = None
    ) -> Object:
        what, path = _words(resource, namespace, name), resource.path(namespace, name)
        return await self._answer(Call("update", "PUT", what, path, body=msgspec.json.encode(body)), timeout_s)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        operations: Sequence[PatchOperation],
        *,
        subresource: str = "",
        timeout_s: float | None = None,
    ) -> Object:
        body = msgspec.json.encode([operation.wire() for operation in operations])
        what, path = _words(resource, namespace, name), resource.path(namespace, name, subresource)
        return await self._answer(Call("patch", "PATCH", what, path, body=body, content_type=JSON_PATCH), timeout_s)

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str = "", timeout_s: float | None = None
    ) -> None:
        options = msgspec.json.encode({"preconditions": {"uid": uid}}) if uid else None
        call = Call("delete", "DELETE", _words(resource, namespace, name), resource.path(namespace, name), body=options)
        await self._answer(call, timeout_s)

    async def close(self) -> None:
        """Connections are closed; calls under way end in their own time, on their own threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------ calls

    async def _answer(self, call: Call, timeout_s: float | None) -> Object:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + limit_s
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                return await loop.run_in_executor(self._pool, self._send, call, deadline_s)
        except TimeoutError:
            raise Unavailable(f"{call}: no answer within {limit_s:.3g} s") from None
        except RuntimeError as error:  # the pool is shut
            raise Unavailable(f"{call}: {one_line(error)}") from None

    def _send(self, call: Call, deadline_s: float) -> Object:
        """On a thread of the pool: nothing is sent once the deadline has passed."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise Unavailable(f"{call}: not sent, its time was over before a thread was free")
        response = self._open(call, min(_CONNECT_S, left_s), left_s)
        with wrapped(call), contextlib.closing(response):
            raw = bytearray()
            for chunk in response.stream(CHUNK_BYTES):
                raw += chunk
                if time.monotonic() > deadline_s or len(raw) > MOST_BYTES:
                    raise Unavailable(f"{call}: the answer is too slow or too large ({len(raw)} bytes so far)")
        return decoded(call, bytes(raw))

    def _open(self, call: Call, connect_s: float, read_s: float) -> urllib3.BaseHTTPResponse:
        """Send; the answer's body is still unread. Errors: as the port says, for answers that are refusals."""
        url = self._configuration.host + call.path + (f"?{urlencode(call.query)}" if call.query else "")
        with wrapped(call):
            response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                call.method,
                url,
                body=call.body,
                headers=self._headers(call),
                timeout=urllib3.Timeout(connect=connect_s, read=read_s),
                preload_content=False,
                retries=False,
                redirect=False,
            )
        if 200 <= response.status < 300:
            return response
        with wrapped(call), contextlib.closing(response):
            raw = response.read(CHUNK_BYTES)
        raise refusal(call, response.status, raw, response.headers.get("Retry-After"))

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {"Accept": JSON, "User-Agent": f"leadtime/{__version__}"}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        settings: Mapping[str, Any] = self._configuration.auth_settings()
        for setting in settings.values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
                remember(setting["value"].partition(" ")[2] or setting["value"])  # without Bearer or Basic
        return headers


def _words(resource: Resource, namespace: str | None, name: str | None = None) -> str:
    place = "/".join(part for part in (namespace, name) if part)
    return f"{resource.plural} {place}".strip()


def _given(**pairs: str) -> dict[str, str]:
    return {key: value for key, value in pairs.items() if value}
