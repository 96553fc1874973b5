"""Builds the actuators that pre-warm, from settings: one for each way in use. It wires and decides nothing.

Libraries are loaded only for the ways that need them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from autoscaler.actuators.prewarm import PrewarmActuator, PrewarmWay, Refusal
from autoscaler.actuators.ray_request_resources import RayHead
from autoscaler.common.errors import ConfigError
from autoscaler.common.extras import missing
from autoscaler.common.fields import mapping, text
from autoscaler.core.types.pools import KUBERNETES_WAYS, WarmPool
from autoscaler.kubernetes.resources import ClusterApi, Object


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the ways may need besides their pools."""

    api: ClusterApi | None = None
    """The Kubernetes API; None: there is none."""
    namespace: str = "default"
    """Where the chart's objects are."""
    watch_namespaces: Sequence[str] = ()
    """Empty: all of them."""
    matches: Sequence[str] = ()
    """Patterns of deployments that the settings name: they consent for their services."""
    heads: Callable[[], Sequence[RayHead]] = tuple
    """The Ray clusters that there are now."""
    write_budget_s: Callable[[], float] | None = None
    on_refusal: Callable[[Refusal], None] | None = None
    service_version: Callable[[str, str], str | None] | None = None
    """The resourceVersion of a RayService (namespace, name) by a watch of them; None: it is not known now."""
    in_use: Callable[[str], Awaitable[int | None]] | None = None
    """Nodes of a pool that workers are on, looked at now; for giving back without a controller. Errors: SourceError."""
    deadline_s: float = 4.0


def prewarm_actuators(pools: Sequence[WarmPool], around: Surroundings) -> list[PrewarmActuator]:
    """Errors: ConfigError where a way needs what is not there."""
    pools = [replace(pool, namespace=pool.namespace or around.namespace) for pool in pools]
    made = []
    for name in dict.fromkeys(pool.way for pool in pools):
        own = [pool for pool in pools if pool.way == name]
        made.append(
            PrewarmActuator(
                _way(name, own, around),
                own,
                deadline_s=around.deadline_s,
                write_budget_s=around.write_budget_s,
                on_refusal=around.on_refusal,
            )
        )
    return made


def _way(name: str, pools: Sequence[WarmPool], around: Surroundings) -> PrewarmWay:
    if name in KUBERNETES_WAYS:
        return _kubernetes_way(name, pools, around)
    if name == "node_pool":
        try:
            from autoscaler.actuators.gke_node_pool import GkeNodePools
        except ImportError as error:
            raise ConfigError(f"node_pools[].prewarm: node_pool {missing('gke', error)}") from None
        return GkeNodePools(in_use=around.in_use)
    if name == "request_resources":
        from autoscaler.actuators.ray_request_resources import RayRequestResources

        return RayRequestResources(around.heads)
    raise ConfigError(f"node_pools[].prewarm: {name}; there is no such way")


def _kubernetes_way(name: str, pools: Sequence[WarmPool], around: Surroundings) -> PrewarmWay:
    api = around.api
    if api is None:
        raise ConfigError(f"node_pools[].prewarm: {name}; it needs the Kubernetes API: add a kubernetes block")
    if name == "placeholder":
        from autoscaler.actuators.placeholder_pods import PlaceholderPods

        return PlaceholderPods(api)
    if name == "capacity_buffer":
        from autoscaler.actuators.capacity_buffer import CapacityBuffers

        return CapacityBuffers(api)
    if name == "worker_group":
        from autoscaler.actuators.kuberay_workers import KubeRayWorkers

        return KubeRayWorkers(api, around.watch_namespaces, consent(pools, around.matches), around.service_version)
    if name == "provisioning_request":
        from autoscaler.actuators.provisioning_request import ProvisioningRequests

        return ProvisioningRequests(api)
    raise ConfigError(f"node_pools[].prewarm: {name}; there is no such way")


def consent(pools: Sequence[WarmPool], matches: Sequence[str]) -> Callable[[Object], bool]:
    """Whether leadtime may act on a RayService: as discovery says, or since a pool's settings name it."""
    from autoscaler.sources.kuberay.annotations import service_matches

    named = {pool.service for pool in pools}
    four = [match for match in matches if match.count("/") == 3]  # two parts give settings, and no consent

    def consents(obj: Object) -> bool:
        meta = mapping(obj, "metadata")
        place = (text(meta, "namespace"), text(meta, "name"))
        said = mapping(meta, "annotations").get("leadtime.dev/enabled")
        if said == "false":
            return False
        return said == "true" or place in named or any(service_matches(match, *place) for match in four)

    return consents
