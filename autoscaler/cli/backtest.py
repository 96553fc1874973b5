"""`leadtime backtest`: what leadtime would have done over recorded traffic, in a cluster like a scenario's.

Not for judging forecasters (forecast.py). Recorded rates say how many requests came and when, not how long each was:
lengths are the scenario's, or the file's means by bin; within a bin requests come at random.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoscaler.cli.compare import add_comparison, compare

if TYPE_CHECKING:
    from simulator.scenario.load import Deployment, Scenario
    from simulator.workload.traces import RateTrace

DESCRIPTION = """What leadtime and others would have done over recorded traffic: the rates of a file stand in for a
deployment's traffic in a scenario, which describes the rest (replicas, engine, nodes, start-up, lengths of requests).
What was recorded before --from-s is the forecaster's history; from then on it is played, as `leadtime compare` does."""
EXAMPLE = """leadtime backtest preset:quickstart --rates traffic.csv.gz
leadtime backtest cluster.yaml --rates traffic.csv --deployment chat/llm --from-s 604800 --out out/backtest
leadtime backtest cluster.yaml --rates traffic.csv --policies predictive,hpa_ongoing --set duration_s=21600 --json"""

_DAY_S = 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="the cluster: a scenario file, or preset:NAME")
    parser.add_argument(
        "--rates", type=Path, required=True, metavar="F", help="recorded traffic: a rates trace, timestamp_s,rps"
    )
    parser.add_argument(
        "--deployment",
        metavar="KEY",
        help="whose traffic it was (may be left out where the scenario has one)",
    )
    parser.add_argument(
        "--from-s",
        type=float,
        metavar="T",
        help="the file's time at which playing begins (its last day; its second half where it has less than two days)",
    )
    add_comparison(parser)


def run(args: argparse.Namespace) -> int:
    from simulator.scenario.load import load_scenario
    from simulator.workload.traces import read_rates

    trace = read_rates(args.rates)
    from_s = _begin(trace, args.from_s)
    scenario = load_scenario(args.scenario, args.overrides)
    number, deployment = _whose(scenario, args.deployment)
    where = f"deployments.{number}"
    stated = {
        f"{where}.workload": _workload(deployment, args.rates, from_s),
        f"{where}.history": {"workload": True} if from_s > trace.start_s else None,
        "duration_s": trace.end_s - from_s,
    }
    args.scenarios = [args.scenario]
    args.overrides = [
        *(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in stated.items()),
        *args.overrides,
    ]
    return compare(args, "backtest")


def _begin(trace: RateTrace, asked_s: float | None) -> float:
    """The file's time at which playing begins. Errors: UsageError where that is not within what was recorded."""
    from autoscaler.cli.parser import UsageError
    from policies.options import exact

    length_s = trace.end_s - trace.start_s
    if asked_s is None:
        return trace.end_s - (_DAY_S if length_s >= 2 * _DAY_S else trace.bin_s * max(len(trace.rps) // 2, 1))
    if not trace.start_s <= asked_s < trace.end_s:
        raise UsageError(
            f"leadtime backtest: --from-s {exact(asked_s)}: allowed: seconds from {exact(trace.start_s)} and before "
            f"{exact(trace.end_s)}, which is when {trace.source} was recorded"
        )
    return asked_s


def _whose(scenario: Scenario, wanted: str | None) -> tuple[int, Deployment]:
    """Number and deployment. Errors: UsageError naming those that there are."""
    from autoscaler.cli.parser import UsageError

    names = [str(d.key) for d in scenario.deployments]
    if wanted is None and len(names) == 1:
        return 0, scenario.deployments[0]
    if wanted not in names:
        said = "missing" if wanted is None else repr(wanted)
        raise UsageError(f"leadtime backtest: --deployment: {said}; allowed: {', '.join(names)}")
    number = names.index(wanted)
    return number, scenario.deployments[number]


def _workload(deployment: Deployment, rates: Path, from_s: float) -> dict[str, Any]:
    """The traffic of the file, with the lengths that the scenario states of this deployment's requests."""
    from autoscaler.settings.document.blocks import plain_spread

    stated = deployment.block.workload
    written: dict[str, Any] = {"rates": str(rates), "start_s": from_s}
    for name in ("prompt_tokens", "output_tokens"):
        lengths = getattr(stated, name) or getattr(stated.synthetic, name, None)
        if lengths is not None:
            written[name] = plain_spread(lengths)
    return written
