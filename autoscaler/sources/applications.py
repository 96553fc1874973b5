"""Reads Ray Serve's list of applications (`GET /api/serve/applications/`) into inventories. Pure: JSON in, nouns out.

It takes what it knows and ignores the rest, but a part that it needs and that is missing or of another shape makes the
whole answer unusable: a half-read inventory would look like a small one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from autoscaler.errors import SourceError
from autoscaler.model import ActWay, DeploymentInventory, ReplicaSignal, ServeAutoscaling
from policies.base import DeploymentKey


def parse_applications(
    answer: object, namespace: str, service: str, as_of_s: float, act: ActWay = "external"
) -> dict[DeploymentKey, DeploymentInventory]:
    """Every deployment of every application, keyed for `namespace`/`service`; `act` is the way of that service.

    Errors: SourceError naming the place; also when no Serve controller runs (Ray then answers with an empty list, which
    would otherwise look like a cluster whose deployments are all gone).
    """
    top = _mapping(answer, "the answer")
    applications = _mapping(_need(top, "applications", "the answer"), "applications")
    if not applications and not top.get("controller_info"):
        raise SourceError("Ray Serve is not running there (no Serve controller)")
    found = {}
    for app_name, app in applications.items():
        where = f"applications.{app_name}"
        app = _mapping(app, where)
        for name, deployment in _mapping(_need(app, "deployments", where), f"{where}.deployments").items():
            key = DeploymentKey(namespace, service, app_name, name)
            found[key] = _inventory(app, _mapping(deployment, f"{where}.deployments.{name}"), as_of_s, f"{key}", act)
    return found


def _inventory(
    app: Mapping[str, Any], deployment: Mapping[str, Any], as_of_s: float, where: str, act: ActWay
) -> DeploymentInventory:
    config = _mapping(_need(deployment, "deployment_config", where), f"{where}.deployment_config")
    replicas = _need(deployment, "replicas", where)
    if not isinstance(replicas, list):
        raise SourceError(f"{where}.replicas is {_kind(replicas)}, expected a list")
    enabled = app.get("external_scaler_enabled")
    return DeploymentInventory(
        as_of_s=as_of_s,
        target=_count(_need(deployment, "target_num_replicas", where), f"{where}.target_num_replicas"),
        replicas=tuple(_replica(replica, f"{where}.replicas") for replica in replicas),
        app_status=str(app.get("status", "")),
        status=str(deployment.get("status", "")),
        message=str(deployment.get("message") or app.get("message") or ""),
        external_scaler_enabled=enabled if isinstance(enabled, bool) else None,
        autoscaled_by_serve=bool(config.get("autoscaling_config")),
        max_ongoing_requests=_optional_count(config.get("max_ongoing_requests")),
        gpus_per_replica=_gpus(deployment.get("required_resources"), config.get("placement_group_bundles")),
        configured_replicas=_optional_count(config.get("num_replicas")),
        dead_replicas=_length(deployment.get("recent_dead_replicas")),
        autoscaling=_autoscaling(config.get("autoscaling_config")),
        act=act,
    )


def _autoscaling(block: object) -> ServeAutoscaling | None:
    """None: no autoscaling_config. Of its parts only what has the shape that is known."""
    if not isinstance(block, dict) or not block:
        return None
    policy = block.get("policy")
    policy = policy if isinstance(policy, dict) else {}
    kwargs = policy.get("policy_kwargs")
    return ServeAutoscaling(
        policy=str(policy.get("policy_function", "")),
        policy_kwargs=kwargs if isinstance(kwargs, dict) else {},
        min_replicas=_optional_count(block.get("min_replicas")),
        max_replicas=_optional_count(block.get("max_replicas")),
        upscale_delay_s=_optional_number(block.get("upscale_delay_s")),
        downscale_delay_s=_optional_number(block.get("downscale_delay_s")),
    )


def _replica(replica: object, where: str) -> ReplicaSignal:
    fields = _mapping(replica, where)
    start = fields.get("start_time_s")
    return ReplicaSignal(
        replica_id=str(_need(fields, "replica_id", where)),
        state=str(_need(fields, "state", where)),
        start_time_s=float(start) if isinstance(start, int | float) else None,
        node_id=fields.get("node_id") or None,
        worker_id=fields.get("worker_id") or None,
    )


def _gpus(required: object, bundles: object) -> int | None:
    """Whole GPUs of one replica: its placement group's bundles, else its own resources; a share counts as one."""
    if isinstance(bundles, list) and bundles:
        shares = [bundle.get("GPU", 0) for bundle in bundles if isinstance(bundle, dict)]
    elif isinstance(required, dict):
        shares = [required.get("GPU", 0)]
    else:
        return None
    return ceil(sum(share for share in shares if isinstance(share, int | float)))


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SourceError(f"{where} is {_kind(value)}, expected an object")
    return value


def _need(fields: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in fields:
        raise SourceError(f"{where} has no {name!r}: not an answer of Ray Serve 2.60 or newer?")
    return fields[name]


def _count(value: object, where: str) -> int:
    count = _optional_count(value)
    if count is None:
        raise SourceError(f"{where} is {value!r}, expected a whole number >= 0")
    return count


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def _optional_count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _optional_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _kind(value: object) -> str:
    names = {type(None): "null", list: "a list", str: "a string", dict: "an object", bool: "a boolean"}
    return names.get(type(value), "a number")
