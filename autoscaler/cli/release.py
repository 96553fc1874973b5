"""`leadtime release`: gives back what pre-warming holds, without a controller. The chart's hook before uninstall."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.logs import set_up_logs
from autoscaler.cli.text import say
from autoscaler.common.errors import ConfigError, InputError
from autoscaler.common.extras import missing

if TYPE_CHECKING:
    from autoscaler.core.types import Applied
    from autoscaler.settings.model import Config

DESCRIPTION = """\
Give back what pre-warming holds of every pool of the settings: placeholders and buffers to 0, floors of worker groups
and node pools to min_nodes, requests withdrawn. Nodes in use stay. Stop the controller first, or it takes them again;
or pause it (--pause), as the chart's hook before an uninstall does.
Exit 1 when something could not be given back; it can be repeated."""
EXAMPLE = """
leadtime release --config leadtime.yaml
leadtime release --config leadtime.yaml --pause    # while its controllers run; `leadtime resume` lets them go on
"""
_TRIES, _PAUSE_S = 4, 3.0
_TICKS_TO_STOP = 2
"""A tick may have begun just before the switch was pulled."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, required=True, help="the settings file (YAML)")
    parser.add_argument(
        "--pause",
        action="store_true",
        help="pull the kill switch of the settings' release first (ConfigMap NAME-pause), so that its controllers, "
        "which run on, take nothing again",
    )
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")


def run(args: argparse.Namespace) -> int:
    from autoscaler.settings import load_config

    config = load_config(args.config)
    set_up_logs(args.log_json)
    if not config.prewarm:
        say("no pool of these settings is pre-warmed: nothing is held")
        return 0
    held = asyncio.run(_work(config, args.pause))
    for one in held:
        say(f"{one.what}: {one.outcome}: {one.why}")
    return 0 if all(one.outcome in ("ok", "unchanged") for one in held) else 1


async def _work(config: Config, pause: bool) -> list[Applied]:
    if pause:
        await pull_switch(config)
        say("paused: everything")
        await asyncio.sleep(_TICKS_TO_STOP * config.controller.tick_s)
    return await released(config)


async def pull_switch(config: Config) -> None:
    """Pause every controller of the release. Errors: InputError without a switch; LeadtimeError when it stays."""
    from autoscaler.sources.kubernetes.pause import set_paused
    from autoscaler.wiring.kubernetes import own_namespace

    if config.kubernetes is None:
        raise InputError("--pause: these settings have no kubernetes, hence no switch; stop the controller instead")
    try:
        from autoscaler.kubernetes.api import connect
    except ImportError as error:
        raise ConfigError(f"--pause: {missing('kube', error)}") from None
    api = connect(config.kubernetes.kubeconfig, config.kubernetes.context)
    try:
        place = config.kubernetes.namespace or own_namespace()
        await set_paused(api, place, f"{config.kubernetes.name}-pause", None, True)
    finally:
        await api.close()


async def released(config: Config, pause_s: float = _PAUSE_S) -> list[Applied]:
    """What came of each pool; tried a few times, since a conflict or an overloaded server passes."""
    from autoscaler.wiring.prewarm import standing_prewarm

    async with standing_prewarm(config) as actuators:
        found: dict[str, Applied] = {}
        for attempt in range(_TRIES):
            left = [a for a in actuators if any(n not in found or _failed(found[n]) for n in a.pool_names)]
            if attempt and left:
                await asyncio.sleep(pause_s)
            for actuator in left:
                found |= {one.what: one for one in (await actuator.release(time.time())).applied}
        return list(found.values())


def _failed(one: Applied) -> bool:
    return one.outcome not in ("ok", "unchanged")
