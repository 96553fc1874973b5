"""`leadtime run`: builds sources, controller, actuators and the shell around them from a settings file, and runs it.

Not for the loop itself (autoscaler.runtime), nor for what settings mean (autoscaler.config).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler import __version__
from autoscaler.cli.logs import set_up_logs
from autoscaler.errors import ConfigError, LeadtimeError

if TYPE_CHECKING:
    from autoscaler.config_convert import Config, ServiceConfig
    from autoscaler.controller import Controller
    from autoscaler.history import HistoryAtStart
    from autoscaler.ports import Actuator, Source
    from autoscaler.runtime import Clock, Runtime
    from autoscaler.sources.prometheus import PrometheusClient
    from autoscaler.state import StateStore

DESCRIPTION = """\
Run the controller: every tick it reads the Ray Serve services of the settings file, decides, explains and acts.
With dry_run (the default of the settings) it changes nothing.
SIGTERM or Ctrl-C ends it; replicas stay where they are."""
EXAMPLE = """
leadtime run --config leadtime.yaml
leadtime run --config leadtime.yaml --once      # one round, to see whether everything can be read
"""

log = logging.getLogger("leadtime")


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
        async def wait(self, stop: asyncio.Event, until_monotonic_s: float) -> None:
            stop.set()

    runtime = build(config, clock=OneRound(), serve_pages=False)
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


# ---------------------------------------------------------------- building


def build(config: Config, clock: Clock | None = None, serve_pages: bool = True) -> Runtime:
    """Everything of a running controller. Errors: LeadtimeError (a state file in use, say); PolicyError."""
    from autoscaler.journal_file import JournalWriter
    from autoscaler.pause import PauseSwitch
    from autoscaler.runtime import Runtime, new_board
    from autoscaler.server import Server
    from autoscaler.state import StateStore

    store = StateStore(config.state_path)
    try:
        controller = _controller(config, store)
        sources, actuators = _ports(config)
        board, pause = new_board(config.controller), PauseSwitch(store)
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
            history=_history(config),
            clock=clock,
        )
    except BaseException:
        store.close()
        raise


def _controller(config: Config, store: StateStore) -> Controller:
    """Goes on from the saved state; what cannot be read any more (another version's) is set aside, and said so."""
    import msgspec

    from autoscaler.controller import Controller
    from autoscaler.controller_state import ControllerState

    saved = store.load_controller()
    if saved is not None:
        try:
            return Controller(config.controller, ControllerState.from_bytes(saved))
        except (LeadtimeError, msgspec.MsgspecError) as error:
            log.warning("%s: begins anew, having learned nothing: %s", store.path, error)
    return Controller(config.controller)


def _ports(config: Config) -> tuple[list[Source], list[Actuator]]:
    from autoscaler.actuators.ray_serve import RayServeActuator
    from autoscaler.actuators.recording import RecordingActuator
    from autoscaler.dashboard_client import DashboardClient
    from autoscaler.sources.node_metrics import NodeMetricsSource
    from autoscaler.sources.ray_dashboard import RayDashboardSource

    sources: list[Source] = []
    actuators: list[Actuator] = []
    for service in config.services:
        place = (service.namespace, service.name)
        suffix = _suffix(service, config)
        client = DashboardClient(service.dashboard, service.token_file, service.ca_file, service.timeout_s)
        sources.append(RayDashboardSource(f"ray_dashboard{suffix}", *place, client))
        sources.append(NodeMetricsSource(f"node_metrics{suffix}", *place, client, timeout_s=service.timeout_s))
        if not config.controller.dry_run:
            actuators.append(RayServeActuator(f"ray_serve{suffix}", *place, client, deadline_s=service.timeout_s))
    sources += _prometheus_sources(config)
    return sources, actuators or [RecordingActuator()]


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


def _prometheus_sources(config: Config) -> list[Source]:
    """One for each service, behind those that read the nodes themselves: it counts where they know nothing."""
    client = _prometheus(config)
    if client is None or config.prometheus is None or not config.prometheus.signals:
        return []
    from autoscaler.sources.prometheus import PrometheusSource

    match = config.prometheus.match
    return [
        PrometheusSource(f"prometheus{_suffix(s, config)}", s.namespace, s.name, client, match) for s in config.services
    ]


def _suffix(service: ServiceConfig, config: Config) -> str:
    """Tells the sources of several services apart."""
    return "" if len(config.services) == 1 else f":{service.namespace}/{service.name}"
