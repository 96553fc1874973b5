"""The discovery documents of the fake API server: /version, /api, /apis, and each group and version's resources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.fakes.kubernetes.resources import ResourceType

VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0-fake",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "none/none",
}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def document(path: str, kinds: Iterable[ResourceType]) -> dict[str, Any] | None:
    """The document at a path without its trailing slash; None where there is none."""
    kinds = list(kinds)
    if path == "/version":
        return VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g, kinds) for g in _groups(kinds)]}
    parts = path.strip("/").split("/")
    if parts == ["api", "v1"]:
        return _resources("", "v1", kinds)
    if parts[0] == "apis" and len(parts) == 2 and parts[1] in _groups(kinds):
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], kinds)}
    if parts[0] == "apis" and len(parts) == 3:
        found = _resources(parts[1], parts[2], kinds)
        return found if found["resources"] else None
    return None


def _groups(kinds: list[ResourceType]) -> list[str]:
    return list(dict.fromkeys(k.group for k in kinds if k.group))


def _group(group: str, kinds: list[ResourceType]) -> dict[str, Any]:
    versions = list(dict.fromkeys(k.version for k in kinds if k.group == group))
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resources(group: str, version: str, kinds: list[ResourceType]) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in kinds:
        if (kind.group, kind.version) != (group, version):
            continue
        entry = {"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind}
        resources.append({**entry, "verbs": _VERBS, "shortNames": list(kind.short_names)})
        sub = {
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": ["get", "patch", "update"],
        }
        if kind.status_subresource:
            resources.append({"name": f"{kind.plural}/status", **sub})
        if kind.scale_subresource:
            scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
            resources.append({"name": f"{kind.plural}/scale", **sub, **scale})
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}
