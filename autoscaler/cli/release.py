"""`leadtime release`: gives back what pre-warming holds, without a controller. The chart's hook before uninstall."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.logs import set_up_logs

if TYPE_CHECKING:
    from autoscaler.config_convert import Config
    from autoscaler.model import Applied

DESCRIPTION = """\
Give back what pre-warming holds of every pool of the settings: placeholders and buffers to 0, floors of worker groups
and node pools to min_nodes, requests withdrawn. Nodes in use stay. Stop the controller first, or it takes them again.
Exit 1 when something could not be given back; it can be repeated."""
EXAMPLE = """
leadtime release --config leadtime.yaml
"""
_TRIES, _PAUSE_S = 4, 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, required=True, help="the settings file (YAML)")
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON objects")


def run(args: argparse.Namespace) -> int:
    from autoscaler.config import load_config

    config = load_config(args.config)
    set_up_logs(args.log_json)
    if not config.prewarm:
        print("no pool of these settings is pre-warmed: nothing is held")
        return 0
    held = asyncio.run(released(config))
    for one in held:
        print(f"{one.what}: {one.outcome}: {one.why}")
    return 0 if all(one.outcome in ("ok", "unchanged") for one in held) else 1


async def released(config: Config, pause_s: float = _PAUSE_S) -> list[Applied]:
    """What came of each pool; tried a few times, since a conflict or an overloaded server passes."""
    from autoscaler.cli.run import standing_prewarm

    actuators, close = standing_prewarm(config)
    try:
        found: dict[str, Applied] = {}
        for attempt in range(_TRIES):
            left = [a for a in actuators if any(found.get(n) is None or _failed(found[n]) for n in a.pool_names)]
            if attempt and left:
                await asyncio.sleep(pause_s)
            for actuator in left:
                found |= {one.what: one for one in (await actuator.release(time.time())).applied}
        return list(found.values())
    finally:
        for actuator in actuators:
            await actuator.close()
        await close()


def _failed(one: Applied) -> bool:
    return one.outcome not in ("ok", "unchanged")
