"""From `prometheus:` in the settings to a running controller: settings, sources, whose metrics count."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.common.errors import ConfigError
from autoscaler.core.ports import Reading
from autoscaler.core.types import DeploymentMetrics, PauseState, SourceStatus
from autoscaler.runtime.assembly import Held, assemble
from autoscaler.settings import load_config
from autoscaler.settings.sources.prometheus import Prometheus as PrometheusSettings
from autoscaler.sources.readings import JoinedMetrics
from autoscaler.wiring.controller import build
from tests.fakes.not_prometheus import dead_url
from tests.prometheus.ray_pages import KEY, START_S

SETTINGS = """\
version: 1
services: [{name: chat, namespace: llm, dashboard: "%s", timeout_s: 0.2}]
deployments: [{match: chat/*, replicas: {max: 4}}]
state: {path: s.sqlite}
journal: {path: j}
server: {port: 0}
prometheus: %s
"""


def load(folder: Path, prometheus: str) -> Path:
    path = folder / "lt.yaml"
    path.write_text(SETTINGS % (dead_url(), prometheus), encoding="utf-8")
    return path


def test_settings_of_prometheus_are_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    text = '{url: "http://p:9090/", token_file: token, match: \'a="{namespace}", b=~"{service}-.*"\', signals: true}'
    found = load_config(load(tmp_path, text)).sources["prometheus"]
    assert isinstance(found, PrometheusSettings)
    assert (found.url, found.token_file, found.history_s) == ("http://p:9090/", "token", 7 * 86400.0)
    assert (found.match, found.signals) == ('a="{namespace}", b=~"{service}-.*"', True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{url: p:9090}", "prometheus.url: 'p:9090'; allowed: http://HOST:PORT"),
        ("{url: http://p, token_file: none}", "prometheus.token_file: 'none'; no such file or directory"),
        ("{url: http://p, match: namespace}", "prometheus.match: 'namespace'; allowed: PromQL label matchers"),
        ('{url: http://p, match: \'a="b"} or {c="d"\'}', "prometheus.match: "),
        ("{url: http://p, history_s: -1}", "prometheus.history_s: -1; allowed: a number from 0"),
        ("{url: http://p, signal: true}", "prometheus.signal: unknown key; did you mean 'signals'?"),
        ("{}", "prometheus.url: missing"),
    ],
)
def test_a_wrong_setting_of_prometheus_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(load(tmp_path, text))
    assert words in str(raised.value)


@pytest.mark.parametrize(("signals", "names"), [("false", []), ("true", ["prometheus"])])
async def test_it_is_a_source_only_when_asked_for(signals: str, names: list[str], tmp_path: Path) -> None:
    config = load_config(load(tmp_path, f'{{url: "{dead_url()}", signals: {signals}, timeout_s: 0.2}}'))
    runtime = build(config, serve_pages=False)
    try:
        plan = await runtime.tick()
    finally:
        await runtime._close()
    assert plan is not None
    assert runtime.telemetry.signals is not None
    sources = {source.name: source.up for source in runtime.telemetry.signals.sources}
    assert sources == {"ray_dashboard": False, "node_metrics": False, **dict.fromkeys(names, False)}


def held(name: str, metrics: DeploymentMetrics) -> Held:
    reading = Reading(name, True, metrics.as_of_s, JoinedMetrics({KEY: metrics}))
    return Held(SourceStatus(name, True, metrics.as_of_s), reading)


def counted(as_of_s: float, n: float) -> DeploymentMetrics:
    return DeploymentMetrics(as_of_s, {"s": n})


@pytest.mark.parametrize(
    ("nodes", "prometheus", "counts"),
    [
        (counted(START_S, 1.0), counted(START_S - 10, 2.0), 1.0),  # both young: the nodes themselves
        (counted(START_S - 10, 1.0), counted(START_S, 2.0), 1.0),  # a little older: no taking turns
        (counted(START_S - 40, 1.0), counted(START_S, 2.0), 2.0),  # the nodes cannot be read any more
        (DeploymentMetrics(START_S), counted(START_S - 10, 2.0), 2.0),  # pages that know nothing of it
        (counted(START_S - 40, 1.0), DeploymentMetrics(START_S), 1.0),  # Prometheus knows nothing of it
    ],
)
def test_whose_metrics_count(nodes: DeploymentMetrics, prometheus: DeploymentMetrics, counts: float) -> None:
    signals = assemble([held("nodes", nodes), held("prometheus", prometheus)], PauseState(), True, START_S)
    (one,) = signals.deployments
    assert one.metrics is not None
    assert one.metrics.arrivals_total == {"s": counts}
