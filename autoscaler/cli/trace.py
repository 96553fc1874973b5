"""`leadtime trace`: describe workload traces, generate them from a recipe, and convert published ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoscaler.cli.text import console, say, say_json

if TYPE_CHECKING:
    from simulator.workload.traces import Floats, RateTrace, RequestTrace

DESCRIPTION = """Workload traces: what is in one, making one up, and reading those that others published."""
EXAMPLE = """leadtime trace describe requests.csv.gz
leadtime trace generate recipe.yaml rates.csv.gz
leadtime trace generate recipe.yaml requests.csv.gz --requests --seed 7
leadtime trace convert --format azure AzureLLMInferenceTrace_conv.csv conv.csv.gz
leadtime trace convert --format vllm-bench --observed result.json requests.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", required=True, metavar="describe|generate|convert")
    describe = commands.add_parser("describe", help="what a trace holds")
    describe.add_argument("file", type=Path, metavar="FILE", help="a requests or rates trace (CSV, .gz)")
    describe.add_argument("--json", action="store_true", help="as one JSON object")
    generate = commands.add_parser("generate", help="make a trace from a recipe")
    generate.add_argument(
        "spec", type=Path, metavar="SPEC", help="YAML with bin_s, duration_s, base_rps, day, week, spikes, bursts, .."
    )
    generate.add_argument("out", type=Path, metavar="OUT", help="the file to write (.csv or .csv.gz)")
    generate.add_argument("--requests", action="store_true", help="single requests instead of rates")
    generate.add_argument("--seed", type=int, default=1, metavar="N", help="seed (1)")
    _add_convert(commands.add_parser("convert", help="a published trace or a benchmark's result as a requests trace"))


def _add_convert(convert: argparse.ArgumentParser) -> None:
    formats = ("azure", "burstgpt", "mooncake", "vllm-bench")
    convert.add_argument("--format", required=True, choices=formats, help="what IN is")
    convert.add_argument("--observed", action="store_true", help="vllm-bench: with latencies, for `leadtime fidelity`")
    convert.add_argument("source", type=Path, metavar="IN", help="the file to read (CSV, JSON or JSON Lines, .gz)")
    convert.add_argument("out", type=Path, metavar="OUT", help="the file to write (.csv or .csv.gz)")


def run(args: argparse.Namespace) -> int:
    return {"describe": _describe, "generate": _generate, "convert": _convert}[args.command](args)


# ---------------------------------------------------------------- describe


def _describe(args: argparse.Namespace) -> int:
    from simulator.result import to_json
    from simulator.workload.traces import kind_of, read_rates, read_requests

    figures = (
        _of_rates(read_rates(args.file)) if kind_of(args.file) == "rates" else _of_requests(read_requests(args.file))
    )
    if args.json:
        say_json(to_json(figures))
        return 0
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in figures.items():
        table.add_row(name, _shown(value))
    screen = console(soft_wrap=True)
    screen.print(str(args.file))
    screen.print(table)
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _of_requests(trace: RequestTrace) -> dict[str, Any]:
    import numpy as np

    length_s = trace.end_s - float(trace.time_s[0])
    counts, _ = np.histogram(trace.time_s, bins=max(int(np.ceil(length_s / 10.0)), 1))
    gaps_s = np.diff(trace.time_s)
    mean_gap_s = float(gaps_s.mean()) if len(gaps_s) else 0.0
    return {
        "kind": "requests",
        "requests": len(trace.time_s),
        "start_s": float(trace.time_s[0]),
        "end_s": trace.end_s,
        **_calendar(float(trace.time_s[0]), trace.end_s),
        "mean_rps": len(trace.time_s) / length_s if length_s > 0 else None,
        "peak_rps_10s": float(counts.max()) / min(10.0, length_s) if length_s > 0 else None,
        "gap_variation": float(gaps_s.std() / mean_gap_s) if mean_gap_s > 0 else None,
        "prompt_tokens": _spread(trace.prompt_tokens),
        "output_tokens": _spread(trace.output_tokens),
    }


