"""`leadtime doctor`: looks at everything that a controller needs and says, line by line, what is wrong and the mend.

It reads only. The checks of a Ray service are in doctor_ray.py, those of Kubernetes in doctor_kubernetes.py.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from autoscaler.config.model import Config

DESCRIPTION = """\
Check versions, access and metric names. With --config: every Ray service that the settings name or find, whether its
applications may be scaled, what its metrics pages say, and the rights in Kubernetes. It changes nothing.
One line for each check: ok, warn or fail, with what to do about it. Exit 1 when something fails."""
EXAMPLE = """
leadtime doctor
leadtime doctor --config leadtime.yaml
"""
Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, in words, and what to do about it."""

    level: Level
    subject: str
    words: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.subject}: {self.words}" + (f"; {self.mend}" if self.mend else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, help="the settings file (YAML) of the controller")


def run(args: argparse.Namespace) -> int:
    config = None
    if args.config is not None:
        from autoscaler.config import load_config

        config = load_config(args.config)
    findings = [*versions(), *(asyncio.run(_of(config)) if config is not None else ())]
    for finding in findings:
        print(finding)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


async def _of(config: Config) -> list[Finding]:
    from autoscaler.cli.doctor_ray import service_findings

    findings = [_settings(config)]
    for service in config.services:
        place = (service.namespace, service.name, service.dashboard, service.token_file)
        findings += await service_findings(
            config.controller, *place, service.ca_file, service.timeout_s, act=service.act
        )
    if config.kubernetes is not None:
        from autoscaler.cli.doctor_kubernetes import kubernetes_findings

        findings += await kubernetes_findings(config, config.kubernetes)
    return findings


def _settings(config: Config) -> Finding:
    mode = "dry run, changes nothing" if config.controller.dry_run else "acts"
    return Finding("ok", "settings", f"{config.path}: {mode}, policy {config.controller.policy_name}")


def versions() -> Iterator[Finding]:
    """This program, and what is installed beside it; what is not there is not needed here."""
    from autoscaler import __version__
    from autoscaler.versions import RAY, VLLM

    yield Finding("ok", "leadtime", f"{__version__}, for {RAY.name} {RAY.span} and {VLLM.name} {VLLM.span}")
    for supported, package in ((RAY, "ray"), (VLLM, "vllm")):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        yield of_version(f"{package} installed here", supported.name, version)


def of_version(subject: str, name: str, version: str) -> Finding:
    """Where a version lies in the table."""
    from autoscaler.versions import TABLE, dotted

    supported = next(one for one in TABLE if one.name == name)
    place = supported.place(version)
    words = f"{name} {version}"
    if place == "known":
        return Finding("ok", subject, words)
    if place == "too old":
        return Finding(
            "fail", subject, words, f"{dotted(supported.oldest)} or newer is needed: {supported.lacks(version)}"
        )
    return Finding("warn", subject, words, f"{place} (tried: {supported.span})")
