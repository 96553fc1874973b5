"""Builds the actuators that pre-warm, from settings: one for each way in use. It wires and decides nothing.

Libraries are loaded only for the ways that need them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, cast

from autoscaler.actuators.prewarm import PrewarmActuator, PrewarmWay, Surroundings
from autoscaler.common.errors import ConfigError
from autoscaler.common.extras import missing
from autoscaler.common.fields import mapping, text
from autoscaler.core.tenants import service_matches
from autoscaler.core.types.pools import WAYS, WarmPool
from autoscaler.kubernetes.resources import Object


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
    """By its file, which is imported only now."""
    if WAYS[name].kubernetes and around.api is None:
        raise ConfigError(f"node_pools[].prewarm: {name}; it needs the Kubernetes API: add a kubernetes block")
    try:
        module = importlib.import_module(f"autoscaler.actuators.ways.{name}")
    except ImportError as error:
        extra = WAYS[name].extra
        if extra is None:
            raise
        raise ConfigError(f"node_pools[].prewarm: {name} {missing(extra, error)}") from None
    return cast(WayModule, module).way(pools, around)


class WayModule(Protocol):
    """What a way's file defines."""

    way: Callable[[Sequence[WarmPool], Surroundings], PrewarmWay]


def consent(pools: Sequence[WarmPool], matches: Sequence[str]) -> Callable[[Object], bool]:
    """Whether leadtime may act on a RayService: as discovery says, or since a pool's settings name it."""
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
