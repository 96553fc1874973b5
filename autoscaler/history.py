"""Shows the forecaster, at the first sight of a deployment, what traffic it had before. Best effort, with a deadline.

The runtime calls `seed` before it decides; where rates come from is a port (Prometheus). Not for keeping history: that
is the saved state's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Protocol

from autoscaler.controller import Controller
from autoscaler.errors import LeadtimeError
from autoscaler.model import Signals
from policies.base import DeploymentKey

log = logging.getLogger("leadtime")


class RateHistory(Protocol):
    """Where past rates come from."""

    async def rates(
        self, key: DeploymentKey, bin_s: float, since_s: float, until_s: float
    ) -> list[tuple[float, float]]: ...


class HistoryAtStart:
    """`reach_s`: how far back to ask; `within_s`: how long the first tick may wait for all answers together."""

    def __init__(self, source: RateHistory, reach_s: float, within_s: float = 20.0) -> None:
        self._source = source
        self._reach_s = reach_s
        self._within_s = within_s
        self._asked: set[DeploymentKey] = set()

    async def seed(self, controller: Controller, signals: Signals, now_s: float) -> None:
        """Never raises; each deployment is asked for once, whatever comes of it."""
        keys = {one.key for one in signals.deployments if controller.config.settings_for(one.key) is not None}
        new = keys - self._asked
        if not new or controller.policy.forecast is None:
            return
        self._asked |= new
        try:
            async with asyncio.timeout(self._within_s):
                await self._seed(controller, sorted(new), controller.policy.forecast.bin_s, now_s)
        except TimeoutError:
            log.warning("history at start: not all of it within %g s; forecasts begin with less", self._within_s)

    async def _seed(self, controller: Controller, keys: Collection[DeploymentKey], bin_s: float, now_s: float) -> None:
        await asyncio.gather(*(self._one(controller, key, bin_s, now_s) for key in keys))

    async def _one(self, controller: Controller, key: DeploymentKey, bin_s: float, now_s: float) -> None:
        known = controller.state.forecasters.get(key.full)
        since_s = max(now_s - self._reach_s, (known.last_time_s or 0.0) if known is not None else 0.0)
        try:
            found = await self._source.rates(key, bin_s, since_s, now_s)
        except LeadtimeError as error:
            log.warning("%s: no history at start: %s", key, error)
            return
        if found:
            controller.seed_history(key, [at_s for at_s, _ in found], [rate for _, rate in found])
            log.info(
                "%s: history at start: %d bins of %g s since %.0f s ago", key, len(found), bin_s, now_s - found[0][0]
            )
        else:
            log.info("%s: history at start: there is none", key)