def _of_rates(trace: RateTrace) -> dict[str, Any]:
    import numpy as np

    mean = float(trace.rps.mean())
    return {
        "kind": "rates",
        "bins": len(trace.rps),
        "bin_s": trace.bin_s,
        "start_s": trace.start_s,
        "end_s": trace.end_s,
        **_calendar(trace.start_s, trace.end_s),
        "gaps": len(trace.gaps),
        "gap_s": trace.gap_s,
        "requests_expected": float(trace.rps.sum() * trace.bin_s),
        "rps": {**_spread(trace.rps), "min": float(trace.rps.min())},
        "peak_over_mean": float(trace.rps.max()) / mean if mean > 0 else None,
        "day_strength": _day_strength(trace),
        "change_per_bin_over_mean": float(np.abs(np.diff(trace.rps)).mean()) / mean if mean > 0 else None,
    }


def _calendar(start_s: float, end_s: float) -> dict[str, str]:
    """Start and end as dates, where the trace's times count from 1970."""
    from simulator.workload.trace_text import EPOCH_FROM_S, shown_time

    return {} if start_s < EPOCH_FROM_S else {"from": shown_time(start_s), "to": shown_time(end_s)}


def _spread(values: Any) -> dict[str, float]:
    import numpy as np

    p50, p95, p99 = np.quantile(values, (0.5, 0.95, 0.99))
    return {
        "mean": float(np.mean(values)),
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "max": float(np.max(values)),
    }


def _day_strength(trace: RateTrace) -> float | None:
    """Share of the hourly means' variance within days that one common daily profile explains; None under 3 days."""

    per_hour = round(3600.0 / trace.bin_s)
    if per_hour < 1 or abs(per_hour * trace.bin_s - 3600.0) > 1e-6 * 3600.0:
        return None
    days = len(trace.rps) // (24 * per_hour)
    if days < 3:
        return None
    hours: Floats = trace.rps[: days * 24 * per_hour].reshape(days, 24, per_hour).mean(axis=2)
    within = hours - hours.mean(axis=1, keepdims=True)
    total = float((within**2).mean())
    # Corrected for what a mean of `days` random profiles would explain by chance.
    explained = (float((within.mean(axis=0) ** 2).mean()) / total - 1 / days) / (1 - 1 / days) if total > 0 else 0.0
    return max(explained, 0.0)


# ---------------------------------------------------------------- generate


def _generate(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError
    from simulator.kernel.draws import component_seed
    from simulator.scenario.load import read_synthetic
    from simulator.workload.synthetic import generate_for
    from simulator.workload.traces import write_rates, write_requests
    from simulator.workload.workload import Lengths, rate_arrivals, with_means

    if args.seed < 0:
        raise UsageError(f"leadtime trace generate: --seed {args.seed}: allowed: a whole number >= 0")
    spec, prompt, output = read_synthetic(args.spec)
    rates = with_means(generate_for(spec, args.seed, "generate/rates"), prompt, output)
    if not args.requests:
        write_rates(args.out, rates)
        return 0
    if prompt is None or output is None:
        raise UsageError(
            f"leadtime trace generate: {args.spec}: --requests needs prompt_tokens and output_tokens there"
        )
    draws = component_seed(args.seed, "generate/requests")
    stream = rate_arrivals(
        rates, Lengths(prompt, output), start_s=0.0, rate_scale=1.0, repeat=False, duration_s=rates.end_s, seed=draws
    )
    requests = stream.take(rates.end_s)
    write_requests(args.out, requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
    return 0


# ---------------------------------------------------------------- convert


def _convert(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError
    from simulator.workload.convert import convert, write_observed

    if args.observed and args.format != "vllm-bench":
        raise UsageError(
            f"leadtime trace convert: --observed: only for --format vllm-bench; {args.format} has no latencies"
        )
    if args.observed:
        count = write_observed(args.source, args.out)
        say(f"{args.out}: {count:,} observed requests")
        return 0
    made = convert(args.format, args.source, args.out)
    left_out = f"; {made.left_out:,} without tokens left out" if made.left_out else ""
    say(f"{args.out}: {len(made.time_s):,} requests over {made.time_s[-1]:,.0f} s{left_out}")
    return 0
