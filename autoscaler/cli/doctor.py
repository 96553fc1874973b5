"""`leadtime doctor`: looks at everything that a controller needs and says, line by line, what is wrong and the mend.

It reads only. What it looks at is in autoscaler/diagnosis.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.text import say
from autoscaler.diagnosis.finding import Finding

if TYPE_CHECKING:
    from autoscaler.settings.model import Config

DESCRIPTION = """\
Check versions, access and metric names. With --config: every Ray service that the settings name or find, whether its
applications may be scaled, what its metrics pages say, and the rights in Kubernetes. It changes nothing.
One line for each check: ok, warn or fail, with what to do about it. Exit 1 when something fails."""
EXAMPLE = """
leadtime doctor
leadtime doctor --config leadtime.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, help="the settings file (YAML) of the controller")


def run(args: argparse.Namespace) -> int:
    from autoscaler.diagnosis.versions import versions

    config = None
    if args.config is not None:
        from autoscaler.settings import load_config

        config = load_config(args.config)
    findings = [*versions(), *(asyncio.run(_of(config)) if config is not None else ())]
    for finding in findings:
        say(str(finding))
    return 1 if any(finding.level == "fail" for finding in findings) else 0


async def _of(config: Config) -> list[Finding]:
    from autoscaler.clients.addresses import TargetRules
    from autoscaler.clients.ray_dashboard import DashboardClient
    from autoscaler.diagnosis.ray_service import service_findings

    findings = [_settings(config)]
    for service in config.services:
        client = DashboardClient(
            service.dashboard, service.token_file, service.ca_file, service.timeout_s, limits=config.reading
        )
        rules = TargetRules(config.reading.allow, client.loopback)
        place = (service.namespace, service.name, client)
        findings += await service_findings(config.controller, *place, service.timeout_s, rules, act=service.act)
    if config.kubernetes is not None:
        from autoscaler.diagnosis.cluster import kubernetes_findings

        findings += await kubernetes_findings(config, config.kubernetes)
    return findings


def _settings(config: Config) -> Finding:
    mode = "dry run, changes nothing" if config.controller.dry_run else "acts"
    return Finding("ok", "settings", f"{config.path}: {mode}, policy {config.controller.policy_name}")
