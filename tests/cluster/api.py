"""The real API server as tests of the fake one see it: the same methods, so that one contract can be run against both.

`RealApi` offers what `tests.fakes.kubernetes.server.FakeApi` does to tests (add, change, read, remove, the requests
that came), through the real server and its audit log. Faults that a test injects are the fake's alone.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import urllib3

from tests.cluster import parts
from tests.cluster.control_plane import PATIENCE_S, ControlPlane, mortal

Object = Mapping[str, Any]
ROOT_CA = "kube-root-ca.crt"
"""The ConfigMap that every namespace has."""
CLEARED = (
    ("apps/v1", "Deployment"), ("v1", "Pod"), ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "PodTemplate"),
    ("coordination.k8s.io/v1", "Lease"), ("events.k8s.io/v1", "Event"),
    ("ray.io/v1", "RayService"), ("ray.io/v1", "RayCluster"),
    ("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer"), ("autoscaling.x-k8s.io/v1", "ProvisioningRequest"),
)  # fmt: skip
_TRANSIENT = ("Event", "ComponentStatus", "EndpointSlice", "Endpoints")
READ_S, WRITE_S = 10.0, 30.0
"""Of one request. A write is never sent twice."""
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"


class ApiError(Exception):
    """An answer that is no success; `body` is the Status that the server sent."""

    def __init__(self, code: int, body: Any) -> None:
        message = body.get("message") if isinstance(body, dict) else body
        super().__init__(f"{code}: {message}")
        self.code, self.body = code, body


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the audit log, in the words of the fake's request log."""

    user: str
    pod: str
    """The pod that the token was bound to; "" for others."""
    verb: str
    group: str
    resource: str
    """With its subresource."""
    namespace: str
    name: str
    status: int
    at: str
    """When it was answered, by the server's clock."""
    body: Any
    answer: Any
    agent: str

    @property
    def writes(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete")

    @property
    def revision(self) -> int:
        """The version that the written object got, one order for writes of all kinds; 0 = nothing was written."""
        if self.status >= 300 or not isinstance(self.answer, dict):
            return 0
        return int((self.answer.get("metadata") or {}).get("resourceVersion") or 0)


class AuditLog:
    """What came since `mark`; read anew at each look, since the server writes it before it answers."""

    def __init__(self, plane: ControlPlane) -> None:
        self._path = plane.audit_log
        self._from = 0
        self.mark()

    def mark(self) -> None:
        """Forget what came until now."""
        self._from = self._path.stat().st_size if self._path.exists() else 0

    @property
    def requests(self) -> list[Call]:
        with self._path.open("rb") as log:
            log.seek(self._from)
            lines = log.read().split(b"\n")
        return [call for line in lines if line and (call := _call(msgspec.json.decode(line))) is not None]

    def of(self, verb: str | None = None, resource: str | None = None, user: str | None = None) -> list[Call]:
        return [
            r
            for r in self.requests
            if (verb is None or r.verb == verb)
            and (resource is None or r.resource == resource)
            and (user is None or r.user == user)
        ]

    def writes(self, *but: str) -> list[Call]:
        return [r for r in self.requests if r.writes and r.resource not in but]


def _call(line: dict[str, Any]) -> Call | None:
    about = line.get("objectRef")
    if about is None:
        return None
    resource = about["resource"] + (f"/{about['subresource']}" if about.get("subresource") else "")
    user = line["user"]
    pods = (user.get("extra") or {}).get("authentication.kubernetes.io/pod-name") or [""]
    return Call(
        user["username"], pods[0], line["verb"], about.get("apiGroup", ""), resource, about.get("namespace", ""),
        about.get("name", ""), line.get("responseStatus", {}).get("code", 0), line["stageTimestamp"],
        line.get("requestObject"), line.get("responseObject"), line.get("userAgent", ""),
    )  # fmt: skip


class RealApi:
    """One account's view of the API."""

    def __init__(self, plane: ControlPlane, token: str = "") -> None:
        """With a token, as the account that it is of; else as the administrator."""
        self.plane = plane
        self.traffic = AuditLog(plane)
        self._http = plane.http if not token else plane.anonymous
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._ready: set[str] = set()
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    # ------------------------------------------------------------ calls

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = JSON, **query: str
    ) -> dict[str, Any]:
        """The answer; asked again while the server says that it is not ready for it (429).

        A read that is not answered is asked again too: after etcd was away, a server that says that it is ready may
        still hold back a list for half a minute. Errors: ApiError; those of urllib3.
        """
        ends_at_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = self._http.request(
                    method,
                    self.plane.url + path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else ""),
                    body=None if body is None else msgspec.json.encode(body),
                    headers={"Content-Type": content_type, "Accept": JSON, **self._authorization},
                    timeout=READ_S if method == "GET" else WRITE_S,
                    retries=False,
                )
            except urllib3.exceptions.TimeoutError:
                if method != "GET" or time.monotonic() > ends_at_s:
                    raise
                continue
            if answer.status != 429 or time.monotonic() > ends_at_s:
                break
            time.sleep(0.1)
        found = msgspec.json.decode(answer.data) if answer.headers.get("Content-Type") == JSON else answer.data
        if answer.status >= 300:
            raise ApiError(answer.status, found)
        assert isinstance(found, dict)
        return found

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """Where an object or a collection is."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if (api_version, kind) not in self._plurals:
            for found in self.request("GET", root)["resources"]:
                if "/" not in found["name"]:
                    self._plurals[api_version, found["kind"]] = (found["name"], found["namespaced"])
        plural, namespaced = self._plurals[api_version, kind]
        place = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{root}{place}/{plural}{f'/{name}' if name else ''}"

    def path_of(self, obj: Object) -> str:
        meta = obj["metadata"]
        return self.path(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])

    # ------------------------------------------------------------ as the fake has them

    def add(self, obj: Object) -> dict[str, Any]:
        """Create an object, and its status where it has one."""
        collection = self.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""))
        made = self.request("POST", collection, {k: v for k, v in obj.items() if k != "status"})
        return self.set_status(obj, obj["status"]) if "status" in obj else made

    def change(self, obj: Object, patch: Object, subresource: str = "") -> dict[str, Any]:
        path = self.path_of(obj) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, patch, MERGE_PATCH)

    def set_status(self, obj: Object, status: Object) -> dict[str, Any]:
        """Replace it; controllers write there too, so that a conflict is tried again."""
        while True:
            try:
                return self.request("PUT", self.path_of(obj) + "/status", {**self.read(obj), "status": status})
            except ApiError as error:
                if error.code != 409:
                    raise

    def remove(self, obj: Object) -> None:
        self.request("DELETE", self.path_of(obj), {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})

    def read(self, obj: Object) -> dict[str, Any]:
        return self.request("GET", self.path_of(obj))

    def all(self, api_version: str, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, each with its kind, which the items of a list leave out."""
        items = self.request("GET", self.path(api_version, kind, namespace))["items"]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def compact(self) -> None:
        """Nobody remembers what was before now: etcd does not, and the API server's own cache begins anew."""
        self.plane.compact()
        self.plane.kill("kube-apiserver")
        self.plane.start("kube-apiserver")

    @property
    def requests(self) -> list[Call]:
        return self.traffic.requests

    @cached_property
    def _proxy(self) -> tuple[subprocess.Popen[str], str]:
        command = [str(parts.require("kubectl")), f"--kubeconfig={self.plane.admin}", "proxy", "--port=0"]
        process = subprocess.Popen(mortal(command), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = process.stdout.readline()
        return process, "http://" + said.rpartition(" ")[2].strip()

    @property
    def url(self) -> str:
        """Plain HTTP as the administrator, through `kubectl proxy`: for clients that have no credentials."""
        return self._proxy[1]

    def close(self) -> None:
        if "_proxy" in self.__dict__:
            process, _ = self._proxy
            process.terminate()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    # ------------------------------------------------------------ beyond

    def token(self, namespace: str, account: str, pod: Object | None = None) -> str:
        """A token of a service account; bound to a pod, it ends with it."""
        spec: dict[str, Any] = {"expirationSeconds": 3600}
        if pod is not None:
            meta = pod["metadata"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = self.path("v1", "ServiceAccount", namespace, account)
        return str(self.request("POST", f"{path}/token", body)["status"]["token"])

    def as_account(self, namespace: str, account: str) -> RealApi:
        return RealApi(self.plane, self.token(namespace, account))

    def namespace(self, name: str) -> str:
        """A namespace that pods can be made in: its account and the cluster's authority are there."""
        try:
            self.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        except ApiError as error:
            if error.code != 409:
                raise
        for kind, wanted in (("ServiceAccount", "default"), ("ConfigMap", ROOT_CA)):
            self.plane.until(lambda kind=kind, wanted=wanted: self.there("v1", kind, name, wanted), f"{kind} of {name}")
        return name

    def fresh(self, namespaces: Sequence[str]) -> None:
        """These namespaces, with nothing of earlier tests in them, and an empty request log."""
        for namespace in namespaces:
            if namespace not in self._ready:
                self._ready.add(self.namespace(namespace))
        self.clear(namespaces, *CLEARED)
        self.clear(("",), ("v1", "Node"))
        self.traffic.mark()

    def there(self, api_version: str, kind: str, namespace: str, name: str) -> bool:
        try:
            self.request("GET", self.path(api_version, kind, namespace, name))
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def everything(self) -> set[tuple[str, str, str]]:
        """(kind, namespace, name) of all objects that somebody made: no events, leases of nodes or endpoints."""
        found = set()
        groups = ["v1", *(g["preferredVersion"]["groupVersion"] for g in self.request("GET", "/apis")["groups"])]
        for api_version in groups:
            root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            for kind in self.request("GET", root)["resources"]:
                if "/" in kind["name"] or "list" not in kind["verbs"] or kind["kind"] in _TRANSIENT:
                    continue
                for item in self.request("GET", f"{root}/{kind['name']}")["items"]:
                    meta = item["metadata"]
                    if meta.get("namespace") != "kube-node-lease":
                        found.add((kind["kind"], meta.get("namespace", ""), meta["name"]))
        return found

    def define(self, crds: Iterable[Object]) -> None:
        """Create CustomResourceDefinitions and wait until they are served."""
        for crd in crds:
            try:
                self.add({k: v for k, v in crd.items() if k != "status"})
            except ApiError as error:
                if error.code != 409:
                    raise
        for crd in crds:
            self.plane.until(lambda crd=crd: _established(self.read(crd)), f"{crd['metadata']['name']} is served")

    def clear(self, namespaces: Iterable[str], *kinds: tuple[str, str]) -> None:
        """Delete all objects of these kinds in these namespaces ("" = of the cluster), those with finalizers too."""
        places = set(namespaces)
        for api_version, kind in kinds:
            ends_at_s = time.monotonic() + PATIENCE_S
            while left := [o for o in self.all(api_version, kind) if _in(o["metadata"], places)]:
                assert time.monotonic() < ends_at_s, f"{kind} do not go: {left}"
                for obj in left:
                    self._delete(obj)

    def _delete(self, obj: Object) -> None:
        try:
            self.remove(obj)
            if obj["metadata"].get("finalizers"):
                self.change(obj, {"metadata": {"finalizers": None}})
        except ApiError as error:
            if error.code != 404:
                raise


def _in(meta: Object, namespaces: set[str]) -> bool:
    return meta.get("namespace", "") in namespaces and meta["name"] != ROOT_CA


def _established(crd: Object) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()  # null at first
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
