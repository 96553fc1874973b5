"""Reads Ray Serve's list of applications (`GET /api/serve/applications/`) into inventories. Pure: JSON in, nouns out.

It takes what it knows and ignores the rest. An entry of which a part that is needed is missing or of another shape is
refused by itself: that deployment is unknown, with the reason, and the others are read. What would make the list look
shorter than it is (no list of applications, an application without its deployments) refuses the deployments that it
may stand for, or the whole answer: a half-read inventory would look like a small one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil
from typing import Any

from autoscaler.common.errors import SourceError
from autoscaler.common.fields import MOST_COUNT, REPLACED, clean, count, identifier, number, text
from autoscaler.core.types import ActWay, DeploymentInventory, ReplicaSignal, ServeAutoscaling
from autoscaler.sources.readings import Inventories
from policies.base import DeploymentKey

_MOST_REQUESTS = 2**53
"""serve.llm sets max_ongoing_requests to 1e9."""
_MOST_GPUS = 10_000
_LATEST_S = 1e11
_MOST_KWARGS = 100
_MOST_IN_A_GANG = 10_000


def parse_applications(
    answer: object, namespace: str, service: str, as_of_s: float, act: ActWay = "external"
) -> Mapping[DeploymentKey, DeploymentInventory]:
    """Those deployments of `read_applications` whose entries can be read."""
    return read_applications(answer, namespace, service, as_of_s, act).deployments


def read_applications(
    answer: object,
    namespace: str,
    service: str,
    as_of_s: float,
    act: ActWay = "external",
    known: Collection[DeploymentKey] = (),
) -> Inventories:
    """Every deployment of every application, keyed for `namespace`/`service`; `act` is the way of that service.

    `known`: deployments of the answer before; those of an application that cannot be read now are unknown. Errors:
    SourceError naming the place, where the answer as a whole cannot be read; also when no Serve controller runs (Ray
    then answers with an empty list, which would otherwise look like a cluster whose deployments are all gone).
    """
    top = _mapping(answer, "the answer")
    applications = _mapping(_need(top, "applications", "the answer"), "applications")
    if not applications and not top.get("controller_info"):
        raise SourceError("Ray Serve is not running there (no Serve controller)")
    found: dict[DeploymentKey, DeploymentInventory] = {}
    unreadable: dict[DeploymentKey, str] = {}
    for app_name, app in applications.items():
        try:
            where = f"applications.{app_name if app_name.isprintable() else ascii(app_name)}"
            app = _mapping(app, where)
            deployments = _mapping(_need(app, "deployments", where), f"{where}.deployments")
        except SourceError as error:
            before = [key for key in known if key.app == app_name]
            if not before:
                raise
            unreadable |= dict.fromkeys(before, str(error))
            continue
        for name, deployment in deployments.items():
            key = DeploymentKey(namespace, service, app_name, name)
            try:
                _check_name(app_name, "application")
                _check_name(name, "deployment")
                found[key] = _inventory(app, name, _mapping(deployment, f"{key}"), as_of_s, f"{key}", act)
            except SourceError as error:
                shown = DeploymentKey(namespace, service, _as_a_name(app_name), _as_a_name(name))
                unreadable[shown] = str(error)
    return Inventories(namespace, service, found, unreadable)


def _check_name(name: str, what: str) -> None:
    """Errors: SourceError for a name that no key can hold, or that Ray could not be asked about."""
    if identifier(name) is None or "/" in name or REPLACED in name:
        raise SourceError(f"the {what} name {_shown(name)} cannot be used; allowed: text without / or odd characters")


def _as_a_name(name: str) -> str:
    """What stands in a key for a name that none can hold."""
    return clean(name, 100).replace("/", REPLACED) or REPLACED


def _inventory(
    app: Mapping[str, Any], name: str, deployment: Mapping[str, Any], as_of_s: float, where: str, act: ActWay
) -> DeploymentInventory:
    config = _mapping(_need(deployment, "deployment_config", where), f"{where}.deployment_config")
    replicas = _need(deployment, "replicas", where)
    if not isinstance(replicas, list):
        raise SourceError(f"{where}.replicas is {_kind(replicas)}, expected a list")
    enabled = app.get("external_scaler_enabled")
    is_ingress, chooses_for = _place(app.get("deployment_topology"), name)
    return DeploymentInventory(
        as_of_s=as_of_s,
        target=_count(_need(deployment, "target_num_replicas", where), f"{where}.target_num_replicas"),
        replicas=tuple(_replica(replica, f"{where}.replicas") for replica in replicas),
        app_status=clean(text(app, "status")),
        status=clean(text(deployment, "status")),
        message=clean(text(deployment, "message") or text(app, "message")),
        external_scaler_enabled=enabled if isinstance(enabled, bool) else None,
        autoscaled_by_serve=bool(config.get("autoscaling_config")),
        max_ongoing_requests=count(config.get("max_ongoing_requests"), _MOST_REQUESTS),
        gpus_per_replica=_gpus(deployment.get("required_resources"), config.get("placement_group_bundles")),
        configured_replicas=count(config.get("num_replicas")),
        dead_replicas=_length(deployment.get("recent_dead_replicas")),
        autoscaling=_autoscaling(config.get("autoscaling_config")),
        act=act,
        is_ingress=is_ingress,
        chooses_for=chooses_for,
        gang_size=_gang_size(config.get("gang_scheduling_config"), f"{where}.gang_scheduling_config"),
    )


def _gang_size(block: object, where: str) -> int:
    """Replicas of a gang; 1 without gangs. Errors: SourceError, since a level for another size could block Serve."""
    if block is None:
        return 1
    size = _need(_mapping(block, where), "gang_size", where)
    found = count(size, _MOST_IN_A_GANG)
    if not found:
        raise SourceError(f"{where}.gang_size is {_shown(size)}, expected a whole number from 1 to {_MOST_IN_A_GANG}")
    return found


def _place(topology: object, name: str) -> tuple[bool, str]:
    """Whether the deployment is its application's ingress; the ingress that it chooses replicas of, if it does.

    A deployment that is not the ingress and calls it is the router of direct streaming (docs/ray-paths.md). Not told,
    or told in another shape: neither.
    """
    if not isinstance(topology, dict):
        return False, ""
    ingress, nodes = topology.get("ingress_deployment"), topology.get("nodes")
    node = nodes.get(name) if isinstance(nodes, dict) else None
    called = node.get("outbound_deployments") if isinstance(node, dict) else None
    if name == ingress or not isinstance(ingress, str) or not isinstance(called, list):
        return name == ingress, ""
    return False, ingress if any(isinstance(one, dict) and one.get("name") == ingress for one in called) else ""


def _autoscaling(block: object) -> ServeAutoscaling | None:
    """None: no autoscaling_config. Of its parts only what has the shape that is known."""
    if not isinstance(block, dict) or not block:
        return None
    policy = block.get("policy")
    policy = policy if isinstance(policy, dict) else {}
    return ServeAutoscaling(
        policy=clean(text(policy, "policy_function")),
        policy_kwargs=_plain_options(policy.get("policy_kwargs")),
        min_replicas=count(block.get("min_replicas")),
        max_replicas=count(block.get("max_replicas")),
        upscale_delay_s=number(block.get("upscale_delay_s")),
        downscale_delay_s=number(block.get("downscale_delay_s")),
    )


def _plain_options(options: object) -> dict[str, Any]:
    """Those that are text, numbers or flags: a policy of others may have any."""
    if not isinstance(options, dict) or len(options) > _MOST_KWARGS:
        return {}
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, str):
            found[clean(name)] = clean(value)
        elif value is None or isinstance(value, bool) or number(value, -1e15) is not None:
            found[clean(name)] = value
    return found


def _replica(replica: object, where: str) -> ReplicaSignal:
    fields = _mapping(replica, where)
    replica_id = identifier(_need(fields, "replica_id", where))
    state = identifier(_need(fields, "state", where))
    if replica_id is None or state is None:
        name = "replica_id" if replica_id is None else "state"
        raise SourceError(f"{where}: {name} is {_shown(fields[name])}, expected a name")
    return ReplicaSignal(
        replica_id=replica_id,
        state=state,
        start_time_s=number(fields.get("start_time_s"), 0.0, _LATEST_S),
        node_id=identifier(fields.get("node_id")),
        worker_id=identifier(fields.get("worker_id")),
    )


def _gpus(required: object, bundles: object) -> int | None:
    """Whole GPUs of one replica: its placement group's bundles, else its own resources; a share counts as one.

    None where one of the numbers is none: a part of them would look like a small replica.
    """
    if isinstance(bundles, list) and bundles:
        shares = [bundle.get("GPU", 0) for bundle in bundles if isinstance(bundle, dict)]
    elif isinstance(required, dict):
        shares = [required.get("GPU", 0)]
    else:
        return None
    read = [share for one in shares if (share := number(one, 0.0, _MOST_GPUS)) is not None]
    return count(ceil(sum(read)), _MOST_GPUS) if len(read) == len(shares) else None


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SourceError(f"{where} is {_kind(value)}, expected an object")
    return value


def _need(fields: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in fields:
        raise SourceError(f"{where} has no {name!r}: not an answer of Ray Serve 2.60 or newer?")
    return fields[name]


def _count(value: object, where: str) -> int:
    found = count(value)
    if found is None:
        raise SourceError(f"{where} is {_shown(value)}, expected a whole number from 0 to {MOST_COUNT}")
    return found


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def _shown(value: object) -> str:
    """A value of others in a message: short, and in one line."""
    if isinstance(value, str):
        return ascii(value if len(value) <= 60 else value[:57] + "...")
    return ascii(value)[:60] if isinstance(value, bool | int | float | None) else _kind(value)


def _kind(value: object) -> str:
    names = {type(None): "null", list: "a list", str: "a string", dict: "an object", bool: "a boolean"}
    return names.get(type(value), "a number")
