"""`leadtime demo`: what leadtime does, seen on this machine, in one command.

The demo itself is in leadtime/demo, which the pod's image does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.parser import UsageError
from autoscaler.common.errors import InputError
from autoscaler.common.extras import install
from autoscaler.common.safe_files import make_output_folder

if TYPE_CHECKING:
    from leadtime.demo.spec import Spec

DESCRIPTION = """\
Start a Ray Serve of its own on this machine with emulated vLLM engines (no GPU, no Kubernetes), send it a day of
traffic that takes 150 s, and let leadtime scale it, for real. Then show what users got, beside what they get under
Serve's default autoscaler. Ctrl-C ends it at any time and leaves no process behind."""
EXAMPLE = """
leadtime demo
leadtime demo --baseline live      # the comparison for real as well: 150 s more
leadtime demo --nodes              # GPUs on nodes that have to be made first
leadtime demo --plain | tee demo.log
"""
_LEAST_S, _MOST_S = 10.0, 3600.0
_START_ON_A_NODE_S = (8.0, 10.0)
"""With --nodes: less than without, so that a replica that has to wait for its node takes about as long."""
_DAY_WITH_NODES_S = 240.0
"""Of which the first 150 s are played: a day that is shorter leaves no time to make nodes in."""
_TERMINATED = 128 + signal.SIGTERM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", metavar="N", type=float, help="how long traffic lasts (default: 150, one day)")
    parser.add_argument(
        "--baseline",
        choices=("simulated", "live"),
        default="simulated",
        help="how Serve's default autoscaler is tried on the same traffic: in the simulator, or a second pass for real",
    )
    parser.add_argument("--plain", action="store_true", help="lines of text instead of a live screen")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where journal and scenario go (default: a temporary one)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=None, help="another day's traffic")
    parser.add_argument(
        "--nodes",
        action="store_true",
        help="GPUs are on nodes that Ray's own autoscaler makes when they are wanted; leadtime asks for them ahead",
    )
    # For tests: everything shorter, so that a whole demo fits into a minute.
    parser.add_argument("--day-seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--start-seconds", type=float, nargs=2, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    if importlib.util.find_spec("leadtime") is None:
        raise InputError(
            "leadtime demo: it is not part of the controller's image; install leadtime on your own machine"
        )
    spec = _spec(args)
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray.serve") is None:
        raise InputError(f"leadtime demo: it needs Ray Serve, which is not installed: {install('ray')}")
    folder = _folder(args.out)
    logging.basicConfig(filename=folder / "demo.log", level=logging.INFO, force=True)
    return asyncio.run(_play(spec, args.plain, folder))


def _spec(args: argparse.Namespace) -> Spec:
    from dataclasses import replace

    from leadtime.demo.nodes import Nodes
    from leadtime.demo.spec import Spec
    from policies.options import exact

    spec = Spec(baseline=args.baseline)
    if args.nodes:
        if not sys.platform.startswith("linux"):
            raise UsageError("leadtime demo: --nodes: nodes are on loopback addresses that only Linux has")
        if args.baseline == "live":
            raise UsageError("leadtime demo: --baseline: live; allowed with --nodes: simulated")
        spec = replace(
            spec, nodes=Nodes(), start_s=_START_ON_A_NODE_S, day_s=_DAY_WITH_NODES_S, bin_s=_DAY_WITH_NODES_S / 30
        )
    if args.seconds is not None:
        if not _LEAST_S <= args.seconds <= _MOST_S:
            raise UsageError(f"leadtime demo: --seconds: {exact(args.seconds)}; allowed: {_LEAST_S:g} to {_MOST_S:g}")
        spec = replace(spec, seconds=args.seconds)
    if args.seed is not None:
        spec = replace(spec, seed=args.seed)
    if args.day_seconds is not None:
        spec = replace(spec, day_s=args.day_seconds, bin_s=args.day_seconds * spec.bin_s / spec.day_s)
    if args.start_seconds is not None:
        spec = replace(spec, start_s=tuple(args.start_seconds))
    return spec


def _folder(out: Path | None) -> Path:
    if out is None:
        return Path(tempfile.mkdtemp(prefix="leadtime-demo-"))
    try:
        make_output_folder(out)
    except OSError as error:
        raise UsageError(f"leadtime demo: --out {out}: {(error.strerror or str(error)).lower()}") from None
    return out.resolve()


async def _play(spec: Spec, plain: bool, folder: Path) -> int:
    """Play it; SIGTERM and a closed terminal end it like Ctrl-C does, in order."""
    from autoscaler.wiring.controller import build
    from leadtime.demo.play import Demo
    from leadtime.demo.screens import make_screen

    screen = make_screen(plain, len(spec.demands))
    task = asyncio.current_task()
    assert task is not None
    told: list[int] = []

    def end(number: int) -> None:
        if not told:  # once is enough: ending takes a moment, and must not be interrupted
            told.append(number)
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    try:
        await Demo(spec, build, screen, folder).play()
    except asyncio.CancelledError:
        if not told:
            raise
        screen.close()
        screen.say(["ended: no process is left behind"])
        return 128 + told[0]
    finally:
        screen.close()
    return 0
