"""`leadtime status`: how a running controller and its deployments stand, for people or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from autoscaler.cli.controller_api import add_read_token_argument, add_url_argument, ask
from autoscaler.cli.text import moment, number, percent, say, say_json, span, table
from autoscaler.common.errors import LeadtimeError

DESCRIPTION = "Ask a running controller how it and its deployments stand. `?` means unknown."
EXAMPLE = """
leadtime status
leadtime status --url http://leadtime.internal:8080 --json
"""

_WORTH_SAYING = 1e-3
"""Of a node and hour: less often than every six weeks it is not taken away."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_url_argument(parser)
    add_read_token_argument(parser)
    parser.add_argument("--json", action="store_true", help="the answer as it came: one JSON object")


def run(args: argparse.Namespace) -> int:
    status = ask(args.url, "/api/v1/status", token_file=args.token_file, ca_file=args.ca_file)
    if args.json:
        say_json(json.dumps(status, sort_keys=True))
        return 0
    try:
        lines = list(status_lines(status))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise LeadtimeError(f"{args.url}: the answer has another shape than this version's: {error!r}") from error
    say(*lines)
    return 0


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """The answer of /api/v1/status as text."""
    yield _head(status)
    for outage in status.get("outages", ()):
        yield f"OUTAGE since {moment(outage['since_s'])}: {outage['why']}"
    if status["sources"]:
        yield ""
        rows = [
            (name, "up" if source["up"] else "DOWN", span(source["age_s"]), source["why"])
            for name, source in status["sources"].items()
        ]
        yield from table(("source", "", "age", ""), rows)
    conditions = status.get("conditions", [])
    if conditions:
        yield ""
    for one in conditions:
        whose = f" {one['deployment']}" if one["deployment"] else ""
        yield f"{one['severity'].upper()} {one['name']}{whose}, since {moment(one['since_s'])}:"
        yield f"  {one['why']}; {one['mend']}"
    if status["deployments"]:
        yield ""
        rows4 = [_deployment(key, d) for key, d in status["deployments"].items()]
        head = ("deployment", "replicas", "demand", "one carries", "may come", "SLO met", "waiting", "KV cache")
        yield from table(head, rows4)
    for key, deployment in status["deployments"].items():
        yield ""
        yield from _words(key, deployment, status["now_s"])
    if status["pools"]:
        yield ""
        yield from table(
            ("pool", "busy", "warm", "arriving", "refused", "$/h"), [_pool(n, p) for n, p in status["pools"].items()]
        )
    for name, pool in status["pools"].items():
        often = pool.get("taken_per_node_hour") or 0.0
        if often >= _WORTH_SAYING:
            yield f"pool {name}: a node with replicas on it is taken away {often:.2g} times an hour"
    for hint in status["hints"]:
        yield f"hint {hint['id']} for {hint['deployment']}: {moment(hint['start_at_s'])} to {moment(hint['end_at_s'])}"


def _head(status: Mapping[str, Any]) -> str:
    if status["tick"] is None:
        return "the first tick is not done yet"
    parts = [f"tick {status['tick']}"]
    parts.append("dry run: changes nothing" if status["dry_run"] else "acts")
    if not status["leader"]:
        parts.append("not the leader")
    if status["paused"]:
        parts.append("PAUSED: everything (`leadtime resume` ends it)")
    return ", ".join(parts)


def _deployment(key: str, deployment: Mapping[str, Any]) -> tuple[str, ...]:
    signals = deployment["signals"] or {}
    slo = deployment["slo"] or {}
    met = f"{percent(slo.get('attained_fraction'))} of {percent(slo.get('target_fraction'))}" if slo else "no target"
    return (
        key,
        _replicas(deployment["replicas"]),
        number(signals.get("rate_rps"), "/s"),
        number(deployment["capacity_rps"], "/s"),
        _forecast(deployment["forecast"]),
        met,
        number(signals.get("waiting")),
        percent(signals.get("kv_usage_fraction")),
    )


def _replicas(replicas: Mapping[str, Any]) -> str:
    """`3 running + 1 starting - 1 draining → 5`."""
    text = f"{number(replicas['running'])} running"
    text += f" + {replicas['starting']} starting" if replicas["starting"] else ""
    text += f" - {replicas['draining']} draining" if replicas["draining"] else ""
    planned, target = replicas["planned"], replicas["target"]
    return text + (f" → {planned}" if planned is not None and planned != target else "")


def _forecast(forecast: Mapping[str, Any] | None) -> str:
    """The upper quantile at the farthest horizon: what may come."""
    if forecast is None or not forecast["values_rps"]:
        return "?"
    trust = "" if forecast["calibrated"] else " (not trusted)"
    return f"{number(forecast['values_rps'][-1][-1], '/s')} in {span(forecast['horizons_s'][-1])}{trust}"


def _words(key: str, deployment: Mapping[str, Any], now_s: float) -> Iterator[str]:
    paused = " (PAUSED)" if deployment["paused"] else ""
    yield f"{key}{paused}: {deployment['sentence']}"
    if deployment["blocked"]:
        yield f"  not applied: {deployment['blocked']}"
    signals = deployment["signals"]
    if signals is None or not signals["fresh"]:
        yield f"  not fresh: {(signals or {}).get('why_stale') or 'nothing seen yet'}"
    for start in deployment["starting"]:
        ready_in = span(max(0.0, start["expected_ready_at_s"] - now_s))
        yield f"  a start: {start['stage']}, ready in about {ready_in} ({start['path'].replace('_', ' ')})"
    decision = deployment["last_decision"]
    if decision is not None:
        applied = decision["applied"]
        outcome = "" if applied is None else f" [{applied['outcome']}{': ' + applied['why'] if applied['why'] else ''}]"
        yield f"  since {moment(decision['at_s'])}: {decision['sentence']}{outcome}"


def _pool(name: str, pool: Mapping[str, Any]) -> tuple[str, ...]:
    nodes = pool["nodes"]
    counts = (number(nodes[k]) for k in ("busy", "prewarmed", "arriving", "refused"))
    return (name, *counts, number(pool["cost_usd_per_hour"]))
