"""What a deployment's past teaches at start: bins and token mix, beside the ticks, without holding them up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from autoscaler.common.errors import SourceError
from autoscaler.core.build import new_controller
from autoscaler.core.controller import Controller
from autoscaler.core.demand import TokenSums, current_mix
from autoscaler.core.types import DeploymentSettings, DeploymentSignals, Signals
from autoscaler.runtime.history import HistoryAtStart
from policies.base import DeploymentKey, ForecastSpec
from policies.forecasting import create
from policies.forecasting.service import ForecastingService
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

NOW_S = 864_000.0
BIN_S = 10.0
SPEC = ForecastSpec("last", BIN_S)
"""A forecaster that learns at once: what is tested here is who learns what, and when."""


@dataclass
class Past:
    """A constant rate since time 0, and what requests it was asked for; `wait` holds answers back."""

    rate_rps: float = 7.0
    tokens: TokenSums | None = field(default_factory=lambda: TokenSums(1000.0, 2e6, 3e5, 1e6))
    until_s: float = NOW_S
    fails: bool = False
    wait: asyncio.Event | None = None
    asked: list[tuple[float, float]] = field(default_factory=list)

    async def rates(
        self, key: DeploymentKey, bin_s: float, since_s: float, until_s: float
    ) -> list[tuple[float, float]]:
        self.asked.append((since_s, until_s))
        if self.fails:
            raise SourceError("no Prometheus here")
        if self.wait is not None:
            await self.wait.wait()
        first, last = int(since_s // bin_s) + 1, int(min(until_s, self.until_s) // bin_s)
        return [(i * bin_s, self.rate_rps) for i in range(first, last + 1)]

    async def token_sums(self, key: DeploymentKey, since_s: float, until_s: float) -> TokenSums | None:
        if self.fails:
            raise SourceError("no Prometheus here")
        return self.tokens


def taught() -> Controller:
    return new_controller(config(), policy=Says(1, forecast=SPEC))


SIGNALS = signals(inventory(NOW_S), None)


async def test_the_first_tick_has_the_forecast_and_the_token_mix_of_the_past() -> None:
    controller, past = taught(), Past()
    assert await HistoryAtStart(past, 3600.0, ForecastingService()).seed(controller, SIGNALS, NOW_S)
    plan = controller.step(SIGNALS, NOW_S)
    assert plan.forecasts[KEY].quantile(60.0, 0.5) == pytest.approx(7.0, rel=0.05)
    mix = plan.observations[0].mix
    assert mix is not None
    assert (mix.prompt_tokens, mix.output_tokens, mix.cached_prompt_tokens) == pytest.approx((2000.0, 300.0, 1000.0))
    assert past.asked == [(NOW_S - 3600.0, NOW_S)]


async def test_a_mix_that_is_known_is_not_replaced_and_an_old_one_soon_gives_way() -> None:
    controller = taught()
    memory = controller.state.memory(KEY.full).demand
    memory.mix_sums = [50_000.0, 10_000.0, 0.0, 100.0]
    await HistoryAtStart(Past(), 3600.0, ForecastingService()).seed(controller, SIGNALS, NOW_S)
    known = current_mix(memory)
    assert known is not None
    assert known.prompt_tokens == 500.0
    fresh = taught()
    await HistoryAtStart(Past(), 3600.0, ForecastingService()).seed(fresh, SIGNALS, NOW_S)
    for i in range(2):
        tokens = {"r0": 100.0 * 200 * i}
        found = metrics(
            NOW_S + 60.0 * i, prompt_tokens_total=tokens, output_tokens_total=tokens, finished_total={"r0": 200.0 * i}
        )
        fresh.step(signals(inventory(NOW_S + 60.0 * i), found), NOW_S + 60.0 * i)
    mix = current_mix(fresh.state.memory(KEY.full).demand)
    assert mix is not None
    assert mix.prompt_tokens < 500.0, "200 requests of 100 tokens outweigh what the past of 2000 counts for"


async def test_history_is_asked_for_by_those_that_have_room_for_a_forecaster_and_by_others_when_they_have() -> None:
    settings = replace(config(DeploymentSettings("*/*", max_replicas=8)), namespace_forecasters=1)
    controller = new_controller(settings, policy=Says(1, forecast=ForecastSpec("mixture", BIN_S)))
    keys = [DeploymentKey("llm", "svc", app, "llm") for app in ("a", "b")]
    given = Signals(deployments=tuple(DeploymentSignals(key, inventory(NOW_S), None) for key in keys))
    past = Past(tokens=None)
    history = HistoryAtStart(past, 3600.0, ForecastingService())
    for _ in range(2):
        await history.seed(controller, given, NOW_S)
        controller.step(given, NOW_S)
    assert (len(past.asked), set(controller.state.forecasters)) == (1, {keys[0].full})

    controller.state.forecasters.clear()
    del controller.state.deployments[keys[0].full]
    alone = replace(given, deployments=given.deployments[1:])
    await history.seed(controller, alone, NOW_S)
    assert len(past.asked) == 2


async def test_no_past_and_a_past_that_cannot_be_read_change_nothing() -> None:
    for past in (Past(until_s=0.0, tokens=None), Past(fails=True)):
        controller = taught()
        assert not await HistoryAtStart(past, 3600.0, ForecastingService()).seed(controller, SIGNALS, NOW_S)
        assert KEY not in controller.step(SIGNALS, NOW_S).forecasts


@pytest.mark.parametrize("rate_rps", [1e300, float("inf"), float("nan"), -1.0])
async def test_absurd_rates_of_the_past_teach_nothing_and_stop_nobody(rate_rps: float) -> None:
    controller = new_controller(config(), policy=Says(1, forecast=ForecastSpec("mixture", BIN_S)))
    history = HistoryAtStart(Past(rate_rps, tokens=None), 7200.0, ForecastingService())
    assert not await history.seed(controller, SIGNALS, NOW_S)
    assert not controller.state.forecasters


async def test_a_forecaster_of_a_saved_state_is_only_shown_the_gap() -> None:
    for gap_s in (60.0, 7200.0):
        controller, past = taught(), Past()
        saved = create(SPEC)
        saved.observe_many([i * BIN_S + NOW_S - gap_s - 100 * BIN_S for i in range(1, 100)], [3.0] * 99)
        last_s = saved.last_time_s
        controller.state.forecasters[KEY.full] = saved
        await HistoryAtStart(past, 86400.0, ForecastingService()).seed(controller, SIGNALS, NOW_S)
        assert past.asked == [(last_s, NOW_S)]
        assert controller.state.forecasters[KEY.full].last_time_s == NOW_S


async def test_what_takes_long_does_not_hold_up_the_tick_and_catches_up_before_it_takes_over() -> None:
    controller, past = taught(), Past(wait=asyncio.Event(), tokens=None)
    history = HistoryAtStart(past, 86400.0, ForecastingService(), within_s=0.01)
    assert not await history.seed(controller, SIGNALS, NOW_S)
    assert past.wait is not None
    for i in range(61):  # ten minutes of ticks of their own
        now_s = NOW_S + 10.0 * i
        controller.step(signals(inventory(now_s), metrics(now_s, arrivals=50.0 * i)), now_s)
    now_s = NOW_S + 600.0
    past.until_s = now_s
    past.wait.set()
    for _ in range(10_000):
        if await history.seed(controller, signals(inventory(now_s), None), now_s):
            break
        await asyncio.sleep(0.001)
    assert past.asked == [(NOW_S - 86400.0, NOW_S), (NOW_S, now_s)], "asked once, then once more for what came since"
    assert controller.state.forecasters[KEY.full].last_time_s == now_s
    await history.close()


async def test_a_deployment_that_nobody_scales_is_not_asked_for() -> None:
    past = Past()
    controller = new_controller(config(DeploymentSettings("other/*", max_replicas=2)), policy=Says(1, forecast=SPEC))
    assert not await HistoryAtStart(past, 3600.0, ForecastingService()).seed(controller, SIGNALS, NOW_S)
    assert past.asked == []
