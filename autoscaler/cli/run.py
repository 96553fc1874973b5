"""`leadtime run`: builds sources, controller, actuators and the shell around them from a settings file, and runs it.

Not for the loop itself (autoscaler.runtime), nor for what settings mean (autoscaler.config).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler import __version__
from autoscaler.cli.logs import set_up_logs
from autoscaler.errors import ConfigError, LeadtimeError

if TYPE_CHECKING:
    from autoscaler.actuators.ray_request_resources import RayHead
    from autoscaler.board import Board
    from autoscaler.config.model import Config, MqttConfig, ServiceConfig
    from autoscaler.history import HistoryAtStart
    from autoscaler.kube.shell import KubernetesParts
    from autoscaler.ports import Actuator, Source
    from autoscaler.runtime import Clock, Runtime
    from autoscaler.sources.prometheus import PrometheusClient

DESCRIPTION = """\
Run the controller: every tick it reads the Ray Serve services of the settings file, decides, explains and acts.
With dry_run (the default of the settings) it changes nothing.
SIGTERM or Ctrl-C ends it; replicas stay where they are, and what pre-warming holds is given back."""
EXAMPLE = """
leadtime run --config leadtime.yaml
leadtime run --config leadtime.yaml --once      # one round, to see whether everything can be read
"""

log = logging.getLogger("leadtime")

_KUBE = "kubernetes: needs the extra `kube` (pip install leadtime[kube]): {}"
_ROUNDS_TO_FIND = 4
"""With `--once`: how many rounds services may need to be found and read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, required=True, help="the settings file (YAML)")
    parser.add_argument(
        "--once", action="store_true", help="one round, its outcome on stdout; exit 1 if a source is down"
    )
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")


def run(args: argparse.Namespace) -> int:
    from autoscaler.config import load_config

    config = load_config(args.config)
    set_up_logs(args.log_json)
    mode = "dry run: changes nothing" if config.controller.dry_run else "acts"
    log.info(
        "leadtime %s: settings %s (sha256 %s), policy %s, a tick every %g s, %s",
        __version__,
        config.path,
        config.controller.sha256[:12],
        config.controller.policy_name,
        config.controller.tick_s,
        mode,
    )
    if args.once:
        return _once(config)
    asyncio.run(build(config).run_until_signalled())
    return 0


def _once(config: Config) -> int:
    from autoscaler.runtime import SystemClock

    class OneRound(SystemClock):
        rounds = 0

        async def wait(self, stop: asyncio.Event, until_monotonic_s: float) -> None:
            self.rounds += 1
            if config.kubernetes is None or self.rounds == _ROUNDS_TO_FIND or _found(runtime):
                stop.set()
            else:  # services have to be found before they can be read
                await super().wait(stop, until_monotonic_s)

    runtime = build(config, clock=OneRound(), serve_pages=False, elect=False)
    asyncio.run(runtime.run())
    plan, signals = runtime.board.plan, runtime.board.signals
    if plan is None or signals is None:
        raise LeadtimeError("the round failed; the log above says why")
    for source in signals.sources:
        print(f"source {source.name}: {'up' if source.up else 'DOWN'}{': ' + source.why if source.why else ''}")
    for one in plan.deployments:
        print(f"{one.key}: {one.sentence}")
    if not plan.deployments:
        print("no deployments seen")
    return 0 if all(source.up for source in signals.sources) else 1


def _found(runtime: Runtime) -> bool:
    """Whether every source answers and some deployment is seen."""
    plan, signals = runtime.board.plan, runtime.board.signals
    up = signals is not None and all(source.up for source in signals.sources)
    return up and plan is not None and bool(plan.deployments)


# ---------------------------------------------------------------- building


def build(config: Config, clock: Clock | None = None, serve_pages: bool = True, elect: bool = True) -> Runtime:
    """Everything of a running controller. `elect` False: it does not stand for election, and where others do, it
    writes nothing. Errors: LeadtimeError (a state file in use, say); PolicyError."""
    from autoscaler.journal_file import JournalWriter
    from autoscaler.pause import PauseSwitch
    from autoscaler.runtime import Runtime, new_board, restored_controller
    from autoscaler.server import Server
    from autoscaler.state import StateStore

    store = StateStore(config.state_path)
    try:
        controller = restored_controller(config.controller, store)
        board, pause = new_board(config.controller), PauseSwitch(store)
        cluster = cluster_parts(config, board, elect)
        sources, actuators = _ports(config, cluster, board)
        server = Server(board, pause, config.server.host, config.server.port, config.server.token_file)
        return Runtime(
            config.controller,
            controller,
            sources,
            actuators,
            store=store,
            journal_writer=JournalWriter(config.journal_path, config.journal_max_bytes),
            server=server if serve_pages else None,
            board=board,
            pause=pause,
            leader=_leader(config, cluster, elect),
            history=_history(config),
            clock=clock,
            background=cluster.background if cluster else (),
            settings=cluster.deployment_settings if cluster else tuple,
        )
    except BaseException:
        store.close()
        raise


