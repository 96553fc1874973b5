"""Prometheus as a source: the same metrics as from the nodes themselves, and history, from a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoscaler.core.build import new_controller
from autoscaler.core.demand import ingest, observe
from autoscaler.core.ports import Reading
from autoscaler.core.state import DemandMemory
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentSettings,
    DeploymentSignals,
    GuardSettings,
    PauseState,
    Signals,
    SourceStatus,
)
from autoscaler.runtime.assembly import Held, assemble
from autoscaler.runtime.history import HistoryAtStart
from autoscaler.sources.exposition import parse
from autoscaler.sources.join import NodePage, collect
from autoscaler.sources.names import NAMES
from autoscaler.sources.prometheus import PrometheusClient, PrometheusFleet, PrometheusHistory, PrometheusSource
from autoscaler.sources.readings import Inventories, NodePages
from policies.base import DeploymentKey, Slo
from policies.forecasting.service import ForecastingService
from tests.prometheus import ray_pages
from tests.prometheus.ray_pages import HOUR_S, INVENTORY, KEY, START_S
from tests.prometheus.server import Prometheus, serving

HOURS = 3.0
END_S = START_S + HOURS * HOUR_S


@pytest.fixture(scope="module")
def ray_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with serving(ray_pages.openmetrics(HOURS), tmp_path_factory.mktemp("ray")) as server:
        yield server


def client(server: Prometheus) -> PrometheusClient:
    return PrometheusClient(server.url, timeout_s=60.0)


async def joined(server: Prometheus, now_s: float, match: str = ""):  # type: ignore[no-untyped-def]
    reading = await PrometheusSource("prometheus", KEY.namespace, KEY.service, client(server), match).read(now_s)
    assert reading.up, reading.why
    assert isinstance(reading.data, NodePages)
    return reading, collect(reading.data.pages, INVENTORY, KEY.namespace, KEY.service, now_s)[KEY]


async def test_it_tells_the_same_as_the_nodes_themselves(ray_prometheus: Prometheus) -> None:
    page = NodePage(END_S, tuple(parse(ray_pages.page(HOURS * HOUR_S), NAMES)))
    direct = collect({"node": page}, INVENTORY, KEY.namespace, KEY.service, END_S)[KEY]
    _, ours = await joined(ray_prometheus, END_S + 3.0)
    for name in ("arrivals_total", "prompt_tokens_total", "output_tokens_total", "finished_total"):
        assert sorted(getattr(ours, name).values()) == sorted(getattr(direct, name).values()) != []
    assert list(ours.ttft.values()) == list(direct.ttft.values()) != []
    assert (ours.queued_at_handles, ours.ongoing, ours.replicas) == (3.0, 12.0, direct.replicas)
    assert len(ours.replicas) == 2


async def test_its_metrics_are_as_old_as_the_last_scrape_and_not_as_the_question(ray_prometheus: Prometheus) -> None:
    reading, ours = await joined(ray_prometheus, END_S + 42.0)
    assert reading.as_of_s == ours.as_of_s == END_S


async def test_what_was_scraped_too_long_ago_is_unknown(ray_prometheus: Prometheus) -> None:
    source = PrometheusSource("prometheus", KEY.namespace, KEY.service, client(ray_prometheus))
    reading = await source.read(END_S + 600.0)
    assert (reading.up, reading.data) == (False, None)
    assert "has no metrics of Ray Serve for llm/chat" in reading.why


async def test_matchers_single_out_the_service(ray_prometheus: Prometheus) -> None:
    await joined(ray_prometheus, END_S, 'namespace="{namespace}", pod=~"head|{service}"')
    other = PrometheusSource("p", "elsewhere", KEY.service, client(ray_prometheus), 'namespace="{namespace}"')
    assert not (await other.read(END_S)).up


async def test_a_switch_to_prometheus_makes_no_spike_of_old_counts(ray_prometheus: Prometheus) -> None:
    memory, guards = DemandMemory(), GuardSettings()
    ours = None
    for since_s in (HOURS * HOUR_S - 60.0, HOURS * HOUR_S - 45.0):  # from the node
        page = NodePage(START_S + since_s, tuple(parse(ray_pages.page(since_s), NAMES)))
        direct = collect({"node": page}, INVENTORY, KEY.namespace, KEY.service, START_S + since_s)[KEY]
        ingest(memory, direct, Slo(), 60.0, 10.0)
    for back_s in (30.0, 15.0, 0.0):  # from Prometheus
        _, ours = await joined(ray_prometheus, END_S - back_s)
        ingest(memory, ours, Slo(), 30.0, 10.0)
    seen = observe(memory, DeploymentSignals(KEY, INVENTORY[KEY], ours), guards, END_S)
    assert seen.rate_rps == pytest.approx(10.0)


async def test_services_that_come_and_go_are_one_source_and_joined_each_to_its_own(ray_prometheus: Prometheus) -> None:
    places = [(KEY.namespace, KEY.service)]
    fleet = PrometheusFleet(client(ray_prometheus), 'namespace="{namespace}"', lambda: places)
    alone = await fleet.read(END_S)
    places.append(("elsewhere", "other"))
    both = await fleet.read(END_S)
    assert alone.up
    assert both.up
    assert (alone.why, both.why.endswith("has no metrics of Ray Serve for elsewhere/other")) == ("", True)
    inventories = Reading("ray", True, END_S, Inventories(KEY.namespace, KEY.service, INVENTORY))
    held = [Held(SourceStatus(one.source, one.up, one.as_of_s), one) for one in (inventories, both)]
    (found,) = assemble(held, PauseState(), True, END_S).deployments
    assert found.key == KEY
    assert found.metrics is not None
    assert found.metrics.ongoing == 12.0
    places.clear()
    nobody = await fleet.read(END_S)
    assert (nobody.up, nobody.why) == (False, "there is no service to ask for yet")


async def test_it_does_not_ask_again_before_a_new_scrape_can_be_there(ray_prometheus: Prometheus) -> None:
    source = PrometheusSource("prometheus", KEY.namespace, KEY.service, client(ray_prometheus), period_s=15.0)
    first = await source.read(END_S - 60.0)
    assert await source.read(END_S - 50.0) is first
    later = await source.read(END_S - 45.0)
    assert (first.as_of_s, later.as_of_s) == (END_S - 60.0, END_S - 45.0)


# ---------------------------------------------------------------- history


async def test_history_is_the_rate_in_bins_of_the_forecaster(ray_prometheus: Prometheus) -> None:
    history = PrometheusHistory(client(ray_prometheus))
    found = await history.rates(KEY, 10.0, START_S + 300.0, END_S)
    times = [at_s for at_s, _ in found]
    assert times == [START_S + 310.0 + 10.0 * i for i in range(len(times))]
    assert times[-1] == END_S
    by_time = dict(found)
    assert by_time[START_S + 1000.0] == pytest.approx(4.0)
    assert by_time[START_S + 3000.0] == pytest.approx(10.0)
    assert by_time[START_S + HOUR_S + 1000.0] == pytest.approx(4.0)


async def test_a_long_history_is_asked_for_in_pieces_that_prometheus_answers(ray_prometheus: Prometheus) -> None:
    found = await PrometheusHistory(client(ray_prometheus)).rates(KEY, 1.0, START_S, END_S)
    assert len(found) > 10_000
    assert [at_s for at_s, _ in found] == sorted({at_s for at_s, _ in found})


async def test_of_a_deployment_that_nobody_scraped_there_is_no_history(ray_prometheus: Prometheus) -> None:
    unknown = DeploymentKey("llm", "chat", "chat", 'odd"name\\')
    assert await PrometheusHistory(client(ray_prometheus)).rates(unknown, 10.0, START_S, END_S) == []


async def test_a_controller_that_starts_with_history_forecasts_at_its_first_tick(ray_prometheus: Prometheus) -> None:
    config = ControllerConfig(deployments=(DeploymentSettings("chat/*", max_replicas=8),), dry_run=True)
    signals = Signals((DeploymentSignals(KEY, INVENTORY[KEY]),))
    empty, taught = new_controller(config), new_controller(config)
    history = HistoryAtStart(PrometheusHistory(client(ray_prometheus)), 7 * 86400.0, ForecastingService())
    await history.seed(taught, signals, END_S)
    assert KEY not in empty.step(signals, END_S).forecasts
    forecast = taught.step(signals, END_S).forecasts[KEY]
    assert forecast.quantile(60.0, 0.5) == pytest.approx(10.0, rel=0.2)
    assert forecast.calibrated, forecast.why


async def test_the_token_mix_of_the_past_is_that_of_the_deployments_own_replicas(ray_prometheus: Prometheus) -> None:
    history = PrometheusHistory(client(ray_prometheus))
    sums = await history.token_sums(KEY, END_S - 1800.0, END_S)
    assert sums is not None
    # the page counts 400 prompt and 100 output tokens for each arrival, and half of the arrivals as finished
    assert sums.prompt_tokens / sums.requests == pytest.approx(800.0)
    assert sums.output_tokens / sums.requests == pytest.approx(200.0)
    assert sums.cached_prompt_tokens == 0.0
    assert sums.first_tokens == pytest.approx(sums.requests)
    assert await history.token_sums(KEY._replace(deployment="other"), END_S - 1800.0, END_S) is None
