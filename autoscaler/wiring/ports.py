"""Sources and actuators of a controller, by its settings. Libraries are loaded only where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoscaler.common.errors import ConfigError
from autoscaler.common.extras import missing
from autoscaler.wiring.cluster import own_place

if TYPE_CHECKING:
    from autoscaler.actuators.prewarm import RayHead
    from autoscaler.api.telemetry import Telemetry
    from autoscaler.core.ports import Actuator, Source
    from autoscaler.runtime.history import HistoryAtStart
    from autoscaler.settings.model import Config, ServiceConfig
    from autoscaler.settings.sources.base import Parts, SourceBlock, Surroundings
    from autoscaler.wiring.kubernetes import KubernetesParts


@dataclass(frozen=True, slots=True)
class Ports:
    """Through which a controller meets the world."""

    sources: list[Source]
    """Where two tell of the same deployment or pool, the earlier one counts."""
    actuators: list[Actuator]
    history: HistoryAtStart | None


def ports(
    config: Config, cluster: KubernetesParts | None, telemetry: Telemetry, leads: Callable[[], bool] = lambda: True
) -> Ports:
    """Errors: ConfigError."""
    from autoscaler.actuators.prewarm import RayHead
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
    others = other_parts(config, cluster, telemetry, leads)
    sources += [source for parts in others for source in parts.sources]
    actuators = actuators or [RecordingActuator(elsewhere=[pool.name for pool in config.prewarm])]
    actuators += warm_actuators(config, cluster, heads)
    actuators += [actuator for parts in others for actuator in parts.actuators]
    return Ports(sources, actuators, _history(others))


def other_parts(
    config: Config, cluster: KubernetesParts | None, telemetry: Telemetry, leads: Callable[[], bool]
) -> list[Parts]:
    """Of the sources beside Ray and Kubernetes; their libraries are loaded only where they are in the settings."""
    from autoscaler.settings.paths import path_from
    from autoscaler.settings.sources.base import Surroundings

    folder = config.path.absolute().parent
    listed = [(service.namespace, service.name) for service in config.services]

    def services() -> list[tuple[str, str]]:
        found = cluster.discovery.services() if cluster else ()
        return listed + [service.key for service in found if service.opted_in]

    shared = config.kubernetes is not None and config.election is not None
    around = Surroundings(
        settings_path=config.path,
        path=lambda text: None if text is None else path_from(folder, text),
        services=services,
        leads=leads,
        release=f"leadtime-{own_place(config)}-{config.kubernetes.name}" if config.kubernetes and shared else None,
        hint_messages=telemetry.hint_messages,
    )
    return [_parts(key, block, around) for key, block in config.sources.items()]


def _history(others: Sequence[Parts]) -> HistoryAtStart | None:
    """The first one that any source has."""
    for parts in others:
        if parts.history is not None:
            from autoscaler.runtime.history import HistoryAtStart
            from policies.forecasting.service import ForecastingService

            return HistoryAtStart(parts.history, parts.history_s, ForecastingService())
    return None


def _parts(key: str, block: SourceBlock, around: Surroundings) -> Parts:
    try:
        return block.parts(around)
    except ImportError as error:
        if block.EXTRA is None:
            raise
        raise ConfigError(f"{key}: {missing(block.EXTRA, error)}") from None


def _suffix(service: ServiceConfig, config: Config) -> str:
    """Tells the sources of several services apart."""
    return "" if len(config.services) == 1 else f":{service.namespace}/{service.name}"
