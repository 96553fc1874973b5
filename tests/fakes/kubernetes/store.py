"""The objects of the fake API server: versions, generations, finalizers, and the log that watches read.

Pure state behind a lock; HTTP, rights and faults are elsewhere. Objects are plain dictionaries, as on the wire, and are
never handed out without a copy being taken first by whoever changes them: stored ones are replaced, not mutated.
"""

from __future__ import annotations

import copy
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes.kubernetes.resources import ResourceType
from tests.fakes.kubernetes.status import ApiError, already_exists, conflict, expired, invalid, not_found

Object = Mapping[str, Any]
Key = tuple[str, str]
"""(namespace, name)."""

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
_KEPT_META = ("uid", "creationTimestamp", "namespace", "name", "generation", "deletionTimestamp", "selfLink")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the log: `before` is None for an addition; for a deletion `after` is the object as it went."""

    version: int
    storage_key: str
    type: str
    before: Object | None
    after: Object


class Store:
    """All objects of all kinds under one rising resourceVersion."""

    def __init__(self, keep_changes: int = 100_000, now: Callable[[], datetime] | None = None) -> None:
        self.lock = threading.RLock()
        self.version = 1
        self.oldest = 0
        """Watches and pages older than this are expired."""
        self.changed: list[Callable[[], None]] = []
        """Called after each change, under the lock."""
        self._objects: dict[str, dict[Key, Object]] = {}
        self._log: list[Change] = []
        self._keep = keep_changes
        self._now = now or (lambda: datetime.now(UTC))
        self._names = 0

    # ------------------------------------------------------------ reading

    def get(self, kind: ResourceType, namespace: str, name: str) -> Object:
        with self.lock:
            found = self._objects.get(kind.storage_key, {}).get((namespace, name))
        if found is None:
            raise not_found(kind.qualified, name)
        return found

    def find(self, kind: ResourceType, namespace: str, matches: Callable[[Object], bool]) -> tuple[list[Object], int]:
        """Objects in order of their keys, and the version that this is true of; namespace "" = all."""
        with self.lock:
            everything = sorted(self._objects.get(kind.storage_key, {}).items())
            version = self.version
        return [o for (ns, _), o in everything if namespace in ("", ns) and matches(o)], version

    def changes_after(self, kind: ResourceType, version: int) -> tuple[list[Change], int]:
        """The log after `version`, and how far it goes. Errors: ApiError 410."""
        with self.lock:
            if version < self.oldest:
                raise expired(version, self.oldest)
            start = len(self._log)
            while start > 0 and self._log[start - 1].version > version:
                start -= 1
            return [c for c in self._log[start:] if c.storage_key == kind.storage_key], self.version

    def compact(self) -> None:
        """Forget the log: older watches and pages answer 410."""
        with self.lock:
            self._log.clear()
            self.oldest = self.version

    # ------------------------------------------------------------ writing

    def create(self, kind: ResourceType, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        obj = copy.deepcopy(dict(body))
        meta = obj.setdefault("metadata", {})
        if meta.get("resourceVersion"):
            raise ApiError(400, "resourceVersion should not be set on objects to be created")
        self._place(kind, namespace, obj)
        with self.lock:
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = meta["generateName"] + self._suffix()
            key = (meta.get("namespace", ""), meta.get("name") or "")
            if kind.namespaced and ("", key[0]) not in self._objects.get("namespaces", {}):
                raise not_found("namespaces", key[0])
            if key in self._objects.get(kind.storage_key, {}):
                raise already_exists(kind.qualified, key[1])
            if kind.status_subresource:
                obj.pop("status", None)
            meta.pop("deletionTimestamp", None)
            meta["uid"] = str(uuid.uuid4())
            meta["creationTimestamp"] = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
            if kind.counts_generation:
                meta["generation"] = 1
            obj = self._admit(kind, obj)
            return obj if dry_run else self._put(kind, key, obj, "ADDED")

    def update(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        change: Callable[[Object], Object],
        *,
        subresource: str = "",
        dry_run: bool = False,
        needs_version: bool = False,
    ) -> Object:
        """PUT and PATCH: `change` makes the new object of the current one. Errors: ApiError 404, 409, 422."""
        with self.lock:
            current = self.get(kind, namespace, name)
            wanted = copy.deepcopy(dict(change(copy.deepcopy(current))))
            self._place(kind, namespace, wanted, name)
            self._check_version(kind, current, wanted, needs_version)
            obj = _limited_to(kind, current, wanted, subresource)
            obj = self._admit(kind, _with_kept_meta(current, obj))
            if kind.counts_generation and _spec_of(obj) != _spec_of(current):
                obj["metadata"]["generation"] = current["metadata"].get("generation", 0) + 1
            obj["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
            if obj == current or dry_run:
                return obj
            key = (namespace if kind.namespaced else "", name)
            meta = obj["metadata"]
            if meta.get("deletionTimestamp") and not meta.get("finalizers"):
                return self._remove(kind, key, obj)
            return self._put(kind, key, obj, "MODIFIED")

    def delete(self, kind: ResourceType, namespace: str, name: str, preconditions: Object | None = None) -> Object:
        """Gone at once, or marked while finalizers are left. Errors: ApiError 404, 409."""
        with self.lock:
            current = self.get(kind, namespace, name)
            for field, value in (preconditions or {}).items():
                if current["metadata"].get(field) != value:
                    raise conflict(kind.qualified, name, f"the {field} in the precondition does not match")
            key = (namespace if kind.namespaced else "", name)
            if not current["metadata"].get("finalizers"):
                return self._remove(kind, key, copy.deepcopy(dict(current)))
            if current["metadata"].get("deletionTimestamp"):
                return current
            marked = copy.deepcopy(dict(current))
            marked["metadata"]["deletionTimestamp"] = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
            if kind.counts_generation:
                marked["metadata"]["generation"] = marked["metadata"].get("generation", 0) + 1
            return self._put(kind, key, marked, "MODIFIED")

    # ------------------------------------------------------------ inside

    def _place(self, kind: ResourceType, namespace: str, obj: dict[str, Any], name: str = "") -> None:
        meta = obj.setdefault("metadata", {})
        if not kind.custom:  # the decoder of built-in kinds takes what is missing from the URL
            obj["apiVersion"], obj["kind"] = obj.get("apiVersion") or kind.api_version, obj.get("kind") or kind.kind
        if obj.get("apiVersion") != kind.api_version or obj.get("kind") != kind.kind:
            given = f"{obj.get('apiVersion')}, Kind={obj.get('kind')}"
            raise ApiError(400, f"the API version in the data ({given}) does not match {kind.api_version} {kind.kind}")
        if kind.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise ApiError(400, "the namespace of the provided object does not match the namespace sent")
        else:
            meta.pop("namespace", None)
        if name and meta.setdefault("name", name) != name:
            raise ApiError(400, f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")

    def _check_version(self, kind: ResourceType, current: Object, wanted: Object, needs_version: bool) -> None:
        name = current["metadata"]["name"]
        given = wanted["metadata"].get("resourceVersion")
        if not given and needs_version and not kind.unconditional_update:
            where = "metadata.resourceVersion"
            raise invalid(kind.kind, kind.group, name, [(where, "Invalid value: 0: must be specified for an update")])
        if given and given != current["metadata"]["resourceVersion"]:
            raise conflict(kind.qualified, name)
        uid = wanted["metadata"].get("uid")
        if uid and uid != current["metadata"]["uid"]:
            raise conflict(kind.qualified, name, f"Precondition failed: UID in precondition: {uid}")

    def _admit(self, kind: ResourceType, obj: dict[str, Any]) -> dict[str, Any]:
        _drop_empty_maps(kind, obj)
        name = obj["metadata"].get("name") or ""
        problems: list[tuple[str, str]] = []
        if not _NAME.match(name) or len(name) > 253:
            problems.append(("metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain is needed'))
        prefix = obj["metadata"].get("generateName") or ""
        if prefix and not _NAME.match(f"{prefix[:-1]}a" if prefix.endswith("-") else prefix):
            problems.append(("metadata.generateName", f'Invalid value: "{prefix}": a lowercase RFC 1123 subdomain'))
        if kind.schema is not None:
            obj, _ = kind.schema.admit(obj)
            problems += kind.schema.problems(obj)
        if kind.check is not None:
            problems += kind.check(obj)
        if problems:
            raise invalid(kind.kind, kind.group, name, problems)
        return obj

    def _put(self, kind: ResourceType, key: Key, obj: dict[str, Any], change: str) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        objects = self._objects.setdefault(kind.storage_key, {})
        before = objects.get(key)
        objects[key] = obj
        self._record(Change(self.version, kind.storage_key, change, before, obj))
        return obj

    def _remove(self, kind: ResourceType, key: Key, obj: dict[str, Any]) -> Object:
        self.version += 1
        before = self._objects[kind.storage_key].pop(key)
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._record(Change(self.version, kind.storage_key, "DELETED", before, obj))
        return obj

    def _record(self, change: Change) -> None:
        self._log.append(change)
        if len(self._log) > self._keep:
            dropped = len(self._log) - self._keep // 2
            self.oldest = self._log[dropped - 1].version
            del self._log[:dropped]
        for tell in self.changed:
            tell()

    def _suffix(self) -> str:
        self._names += 1
        number, text = self._names * 7919, ""
        for _ in range(5):
            number, digit = divmod(number, len(_SUFFIX))
            text += _SUFFIX[digit]
        return text


def _drop_empty_maps(kind: ResourceType, obj: dict[str, Any]) -> None:
    """Empty maps are not stored: a JSON patch that adds a key to one has no place to add it to."""
    for name in ("labels", "annotations"):
        if not obj["metadata"].get(name, True):
            del obj["metadata"][name]
    if kind.kind in ("ConfigMap", "Secret") and not obj.get("data", True):
        del obj["data"]


def _spec_of(obj: Object) -> dict[str, Any]:
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}


def _limited_to(kind: ResourceType, current: Object, wanted: dict[str, Any], subresource: str) -> dict[str, Any]:
    """A write to the object keeps the status, a write to the status keeps everything else."""
    if subresource == "status":
        return {**copy.deepcopy(dict(current)), "status": wanted.get("status")}
    if kind.status_subresource:
        wanted.pop("status", None)
        if "status" in current:
            wanted["status"] = copy.deepcopy(current["status"])
    return wanted


def _with_kept_meta(current: Object, obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj["metadata"]
    for field in _KEPT_META:
        if field in current["metadata"]:
            meta[field] = current["metadata"][field]
        else:
            meta.pop(field, None)
    return obj


def names(objects: Iterable[Object]) -> list[str]:
    return [o["metadata"]["name"] for o in objects]
