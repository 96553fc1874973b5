"""`leadtime fidelity`: serves observed requests with a profile in the simulator, and compares percentiles."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from autoscaler.cli.text import say, say_json
from autoscaler.common.safe_files import make_output_folder, write_output

DESCRIPTION = """How well an engine profile reproduces requests that were observed on one real engine: every request
is sent to the simulated engine at its own time; percentiles of both are compared (error = simulated / observed - 1,
over rows with status ok). The CSV has arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,mean_itl_s,status; others are
ignored."""
EXAMPLE = """leadtime fidelity --profile mine.yaml --requests requests.csv
leadtime fidelity --profile mine.yaml --requests requests.csv --observed preemptions=71,recomputed_tokens=7848 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", required=True, metavar="F", help="an engine profile: a file or a preset's name")
    parser.add_argument("--requests", required=True, type=Path, metavar="F", help="observed requests (CSV, .gz)")
    parser.add_argument("--observed", metavar="K=V,..", help="observed preemptions=N,recomputed_tokens=N of this run")
    parser.add_argument(
        "--cached-prompt-tokens", type=int, default=0, metavar="N", help="prefix-cache hits of each request (0)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write fidelity.json and quantiles.svg there")


def run(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError
    from policies.capacity.load import load_profile
    from simulator.experiments.fidelity import compare, quantile_plot
    from simulator.experiments.observed import read_observed
    from simulator.result import to_json

    if args.cached_prompt_tokens < 0:
        raise UsageError(f"leadtime fidelity: --cached-prompt-tokens {args.cached_prompt_tokens}; allowed: >= 0")
    counts = _counts(args.observed or "")
    made = compare(load_profile(args.profile), read_observed(args.requests), counts, args.cached_prompt_tokens)
    document = made.document()
    if args.out is not None:
        make_output_folder(args.out)
        write_output(args.out / "fidelity.json", to_json(document, indent=2) + "\n")
        write_output(args.out / "quantiles.svg", quantile_plot(made))
    if args.json:
        say_json(to_json(document))
    else:
        say(*_lines(document, made.simulated.refused))
    return 0


def _counts(text: str) -> dict[str, float]:
    from autoscaler.common.errors import InputError
    from policies.options import nearest
    from simulator.experiments.calibration.profile import parse_words
    from simulator.experiments.fidelity import COUNTS

    counts: dict[str, float] = {}
    for key, word in parse_words("--observed", text).items():
        if key not in COUNTS:
            raise InputError(f"--observed: unknown key {key!r}{nearest(key, COUNTS)} (allowed: {', '.join(COUNTS)})")
        try:
            counts[key] = float(word)
        except ValueError:
            counts[key] = math.nan
        if not 0 <= counts[key] < math.inf:
            raise InputError(f"--observed: {key}: {word!r}; allowed: a number >= 0")
    return counts


def _lines(document: dict[str, Any], refused: int) -> list[str]:
    from autoscaler.cli.text import table
    from simulator.experiments.fidelity import COUNTS, MEASURES

    observed, simulated, errors = document["observed"], document["simulated"], document["error_fraction"]
    rows = [
        [f"{measure} {key}", _shown(observed[measure][key]), _shown(simulated[measure][key]), _error(error)]
        for measure in MEASURES
        for key, error in errors[measure].items()
    ]
    for name in ("throughput_rps", *COUNTS):
        rows.append([name, _shown(observed[name]), _shown(simulated[name]), _error(errors[name])])
    lines = [f"{document['profile']} against {observed['requests']:,} requests of {document['source']}", ""]
    lines += table(["", "observed", "simulated", "error"], rows)
    if refused:
        lines += ["", f"the simulated engine refused {refused} requests that do not fit in it"]
    return lines


def _shown(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{round(value):,}" if float(value).is_integer() else f"{value:.4g}"


def _error(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f} %"
