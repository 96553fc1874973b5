"""`leadtime profiles`: the engine profiles that are shipped, with what one replica of each carries."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from autoscaler.cli.text import console, say_json

DESCRIPTION = (
    "Lists the engine profiles that are shipped: GPUs, limits, how well the step law fits its data, and the requests/s "
    "that one replica carries at a given token mix within the SLO."
)
_MOST_TOKENS = 1_000_000_000
EXAMPLE = "leadtime profiles\nleadtime profiles --prompt-tokens 2000 --output-tokens 300 --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt-tokens", type=float, default=800.0, metavar="N", help="mean prompt tokens (800)")
    parser.add_argument("--output-tokens", type=float, default=200.0, metavar="N", help="mean output tokens (200)")
    parser.add_argument("--ttft-s", type=float, default=2.0, metavar="S", help="SLO: time to first token (2 s)")
    parser.add_argument("--itl-s", type=float, default=0.05, metavar="S", help="SLO: time between tokens (0.05 s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    from autoscaler.common.errors import ConfigError
    from autoscaler.settings.document.blocks import typed_promise
    from policies.base import TokenMix
    from policies.capacity.load import load_profile, preset_names
    from policies.options import exact

    for name in ("prompt_tokens", "output_tokens"):
        value = getattr(args, name)
        if not 0 < value < _MOST_TOKENS:
            allowed = f"a number above 0 and below {_MOST_TOKENS}"
            raise ConfigError(f"--{name.replace('_', '-')}: {exact(value)}; allowed: {allowed}")
    mix, slo = TokenMix(args.prompt_tokens, args.output_tokens), typed_promise(args.ttft_s, args.itl_s)
    rows = [_row(load_profile(name), mix, slo) for name in preset_names()]
    if args.json:
        say_json(json.dumps({"version": 1, "profiles": rows}))
    else:
        _table(rows, args)
    return 0


def _row(profile: Any, mix: Any, slo: Any) -> dict[str, Any]:
    from policies.capacity import capacity

    found = capacity(profile, mix, slo)
    errors = profile.fit.get("error_fraction", {})
    return {
        "name": profile.name,
        "gpu": profile.gpu,
        "gpus": profile.gpus,
        "kv_tokens": profile.limits.kv_tokens,
        "max_num_seqs": profile.limits.max_num_seqs,
        "step_form": profile.step.form,
        "error_fraction": dict(errors),
        "capacity_rps": found.rps,
        "saturation_rps": found.saturation_rps,
        "limiter": found.limiter,
        "price_usd_per_gpu_hour": profile.price_usd_per_gpu_hour,
        "start_median_s": profile.load_s.median_s + profile.init_s.median_s,
        "assumed": list(profile.fit.get("assumed", ())),
        "source": profile.fit.get("source"),
    }


def _table(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    from rich.table import Table

    title = f"one replica at {args.prompt_tokens:g} prompt and {args.output_tokens:g} output tokens, "
    table = Table(title=title + f"TTFT {args.ttft_s:g} s, ITL {args.itl_s:g} s", title_justify="left", box=None)
    for heading in (
        "profile",
        "GPUs",
        "KV tokens",
        "req/s",
        "limited by",
        "saturates",
        "start s",
        "$/GPU h",
        "fit error",
    ):
        table.add_column(heading, justify="left" if heading in ("profile", "limited by") else "right")
    for row in rows:
        errors = row["error_fraction"].values()
        table.add_row(
            row["name"],
            str(row["gpus"]),
            f"{row['kv_tokens']:,}",
            f"{row['capacity_rps']:.3g}",
            row["limiter"],
            f"{row['saturation_rps']:.3g}",
            f"{row['start_median_s']:.0f}",
            f"{row['price_usd_per_gpu_hour']:g}",
            f"{100 * max(errors):.1f} %" if errors else "?",
        )
    console(width=None if sys.stdout.isatty() else 120).print(table)
