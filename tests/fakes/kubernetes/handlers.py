"""Verbs of the fake API server: from a request's path to the store and back. HTTP is in server.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.fakes.kubernetes import patches
from tests.fakes.kubernetes.rbac import Attributes
from tests.fakes.kubernetes.resources import ResourceType
from tests.fakes.kubernetes.selectors import field_selector, label_selector
from tests.fakes.kubernetes.status import ApiError, expired
from tests.fakes.kubernetes.store import Object, Store
from tests.fakes.kubernetes.traffic import Request

_JSON_TYPES = ("application/json", "application/yaml", "")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path points at."""

    kind: ResourceType
    namespace: str
    name: str
    subresource: str

    @property
    def resource(self) -> str:
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural


def resolve(path: str, kinds: list[ResourceType]) -> Target | None:
    """The target of a resource path; None for discovery and the like. Errors: ApiError 404."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] != "status":
        namespace, rest = rest[1], rest[2:]
    for kind in kinds:
        if (kind.group, kind.version, kind.plural) == (group, version, rest[0]):
            name = rest[1] if len(rest) > 1 else ""
            subresource = rest[2] if len(rest) > 2 else ""
            known = {"": True, "status": kind.status_subresource, "scale": kind.scale_subresource}
            if not known.get(subresource) or len(rest) > 3 or (namespace and not kind.namespaced):
                break
            return Target(kind, namespace, name, subresource)
    raise ApiError(404, "the server could not find the requested resource")


def verb_of(method: str, target: Target, query: Mapping[str, str]) -> str:
    """Kubernetes' word for what is asked. Errors: ApiError 405."""
    if method == "GET":
        if query.get("watch") in ("1", "true"):
            return "watch"
        return "get" if target.name else "list"
    named = {"POST": (False, "create"), "PUT": (True, "update"), "PATCH": (True, "patch"), "DELETE": (True, "delete")}
    needs_name, verb = named.get(method, (False, ""))
    if not verb or needs_name != bool(target.name):
        raise ApiError(405, "the server does not allow this method on the requested resource")
    return verb


def decode_body(content_type: str, raw: bytes) -> Any:
    """The body of a POST or PUT. Errors: ApiError 400, 415."""
    kind = patches.media_type(content_type)
    if kind not in _JSON_TYPES:
        raise ApiError(
            415, "the body of the request was in an unknown format - accepted media types include: application/json"
        )
    try:
        body = yaml.safe_load(raw) if kind == "application/yaml" else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"couldn't parse the body: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "couldn't parse the body: an object is needed")
    return body


