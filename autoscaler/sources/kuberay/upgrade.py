"""A service with two clusters: how a planned level is split over them, and how two inventories read as one.

Pure. NewCluster: traffic stays on the active cluster until the switch; the new one is prepared with what the old one
needs, so that it does not begin with the config's number. NewClusterWithIncrementalUpgrade: KubeRay moves Serve's
target_capacity and the traffic in steps, and each step resets targets; every cluster gets its share of the plan again.
Not for deciding the level itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from autoscaler.core.types import DeploymentInventory
from autoscaler.sources.kuberay.services import KubeService, ServeCluster
from policies.base import whole_up


@dataclass(frozen=True, slots=True)
class ClusterLevel:
    """What one cluster of a service should run of one deployment."""

    cluster: ServeCluster
    replicas: int
    why: str


def cluster_levels(service: KubeService, target: int, fits: int | None = None) -> tuple[ClusterLevel, ...]:
    """The level of each cluster for a deployment that should have `target` replicas in all.

    `fits`: replicas that there are or can be GPUs for besides those of the active cluster (None: no limit known); a
    new cluster that is asked for more than fits would never become ready, and its service would never switch.
    """
    active, pending = service.active, service.pending
    if active is None or service.phase in ("suspended", "gone", "starting"):
        return ()
    if service.phase == "incremental":
        return tuple(
            ClusterLevel(cluster, share(target, percent := _percent(cluster)), f"{percent} % of {target}")
            for cluster in service.clusters
        )
    levels = [ClusterLevel(active, target, "serves")]
    if service.phase == "upgrading" and pending is not None:
        prepared = target if fits is None else max(0, min(target, fits))
        if prepared > 0:  # else its config's own number is the better one
            why = "prepared for the switch" if prepared == target else f"prepared for the switch; GPUs for {fits} only"
            levels.append(ClusterLevel(pending, prepared, why))
    return tuple(levels)


def share(target: int, percent: int) -> int:
    """Serve's own rounding of target_capacity: half up, and at least 1 unless either is 0."""
    if target <= 0 or percent <= 0:
        return 0
    if percent == 100:
        return target
    exact = Decimal(target * percent) / Decimal(100)
    return max(1, int(exact.to_integral_value(rounding=ROUND_HALF_UP)))


def _percent(cluster: ServeCluster) -> int:
    """Capacity never falls below the traffic that is still sent there."""
    unset = 100 if cluster.role == "active" else 0
    capacity = unset if cluster.capacity_percent is None else cluster.capacity_percent
    return max(0, min(100, max(capacity, cluster.traffic_percent or 0)))


def replicas_that_fit(cluster: ServeCluster, gpus_per_replica: float | None) -> int | None:
    """Replicas that a cluster's worker groups may ever hold; None: no limit known."""
    most = cluster.most_gpus
    if most is None or not gpus_per_replica:
        return None
    per_worker = [math.floor(g.gpus_per_host / gpus_per_replica + 1e-9) * g.hosts for g in cluster.groups]
    workers = [g.max_replicas or 0 for g in cluster.groups]
    return sum(each * count for each, count in zip(per_worker, workers, strict=True))


def combined(
    service: KubeService, inventories: Mapping[str, DeploymentInventory], last_target: int | None
) -> DeploymentInventory | None:
    """One inventory of a deployment from those of its serving clusters (by cluster name); None: not known of all.

    The target is the one for the whole service: `last_target` where every cluster has just its share of it, else the
    largest cluster's target scaled up.
    """
    serving = service.serving
    known = [(cluster, inventories[cluster.name]) for cluster in serving if cluster.name in inventories]
    if not known or len(known) < len(serving):
        return None
    _, first = max(known, key=lambda pair: _percent(pair[0]))
    if service.phase != "incremental":
        return first
    return replace(
        first,
        as_of_s=min(inventory.as_of_s for _, inventory in known),
        target=_whole_target(known, last_target),
        replicas=tuple(replica for _, inventory in known for replica in inventory.replicas),
        dead_replicas=sum(inventory.dead_replicas for _, inventory in known),
    )


def _whole_target(known: Sequence[tuple[ServeCluster, DeploymentInventory]], last_target: int | None) -> int:
    if last_target is not None and all(
        i.target == whole_up(share(last_target, _percent(c)), i.gang_size) for c, i in known
    ):
        return last_target
    main, inventory = max(known, key=lambda pair: _percent(pair[0]))
    percent = _percent(main)
    return inventory.target if percent in (0, 100) else round(inventory.target * 100 / percent)


# ---------------------------------------------------------------- what changed

ChangeKind = Literal["appeared", "switched", "upgrade_began", "upgrade_ended", "gone"]


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """A step in a service's life that people and the controller should hear of."""

    kind: ChangeKind
    service: KubeService
    words: str


def change(before: KubeService | None, now: KubeService | None) -> ServiceChange | None:
    """What happened between two looks at one service, the most telling of it; None: nothing.

    After `switched` all replicas are other ones: what was known of the old ones is history, and the level that was
    planned is set at once.
    """
    if now is None or now.phase == "gone":
        return None if before is None or before.phase == "gone" else ServiceChange("gone", before, "it is gone")
    if before is None:
        return ServiceChange("appeared", now, "it was found")
    old, new = (None if s.active is None else s.active.name for s in (before, now))
    if new is not None and old != new:
        words = f"traffic goes to the Ray cluster {new}" + (f" instead of {old}" if old else "")
        return ServiceChange("switched", now, words)
    was, is_now = (s.phase in ("upgrading", "incremental") for s in (before, now))
    if is_now and not was and now.pending is not None:
        return ServiceChange("upgrade_began", now, f"the Ray cluster {now.pending.name} is being prepared")
    if was and not is_now:
        return ServiceChange("upgrade_ended", now, f"the Ray cluster {new} stays")
    return None
