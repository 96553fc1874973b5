"""`leadtime simulate`: one scenario under one policy. Not for comparing policies (compare.py)."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoscaler.cli.progress import share_done
from autoscaler.cli.text import console, say_json

if TYPE_CHECKING:
    from rich.table import Table

DESCRIPTION = """Run one scenario under one policy in the discrete-event simulator: the same decision code as in the
cluster, against simulated Ray Serve, vLLM engines and nodes. Prints the figures; --out writes everything."""
EXAMPLE = """leadtime simulate preset:quickstart
leadtime simulate my.yaml --policy hpa_ongoing --set deployments.0.replicas.max=12 --json
leadtime simulate preset:lunch-peak --out out/lunch && open out/lunch/report.html"""
_MOST_NAMED = 4
_NODES_GONE = {"nodes_refused": "refused for want of stock", "nodes_preempted": "taken away"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="a scenario file, or preset:NAME")
    parser.add_argument("--policy", metavar="P", help="who decides, instead of the scenario's policy")
    add_override(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all luck, instead of the scenario's")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object and nothing else")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write result, timeline, journal and report there")
    parser.add_argument("--requests", action="store_true", help="with --out: also every request (requests.csv.gz)")


def add_override(parser: argparse.ArgumentParser) -> None:
    """`--set KEY=VALUE`, for commands that read scenarios."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="K=V",
        help="change a key of the scenario, e.g. tick_s=10 or deployments.0.replicas.max=4 (repeatable)",
    )


def run(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError
    from simulator.experiments.league import Job, as_run, judge
    from simulator.experiments.simulation import simulate
    from simulator.outputs import RunFolder
    from simulator.report.page import render
    from simulator.result import to_json
    from simulator.run import Choice, Outputs, make_policy
    from simulator.scenario.load import load_scenario
    from simulator.scenario.overrides import policy_options

    if args.requests and args.out is None:
        raise UsageError("leadtime simulate: --requests needs --out DIR to write to")
    if args.seed is not None and args.seed < 0:
        raise UsageError(f"leadtime simulate: --seed {args.seed}: allowed: a whole number >= 0")
    scenario = load_scenario(args.scenario, args.overrides, args.seed)
    policy = make_policy(scenario, Choice(args.policy, policy_options(args.overrides)))
    left_out: tuple[str, ...] = ()
    with share_done("simulate", scenario.name) as progress:
        if args.out is None:
            result = simulate(scenario, policy, Outputs(progress=progress))
        else:
            with RunFolder(args.out, args.requests) as folder:
                outputs = folder.outputs
                outputs.progress = progress
                result = simulate(scenario, policy, outputs)
                job = Job(args.scenario, tuple(args.overrides), policy.name, scenario.file.seed)
                targets = {str(d.key): d.slo.target_fraction for d in scenario.deployments}
                league = judge([as_run(job, result, targets, folder.strips.strips)])
                command = shlex.join(["leadtime", "simulate", *command_words(args)])
                left_out = folder.finish(result.document(), render(league, command))
    if args.json:
        say_json(to_json(result.document()))
    else:
        _print(result.document(), args.out, left_out)
    return 0


def command_words(args: argparse.Namespace) -> list[str]:
    """The words that give the same run again."""
    words = [args.scenario, *(["--policy", args.policy] if args.policy else [])]
    for text in args.overrides:
        words += ["--set", text]
    return words + (["--seed", str(args.seed)] if args.seed is not None else [])


def _print(document: dict[str, Any], out: Path | None, left_out: tuple[str, ...]) -> None:
    """The figures that matter, as a small table."""
    from rich.table import Table

    from simulator.report.text import dollars, percent, seconds

    d = document
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows: list[tuple[str, str]] = [
        (
            "requests",
            f"{d['requests']:,} ({d['failed']} failed, {d['timed_out']} timed out, {d['unfinished']} unfinished)",
        ),
        ("within the SLO", f"{percent(d['slo_attainment_fraction'])}{_missed(d)}"),
        ("TTFT p50 / p99", f"{seconds(d['ttft_s']['p50'])} / {seconds(d['ttft_s']['p99'])} s"),
        ("time between tokens p50 / p99", f"{seconds(d['itl_s']['p50'])} / {seconds(d['itl_s']['p99'])} s"),
        ("cost", f"{dollars(d['cost_usd'])}, {d['gpu_hours']['billed']:.2f} GPU hours billed"),
        ("GPUs busy of billed", percent(d["gpu_utilization_fraction"], 0)),
        ("cold starts", _cold(d)),
        ("scale ups / downs", f"{d['scale_ups']} / {d['scale_downs']}"),
        ("nodes started", _nodes(d)),
        ("wall time", f"{d['wall']['wall_s']} s, {d['wall']['requests_per_wall_s'] or 0:,.0f} requests/s"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    screen = console(soft_wrap=True)
    knows = " (knows the traffic)" if d["clairvoyant"] else ""
    screen.print(f"{d['scenario']} under {d['policy']}{knows}, seed {d['seed']}")
    screen.print(table)
    if len(d["deployments"]) > 1:
        screen.print(_by_deployment(d["deployments"]))
    for note in d["notes"]:
        screen.print(f"note: {note}")
    if out is not None:
        screen.print(f"report: {out / 'report.html'}")
    if left_out:
        why = "the bill was computed, nobody decided and nothing was served"
        screen.print(f"not written: {', '.join(left_out)} ({why})")


def _missed(d: dict[str, Any]) -> str:
    """Who misses which target, after the share of all requests."""
    from simulator.report.text import share

    if d["reaches_target"]:
        return ""
    if len(d["deployments"]) == 1:
        return f"  misses the target of {share(next(iter(d['deployments'].values()))['target_fraction'])}"
    names = [key for key, one in d["deployments"].items() if not one["reaches_target"]]
    return f"  misses: {', '.join(names) if len(names) <= _MOST_NAMED else f'{len(names)} deployments'}"


def _by_deployment(deployments: dict[str, dict[str, Any]]) -> Table:
    """A line for each deployment: its share, its target, and what its users felt."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from simulator.report.text import percent, seconds, share

    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("deployment", overflow="fold")
    for name in ("in SLO", "target", "", "TTFT p99", "starts", "felt"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, d in deployments.items():
        table.add_row(
            key,
            percent(d["slo_attainment_fraction"]),
            share(d["target_fraction"]),
            "meets" if d["reaches_target"] else "misses",
            f"{seconds(d['ttft_s']['p99'])} s",
            str(d["replica_starts"]),
            str(d["cold_starts_exposed"]),
        )
    return table


def _nodes(d: dict[str, Any]) -> str:
    parts = [f"{d['nodes_started']}, {d['nodes_prewarmed']} of them ahead of need"]
    parts += [f"{d[key]} {words}" for key, words in _NODES_GONE.items() if d[key]]
    return "; ".join(parts)


def _cold(d: dict[str, Any]) -> str:
    parts = [f"{d[f'cold_starts_{kind}']} {kind}" for kind in ("hidden", "exposed", "cancelled")]
    return f"{d['replica_starts']}: {', '.join(parts)}"
