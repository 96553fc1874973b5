"""Shows the forecaster, at the first sight of a deployment, what traffic it had before. Best effort, beside the ticks.

The runtime calls `seed` before it decides; where rates come from is a port (Prometheus). Weeks of history take a
forecaster seconds to learn from: that happens in a thread, on a forecaster of its own that takes the place of the live
one when it is done. Not for keeping history: that is the saved state's.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoscaler.common.errors import LeadtimeError
from autoscaler.core import demand
from autoscaler.core.controller import Controller
from autoscaler.core.forecast import within_budget
from autoscaler.core.ports import RateHistory
from autoscaler.core.types import Signals
from policies.base import BacktestTrace, DeploymentKey, Forecaster, ForecasterState, Forecasting, ForecastSpec

log = logging.getLogger("leadtime")

_MIX_REACH_S = 6 * 3600.0
_SHORT_GAP_S = 600.0
"""A gap that the live forecaster is shown at once; what takes longer to learn is learned beside the ticks."""
_CLOSE_S = 60.0
"""A forecaster that learned beside the ticks takes over when it is no further behind than this."""
_MOST_ROUNDS = 4
_MOST_ASKED = 10_000
"""Beyond it, deployments that are gone are forgotten here, and asked for again when they come back."""


@dataclass(frozen=True, slots=True)
class _Learned:
    """Of one deployment: bins for the live forecaster, or another one that has learned them; token counts."""

    bins: Sequence[tuple[float, float]] = ()
    forecaster: Forecaster | None = None
    diary: BacktestTrace | None = None
    tokens: demand.TokenSums | None = None
    rounds: int = 1


class HistoryAtStart:
    """`reach_s`: how far back to ask; `within_s`: how long a tick that sees new deployments waits for them;
    `forecasting`: one of its own, since the controller's goes on with its ticks.
    """

    def __init__(self, source: RateHistory, reach_s: float, forecasting: Forecasting, within_s: float = 20.0) -> None:
        self._source = source
        self._reach_s = reach_s
        self._within_s = within_s
        self._asked: set[DeploymentKey] = set()
        self._under_way: dict[DeploymentKey, asyncio.Task[_Learned]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._forecasting = forecasting

    async def seed(self, controller: Controller, signals: Signals, now_s: float) -> bool:
        """Ask for deployments that are new, take over what was learned; True when the controller's memory changed.

        Never raises; each deployment is asked for once, whatever comes of it. What is not ready in time is taken over
        at a later tick.
        """
        spec = controller.policy.forecast
        keys = {one.key for one in signals.deployments if controller.config.settings_for(one.key) is not None}
        unasked = keys - self._asked
        new = sorted(within_budget(controller.state, controller.config, sorted(unasked))) if unasked else []
        if spec is not None and new:
            self._asked |= set(new)
            if len(self._asked) > _MOST_ASKED:
                self._asked &= keys
            for key in new:
                self._begin(key, self._learn(key, spec, controller.state.forecasters.get(key.full), now_s))
            _, late = await asyncio.wait(self._under_way.values(), timeout=self._within_s)
            if late:
                log.warning("history at start: not all of it within %g s; forecasts begin with less", self._within_s)
        changed = False
        for key in [key for key, task in self._under_way.items() if task.done()]:
            learned = self._under_way.pop(key).result()
            if spec is not None and self._is_behind(controller, key, learned):
                self._begin(key, self._catch_up(key, spec, learned, now_s))
            else:
                changed |= _take_over(controller, key, learned)
        return changed

    async def close(self) -> None:
        """Give up what is still under way."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _begin(self, key: DeploymentKey, work: Coroutine[Any, Any, _Learned]) -> None:
        self._under_way[key] = asyncio.create_task(work)

    def _is_behind(self, controller: Controller, key: DeploymentKey, learned: _Learned) -> bool:
        """The live forecaster has seen much that the one beside the ticks has not."""
        live = controller.state.forecasters.get(key.full)
        if live is None or learned.forecaster is None or learned.rounds >= _MOST_ROUNDS:
            return False
        return bool((live.last_time_s or 0.0) - (learned.forecaster.last_time_s or 0.0) > _CLOSE_S)

    async def _learn(self, key: DeploymentKey, spec: ForecastSpec, known: Forecaster | None, now_s: float) -> _Learned:
        """What there was in the past of a deployment; `known`: its forecaster, where a saved state had one."""
        last_s = (known.last_time_s if known is not None else None) or -math.inf
        short = now_s - last_s <= _SHORT_GAP_S
        saved = known.state() if known is not None and not short else None  # now: it goes on learning
        found = await self._rates(key, spec, max(now_s - self._reach_s, last_s), now_s)
        tokens = await self._tokens(key, now_s)
        if not found or short:
            return _Learned(found, tokens=tokens)
        return _Learned((), *await self._taught(spec, found, saved), tokens)

    async def _catch_up(self, key: DeploymentKey, spec: ForecastSpec, learned: _Learned, now_s: float) -> _Learned:
        """Ticks went on meanwhile: learn what came since."""
        assert learned.forecaster is not None
        found = await self._rates(key, spec, learned.forecaster.last_time_s or 0.0, now_s)
        async with self._one_at_a_time:
            await asyncio.to_thread(_show, learned.forecaster, found)
        return replace(learned, rounds=learned.rounds + 1)

    async def _taught(
        self, spec: ForecastSpec, bins: Sequence[tuple[float, float]], saved: ForecasterState | None
    ) -> tuple[Forecaster, BacktestTrace | None]:
        forecaster = self._forecasting.create(spec)
        if saved is not None:
            forecaster.restore(saved)
        times_s, rates_rps = [at_s for at_s, _ in bins], [rate for _, rate in bins]
        async with self._one_at_a_time:
            [diary] = await asyncio.to_thread(self._forecasting.backtest, [(forecaster, (times_s, rates_rps))], spec)
            return forecaster, diary

    async def _rates(
        self, key: DeploymentKey, spec: ForecastSpec, since_s: float, until_s: float
    ) -> list[tuple[float, float]]:
        try:
            found = await self._source.rates(key, spec.bin_s, since_s, until_s)
        except LeadtimeError as error:
            log.warning("%s: no history at start: %s", key, error)
            return []
        found = [(at_s, rate) for at_s, rate in found if 0.0 <= rate <= demand.MOST_RPS]
        if found:
            words = "%s: history at start: %d bins of %g s since %.0f s ago"
            log.info(words, key, len(found), spec.bin_s, until_s - found[0][0])
        else:
            log.info("%s: history at start: there is none", key)
        return found

    async def _tokens(self, key: DeploymentKey, until_s: float) -> demand.TokenSums | None:
        try:
            return await self._source.token_sums(key, until_s - _MIX_REACH_S, until_s)
        except LeadtimeError as error:
            log.warning("%s: no token counts at start: %s", key, error)
            return None


def _show(forecaster: Forecaster, bins: Sequence[tuple[float, float]]) -> None:
    forecaster.observe_many([at_s for at_s, _ in bins], [rate for _, rate in bins])


def _take_over(controller: Controller, key: DeploymentKey, learned: _Learned) -> bool:
    """True when there was something."""
    if learned.forecaster is not None:
        controller.state.forecasters[key.full] = learned.forecaster
        if learned.diary is not None:
            controller.warm_start(key, learned.diary)
    elif learned.bins:
        controller.seed_history(key, [at_s for at_s, _ in learned.bins], [rate for _, rate in learned.bins])
    memory = controller.state.memory(key.full).demand
    mixed = learned.tokens is not None and demand.seed_mix(memory, learned.tokens)
    return learned.forecaster is not None or bool(learned.bins) or mixed
