"""`leadtime run`: the controller, live. Not for building it (autoscaler.wiring), nor for its loop."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler import __version__
from autoscaler.cli.logs import set_up_logs
from autoscaler.cli.text import say
from autoscaler.common.errors import LeadtimeError

if TYPE_CHECKING:
    from autoscaler.runtime.loop import Runtime
    from autoscaler.settings.model import Config

DESCRIPTION = """\
Run the controller: every tick it reads the Ray Serve services of the settings file, decides, explains and acts.
With dry_run (the default of the settings) it changes nothing.
SIGTERM or Ctrl-C ends it; replicas stay where they are, and what pre-warming holds is given back."""
EXAMPLE = """
leadtime run --config leadtime.yaml
leadtime run --config leadtime.yaml --once      # one round, to see whether everything can be read
"""

log = logging.getLogger("leadtime")

_ROUNDS_TO_FIND = 4
"""With `--once`: how many rounds services may need to be found and read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, required=True, help="the settings file (YAML)")
    parser.add_argument(
        "--once", action="store_true", help="one round, its outcome on stdout; exit 1 if a source is down"
    )
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")


def run(args: argparse.Namespace) -> int:
    from autoscaler.settings import load_config

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
    from autoscaler.wiring.controller import build

    asyncio.run(build(config).run_until_signalled())
    return 0


def _once(config: Config) -> int:
    from autoscaler.runtime.clock import SystemClock
    from autoscaler.wiring.controller import build

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
    plan, signals = runtime.telemetry.plan, runtime.telemetry.signals
    if plan is None or signals is None:
        raise LeadtimeError("the round failed; the log above says why")
    for source in signals.sources:
        say(f"source {source.name}: {'up' if source.up else 'DOWN'}{': ' + source.why if source.why else ''}")
    for one in plan.deployments:
        say(f"{one.key}: {one.sentence}")
    if not plan.deployments:
        say("no deployments seen")
    return 0 if all(source.up for source in signals.sources) else 1


def _found(runtime: Runtime) -> bool:
    """Whether every source answers and some deployment is seen."""
    plan, signals = runtime.telemetry.plan, runtime.telemetry.signals
    up = signals is not None and all(source.up for source in signals.sources)
    return up and plan is not None and bool(plan.deployments)
