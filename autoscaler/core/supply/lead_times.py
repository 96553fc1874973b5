"""Lead time of a deployment's replica on each path: priors from settings, updated by what was measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter

from autoscaler.core.types import ControllerConfig, DeploymentSettings, PoolSettings, Startup
from policies.base import LeadPath, LeadTimes
from policies.base.durations import Duration
from policies.capacity.lead_times import StageBook, StagePriors, StageRecord, lead_times, stages

_DEFAULT_STARTUP = Startup()


def priors(settings: DeploymentSettings | None, pool: PoolSettings | None) -> StagePriors:
    """Priors of a cold start's stages, before any start was measured."""
    startup = _DEFAULT_STARTUP
    if settings is not None and settings.startup is not None:
        startup = settings.startup
    elif settings is not None and settings.profile is not None:
        startup = Startup(settings.profile.load_s, settings.profile.init_s)
    pool = pool or PoolSettings("")
    return StagePriors(
        provision=pool.provision_s,
        image_pull=pool.image_pull_s,
        worker_start=pool.worker_start_s,
        replica=Duration.total([startup.load_s, startup.init_s]),
    )


_everything = attrgetter(*(f.name for f in fields(StageRecord)))


@dataclass(slots=True)
class LeadTimeEstimate:
    """Lead times of a deployment: priors from its settings, and estimates with what was learned."""

    deployment: str
    """Its full key."""
    pool_name: str | None
    pools: tuple[PoolSettings, ...]
    settings: DeploymentSettings | None
    priors: StagePriors
    stages: Mapping[LeadPath, Mapping[str, Duration]]
    """For every path the keys of its stages with their priors."""
    _seen: list[tuple[float, ...] | None] = field(default_factory=list)
    _times: LeadTimes | None = None

    def lead_times(self, book: StageBook) -> LeadTimes:
        """Lead time on each path, from priors and measurements.

        Recomputed when a record of any of its stages changes; nothing else goes into it but the settings.
        """
        records = [book.stages.get(stage_key) for stage_key in self.stages["new_node"]]
        seen = [None if record is None else _everything(record) for record in records]
        if self._times is None or seen != self._seen:
            self._seen = seen
            self._times = lead_times(book, self.deployment, self.pool_name, self.priors)
        return self._times


_BELIEVED: dict[tuple[int, int, str | None, str], LeadTimeEstimate] = {}
"""Cache by identity of the settings, which are kept here so that the identity stays theirs: computed once, not at every
tick.
"""
_MOST_BELIEVED = 10_000
_PATHS: tuple[LeadPath, ...] = ("free_gpu", "warm_node", "new_node")


def lead_time_estimate(
    config: ControllerConfig, settings: DeploymentSettings | None, pool_name: str | None, deployment: str
) -> LeadTimeEstimate:
    """Lead times of the deployment with this full key that prefers this pool."""
    asked = (id(config.pools), id(settings), pool_name, deployment)
    found = _BELIEVED.get(asked)
    if found is None:
        if len(_BELIEVED) >= _MOST_BELIEVED:
            _BELIEVED.clear()
        before = priors(settings, next((p for p in config.pools if p.name == pool_name), None))
        by_path = {path: stages(deployment, pool_name, path, before) for path in _PATHS}
        found = _BELIEVED[asked] = LeadTimeEstimate(deployment, pool_name, config.pools, settings, before, by_path)
    return found