def cluster_parts(config: Config, board: Board, elect: bool) -> KubernetesParts | None:
    """What the controller has of Kubernetes. Errors: ConfigError when no cluster can be reached by these settings."""
    block = config.kubernetes
    if block is None:
        return None
    try:
        from autoscaler.kube.shell import KubernetesSettings, connected_parts, process_identity
        from autoscaler.leader import LeaseSettings

        settings = KubernetesSettings(
            watch_namespaces=block.watch_namespaces,
            namespace=own_place(config),
            name=block.name,
            tokens=block.tokens,
            nodes=block.nodes,
            placeholders=any(pool.way == "placeholder" for pool in config.prewarm),
            events=block.events and elect,
            timeout_s=block.timeout_s,
        )
        lease = None
        if config.election is not None and elect:
            lease_s, deadline_s = config.election.lease_s, config.election.renew_deadline_s
            lease = LeaseSettings(process_identity(), lease_s, deadline_s, min(2.0, deadline_s / 5))
        return connected_parts(
            settings, config.controller, board, lease, kubeconfig=block.kubeconfig, context=block.context
        )
    except ImportError as error:
        raise ConfigError(_KUBE.format(error)) from None


def _leader(config: Config, cluster: KubernetesParts | None, elect: bool) -> Callable[[], bool]:
    if config.election is not None and not elect:
        return lambda: False
    return cluster.leader if cluster else lambda: True


def _ports(config: Config, cluster: KubernetesParts | None, board: Board) -> tuple[list[Source], list[Actuator]]:
    from autoscaler.actuators.ray_request_resources import RayHead
    from autoscaler.actuators.ray_serve import RayServeActuator
    from autoscaler.actuators.recording import RecordingActuator
    from autoscaler.cli.warm import warm_actuators
    from autoscaler.dashboard_client import DashboardClient
    from autoscaler.sources.node_metrics import NodeMetricsSource
    from autoscaler.sources.ray_dashboard import RayDashboardSource
    from autoscaler.sources.ray_nodes import RayNodesSource

    sources: list[Source] = []
    actuators: list[Actuator] = []
    heads: list[RayHead] = []
    for service in config.services:
        place = (service.namespace, service.name)
        suffix = _suffix(service, config)
        client = DashboardClient(service.dashboard, service.token_file, service.ca_file, service.timeout_s)
        heads.append(RayHead(*place, client))
        sources.append(RayDashboardSource(f"ray_dashboard{suffix}", *place, client, service.act))
        sources.append(NodeMetricsSource(f"node_metrics{suffix}", *place, client, timeout_s=service.timeout_s))
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
        source, plans = _mqtt(config.mqtt, board)
        sources.append(source)
        actuators += [plans] if config.mqtt.publish else []
    return sources, actuators


def own_place(config: Config) -> str:
    """Where the lease, the kill switch and the chart's objects are."""
    if config.kubernetes is None:
        return "default"
    from autoscaler.kube.shell import own_namespace

    return config.kubernetes.namespace or own_namespace()


def _mqtt(block: MqttConfig, board: Board) -> tuple[Source, Actuator]:
    """Announced demand in, plans out; the library is loaded only where a broker is named."""
    try:
        from autoscaler.actuators.mqtt_plans import MqttPlansActuator
        from autoscaler.sources.mqtt_hints import MqttHintsSource
    except ImportError as error:
        raise ConfigError(f"mqtt: needs the extra `mqtt` (pip install leadtime[mqtt]): {error}") from None
    if block.broker.username is not None and not block.broker.tls:
        log.warning("%s: tls is false, so the password travels unencrypted", block.broker.shown)
    return MqttHintsSource(block.broker, board.hint_messages), MqttPlansActuator(block.broker)


def _prometheus(config: Config) -> PrometheusClient | None:
    """A client for the Prometheus of the settings; the library is loaded only where one is named."""
    if config.prometheus is None:
        return None
    try:
        from autoscaler.sources.prometheus import PrometheusClient
    except ImportError as error:
        raise ConfigError(
            f"prometheus: needs the extra `prometheus` (pip install leadtime[prometheus]): {error}"
        ) from None
    block = config.prometheus
    return PrometheusClient(block.url, block.token_file, block.ca_file, block.timeout_s)


def _history(config: Config) -> HistoryAtStart | None:
    client = _prometheus(config)
    if client is None or config.prometheus is None or config.prometheus.history_s <= 0:
        return None
    from autoscaler.history import HistoryAtStart
    from autoscaler.sources.prometheus import PrometheusHistory

    return HistoryAtStart(PrometheusHistory(client, config.prometheus.match), config.prometheus.history_s)


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
