"""Sources and actuators of a controller, by its settings. Libraries are loaded only where they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from autoscaler.common.errors import ConfigError
from autoscaler.common.extras import missing
from autoscaler.wiring.cluster import own_place

if TYPE_CHECKING:
    from autoscaler.actuators.ray_request_resources import RayHead
    from autoscaler.api.telemetry import Telemetry
    from autoscaler.core.ports import Actuator, Source
    from autoscaler.runtime.history import HistoryAtStart
    from autoscaler.settings.model import Config, MqttConfig, ServiceConfig
    from autoscaler.sources.prometheus import PrometheusClient
    from autoscaler.wiring.kubernetes import KubernetesParts

log = logging.getLogger("leadtime")


def sources_and_actuators(
    config: Config, cluster: KubernetesParts | None, telemetry: Telemetry, leads: Callable[[], bool] = lambda: True
) -> tuple[list[Source], list[Actuator]]:
    from autoscaler.actuators.ray_request_resources import RayHead
    from autoscaler.actuators.ray_serve import RayServeActuator
    from autoscaler.actuators.recording import RecordingActuator
    from autoscaler.clients.addresses import TargetRules
    from autoscaler.clients.ray_dashboard import DashboardClient
    from autoscaler.sources.node_metrics import NodeMetricsSource
    from autoscaler.sources.ray_dashboard import RayDashboardSource
    from autoscaler.sources.ray_nodes import RayNodesSource
    from autoscaler.wiring.prewarm import warm_actuators

    sources: list[Source] = []
    actuators: list[Actuator] = []
    heads: list[RayHead] = []
    for service in config.services:
        place = (service.namespace, service.name)
        suffix = _suffix(service, config)
        client = DashboardClient(
            service.dashboard, service.token_file, service.ca_file, service.timeout_s, limits=config.reading
        )
        heads.append(RayHead(*place, client))
        sources.append(RayDashboardSource(f"ray_dashboard{suffix}", *place, client, service.act))
        rules = TargetRules(config.reading.allow, client.loopback)
        sources.append(
            NodeMetricsSource(f"node_metrics{suffix}", *place, client, timeout_s=service.timeout_s, rules=rules)
        )
        if service.nodes:
            sources.append(RayNodesSource(f"ray_nodes{suffix}", client, config.controller.pools))
        if not config.controller.dry_run:
            budget_s = cluster.write_budget_s if cluster else None
            actuators.append(
                RayServeActuator(
                    f"ray_serve{suffix}", *place, client, deadline_s=service.timeout_s, write_budget_s=budget_s
                )
            )
    if cluster is not None:
        sources += cluster.sources
        actuators += () if config.controller.dry_run else cluster.actuators
    sources += _prometheus_sources(config, cluster)
    actuators = actuators or [RecordingActuator(elsewhere=[pool.name for pool in config.prewarm])]
    actuators += warm_actuators(config, cluster, heads)
    if config.mqtt is not None:
        source, plans = _mqtt(config, config.mqtt, telemetry, leads)
        sources.append(source)
        actuators += [plans] if config.mqtt.publish else []
    return sources, actuators


def history_at_start(config: Config) -> HistoryAtStart | None:
    client = _prometheus(config)
    if client is None or config.prometheus is None or config.prometheus.history_s <= 0:
        return None
    from autoscaler.runtime.history import HistoryAtStart
    from autoscaler.sources.prometheus import PrometheusHistory
    from policies.forecasting.service import ForecastingService

    return HistoryAtStart(
        PrometheusHistory(client, config.prometheus.match), config.prometheus.history_s, ForecastingService()
    )


def _mqtt(
    config: Config, block: MqttConfig, telemetry: Telemetry, leads: Callable[[], bool]
) -> tuple[Source, Actuator]:
    """Announced demand in, plans out; the library is loaded only where a broker is named."""
    try:
        from autoscaler.actuators.mqtt_plans import MqttPlansActuator
        from autoscaler.sources.mqtt_hints import MqttHintsSource
    except ImportError as error:
        raise ConfigError(f"mqtt: {missing('mqtt', error)}") from None
    if block.broker.username is not None and not block.broker.tls:
        log.warning("%s: tls is false, so the password travels unencrypted", block.broker.shown)
    broker = block.broker
    if config.kubernetes is not None and config.election is not None:
        broker = replace(broker, release=f"leadtime-{own_place(config)}-{config.kubernetes.name}-{block.topics}")
    return MqttHintsSource(broker, telemetry.hint_messages, leads=leads), MqttPlansActuator(broker)


def _prometheus(config: Config) -> PrometheusClient | None:
    """A client for the Prometheus of the settings; the library is loaded only where one is named."""
    if config.prometheus is None:
        return None
    try:
        from autoscaler.sources.prometheus import PrometheusClient
    except ImportError as error:
        raise ConfigError(f"prometheus: {missing('prometheus', error)}") from None
    block = config.prometheus
    return PrometheusClient(block.url, block.token_file, block.ca_file, block.timeout_s)


def _prometheus_sources(config: Config, cluster: KubernetesParts | None) -> list[Source]:
    """Behind the sources that read the nodes themselves: it counts where they know nothing."""
    client = _prometheus(config)
    if client is None or config.prometheus is None or not config.prometheus.signals:
        return []
    from autoscaler.sources.prometheus import PrometheusFleet

    listed = [(service.namespace, service.name) for service in config.services]

    def places() -> list[tuple[str, str]]:
        found = cluster.discovery.services() if cluster else ()
        return listed + [service.key for service in found if service.opted_in]

    return [PrometheusFleet(client, config.prometheus.match, places)]


def _suffix(service: ServiceConfig, config: Config) -> str:
    """Tells the sources of several services apart."""
    return "" if len(config.services) == 1 else f":{service.namespace}/{service.name}"
