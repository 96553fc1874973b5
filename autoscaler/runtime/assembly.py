"""From what the sources hold to the Signals of one tick. Pure: the runtime's only step between I/O and the controller.

A source that failed simply contributes what it gave last, with its age; what never came is absent, hence unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from autoscaler.core.ports import Reading
from autoscaler.core.types import (
    Applied,
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentSignals,
    Hint,
    PauseState,
    PoolSignals,
    Signals,
    SourceStatus,
)
from autoscaler.sources.join import collect
from autoscaler.sources.readings import Hints, Inventories, JoinedMetrics, NodePages, PagesOfServices, Paused, Pools
from policies.base import DeploymentKey

_MUCH_OLDER_S = 30.0
"""Metrics this much older than another source's give way to them: two sources must not take turns tick by tick."""


@dataclass(frozen=True, slots=True)
class Held:
    """One source: how it does, and the last reading that it gave (None: none yet)."""

    status: SourceStatus
    last_good: Reading | None


def assemble(
    held: Sequence[Held],
    pause: PauseState,
    leader: bool,
    now_s: float,
    applied: Mapping[str, Applied] = MappingProxyType({}),
) -> Signals:
    """All inputs of the tick at `now_s`. `applied`: what came of the writes of the last tick, by deployment.

    Two sources that tell of the same deployment or pool: the earlier one wins, unless its metrics are much older.
    """
    inventories: dict[DeploymentKey, DeploymentInventory] = {}
    unreadable: dict[DeploymentKey, str] = {}
    metrics: dict[DeploymentKey, DeploymentMetrics] = {}
    pools: dict[str, PoolSignals] = {}
    hints: list[Hint] = []
    readings = [one.last_good for one in held if one.last_good is not None]
    for reading in readings:
        if isinstance(reading.data, Inventories):
            inventories = {**reading.data.deployments, **inventories}
            unreadable = {**reading.data.unreadable, **unreadable}
    unreadable = {key: why for key, why in unreadable.items() if key not in inventories}
    for reading in readings:
        data = reading.data
        if isinstance(data, NodePages | PagesOfServices):
            as_of_s = now_s if reading.as_of_s is None else reading.as_of_s
            for one in data.services if isinstance(data, PagesOfServices) else (data,):
                _take(metrics, collect(one.pages, inventories, one.namespace, one.service, as_of_s))
        elif isinstance(data, JoinedMetrics):
            _take(metrics, data.deployments)
        elif isinstance(data, Pools):
            pools = {**{pool.name: pool for pool in data.pools}, **pools}
        elif isinstance(data, Hints):
            hints += data.hints
        elif isinstance(data, Paused):
            pause = _both(pause, data.pause)
    return Signals(
        deployments=tuple(
            DeploymentSignals(
                key, inventories.get(key), metrics.get(key), unreadable.get(key, ""), _accepted(applied.get(str(key)))
            )
            for key in sorted({*inventories, *metrics, *unreadable})
        ),
        pools=tuple(pools[name] for name in sorted(pools)),
        sources=tuple(one.status for one in held),
        pause=pause,
        leader=leader,
        hints=tuple(hints),
    )


def _accepted(applied: Applied | None) -> int | None:
    return applied.value if applied is not None and applied.outcome == "ok" else None


def _take(metrics: dict[DeploymentKey, DeploymentMetrics], found: Mapping[DeploymentKey, DeploymentMetrics]) -> None:
    """Add what a later source knows: where nothing is known yet, or only something much older."""
    for key, one in found.items():
        before = metrics.get(key)
        if before is None or (_told(one) and (not _told(before) or one.as_of_s - before.as_of_s > _MUCH_OLDER_S)):
            metrics[key] = one


def _told(one: DeploymentMetrics) -> bool:
    """Whether any page had a series of the deployment: a source that saw none knows nothing."""
    counted = one.arrivals_total or one.prompt_tokens_total or one.finished_total or one.ttft
    return bool(counted) or bool(one.replicas) or one.queued_at_handles is not None or one.ongoing is not None


def _both(one: PauseState, other: PauseState) -> PauseState:
    return PauseState(one.everything or other.everything, one.deployments | other.deployments)