class Handlers:
    """Verbs on targets. `answer` gives (status code, body)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pages: dict[str, tuple[int, list[Object]]] = {}

    def answer(self, request: Request, target: Target) -> tuple[int, Object]:
        match request.verb:
            case "get":
                found = self.store.get(target.kind, target.namespace, target.name)
                return 200, _scale_of(found) if target.subresource == "scale" else found
            case "list":
                return 200, self._list(request, target)
            case "create":
                return self._create(request, target)
            case "update" | "patch":
                return self._write(request, target)
        options = request.body if isinstance(request.body, dict) else {}
        gone = self.store.delete(target.kind, target.namespace, target.name, options.get("preconditions"))
        if gone["metadata"].get("finalizers"):
            return 200, gone
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return 200, {**status, "details": {**details, "uid": gone["metadata"]["uid"]}}

    # ------------------------------------------------------------ lists

    def _list(self, request: Request, target: Target) -> Object:
        query = request.query
        kind = target.kind
        token = query.get("continue", "")
        if token:
            version, items = self._page(token)
        else:
            labels = label_selector(query.get("labelSelector", ""))
            fields = field_selector(query.get("fieldSelector", ""), kind.selectable)
            items, version = self.store.find(kind, target.namespace, lambda o: labels(o) and fields(o))
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        limit = int(query.get("limit") or 0)
        if limit and len(items) > limit:
            meta["remainingItemCount"] = len(items) - limit
            meta["continue"] = base64.urlsafe_b64encode(f"{version}:{len(self._pages)}".encode()).decode()
            self._pages[meta["continue"]] = (version, items[limit:])
            items = items[:limit]
        # Items of a list carry no kind and apiVersion for built-ins, and do for custom resources.
        drop = () if kind.custom else ("kind", "apiVersion")
        plain = [{k: v for k, v in item.items() if k not in drop} for item in items]
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta, "items": plain}

    def _page(self, token: str) -> tuple[int, list[Object]]:
        if token not in self._pages:
            raise ApiError(400, "continue key is not valid")
        version, items = self._pages[token]
        if version < self.store.oldest:
            raise expired(version, self.store.oldest)
        return version, items

    # ------------------------------------------------------------ writes

    def _create(self, request: Request, target: Target) -> tuple[int, Object]:
        if target.namespace == "" and target.kind.namespaced:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        self._refuse_unknown_fields(request, target, request.body)
        return 201, self.store.create(
            target.kind, target.namespace, request.body, dry_run=request.query.get("dryRun") == "All"
        )

    def _write(self, request: Request, target: Target) -> tuple[int, Object]:
        content_type, body = request.content_type, request.body
        is_patch = request.verb == "patch"
        if is_patch and patches.media_type(content_type) == patches.APPLY_PATCH:
            if not request.query.get("fieldManager"):
                raise ApiError(
                    422,
                    'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
                )
            self._refuse_undeclared_fields(target, body)
            if self._missing(target):
                return self._create(request, target)
        self._refuse_unknown_fields(request, target, body)

        def change(current: Object) -> Object:
            shown = _scale_of(current) if target.subresource == "scale" else current
            wanted = patches.apply(content_type, shown, body, custom=target.kind.custom) if is_patch else body
            return _scaled(current, wanted) if target.subresource == "scale" else wanted

        written = self.store.update(
            target.kind,
            target.namespace,
            target.name,
            change,
            subresource=target.subresource,
            dry_run=request.query.get("dryRun") == "All",
            needs_version=not is_patch,
        )
        return 200, _scale_of(written) if target.subresource == "scale" else written

    def _missing(self, target: Target) -> bool:
        try:
            self.store.get(target.kind, target.namespace, target.name)
        except ApiError:
            return True
        return False

    def _refuse_unknown_fields(self, request: Request, target: Target, body: Any) -> None:
        if request.query.get("fieldValidation") != "Strict" or target.kind.schema is None or not isinstance(body, dict):
            return
        _, dropped = target.kind.schema.admit(body)
        if dropped:
            listed = ", ".join(f'unknown field "{path}"' for path in dropped)
            what = f"{target.kind.kind} in version {target.kind.version!r} cannot be handled"
            raise ApiError(400, f"{what}: strict decoding error: {listed}")

    def _refuse_undeclared_fields(self, target: Target, body: Any) -> None:
        """A server-side apply is strict about fields by itself."""
        if target.kind.schema is None:
            return
        _, dropped = target.kind.schema.admit(body)
        if dropped:
            place = f"{body.get('metadata', {}).get('namespace', '')}/{target.name}"
            what = f"({place}; {target.kind.api_version}, Kind={target.kind.kind}): .{dropped[0]}"
            raise ApiError(500, f"failed to create typed patch object {what}: field not declared in schema", None)

    def may_create(self, request: Request, target: Target) -> Attributes | None:
        """A server-side apply of an object that is not there also needs the right to create it."""
        applies = request.verb == "patch" and patches.media_type(request.content_type) == patches.APPLY_PATCH
        if not applies or not self._missing(target):
            return None
        return Attributes(request.user, "create", request.group, request.resource, request.namespace, "")


# ---------------------------------------------------------------- scale


def _scale_of(obj: Object) -> dict[str, Any]:
    meta = {
        k: v
        for k, v in obj["metadata"].items()
        if k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    replicas = obj.get("status", {}).get("replicas", 0)
    wanted = obj["spec"].get("replicas", 1)
    spec = {"replicas": wanted} if wanted else {}  # as the real one writes it: Go's omitempty
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": spec,
        "status": {"replicas": replicas},
    }


def _scaled(current: Object, scale: Object) -> dict[str, Any]:
    changed = json.loads(json.dumps(current))
    changed["spec"]["replicas"] = scale.get("spec", {}).get("replicas", 0)
    version = scale.get("metadata", {}).get("resourceVersion")
    if version:
        changed["metadata"]["resourceVersion"] = version
    return changed
