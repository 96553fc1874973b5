"""`leadtime standby`: a dead man's switch beside the controller. Not for what it decides (policies/standby.py)."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from autoscaler import __version__
from autoscaler.cli.logs import set_up_logs
from autoscaler.common.errors import InputError

DESCRIPTION = """\
Stand in for a controller that is gone. It reads the plan that the controller publishes; while no acting controller has
published one for --after-s, or Serve's targets do not reach the plan for that long, it raises levels to carry what is
in flight, within the same limits, budget and kill switch. It lowers nothing, and stops as soon as the controller acts.
Run it as a process (in Kubernetes: a pod) of its own, with the controller's settings file."""
EXAMPLE = """
leadtime standby --config leadtime.yaml --plan http://127.0.0.1:8080
leadtime standby --config leadtime.yaml --plan http://leadtime.llm:8080 --after-s 300 --port 8080
"""

_LEAST_AFTER_S, _MOST_AFTER_S = 5.0, 86400.0

log = logging.getLogger("leadtime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, required=True, help="the controller's settings file (YAML)")
    parser.add_argument("--plan", metavar="URL", required=True, help="where the controller's pages are")
    parser.add_argument(
        "--after-s", type=float, default=120.0, help="silence after which the standby acts (default: 120)"
    )
    parser.add_argument("--port", type=int, help="of the standby's own pages (default: the controller's port + 1)")
    parser.add_argument("--token-file", metavar="F", type=Path, help="the controller's read token, where it wants one")
    parser.add_argument("--ca-file", metavar="F", type=Path, help="certificates (PEM) to trust for https")
    parser.add_argument(
        "--state",
        metavar="F",
        type=Path,
        help="where it keeps what is paused (default: beside the controller's state file)",
    )
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")


def run(args: argparse.Namespace) -> int:
    from autoscaler.settings import load_config

    if not _LEAST_AFTER_S <= args.after_s <= _MOST_AFTER_S:
        raise InputError(f"--after-s: {args.after_s:g}; allowed: {_LEAST_AFTER_S:g} to {_MOST_AFTER_S:g} seconds")
    config = load_config(args.config)
    port = config.server.port + 1 if args.port is None else args.port
    if not 0 <= port <= 65535:
        raise InputError(f"--port: {port}; allowed: 0 to 65535 (0 takes a free one)")
    set_up_logs(args.log_json)
    from autoscaler.wiring.standby import StandbySettings, build_standby

    settings = StandbySettings(args.plan, args.after_s, port, args.token_file, args.ca_file, args.state)
    runtime = build_standby(config, settings)
    log.info(
        "leadtime %s standby: settings %s, acts after %g s without a plan from %s%s",
        __version__,
        config.path,
        args.after_s,
        args.plan.rpartition("@")[2],
        " (dry run: changes nothing)" if config.controller.dry_run else "",
    )
    asyncio.run(runtime.run_until_signalled())
    return 0
