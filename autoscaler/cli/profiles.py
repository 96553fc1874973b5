"""`leadtime profiles`: the engine profiles that are shipped, with what one replica carries; and `make` for others."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoscaler.cli.text import console, say, say_json

if TYPE_CHECKING:
    from simulator.experiments.profiles.make import Made

DESCRIPTION = (
    "Lists the engine profiles that are shipped: GPUs, limits, how sure the step law is, and the requests/s that one "
    "replica carries at a given token mix within the SLO. `profiles make` writes one for another engine, without a GPU."
)
_MOST_TOKENS = 1_000_000_000
EXAMPLE = """leadtime profiles --model qwen3 --gpu h100
leadtime profiles --prompt-tokens 2000 --output-tokens 300 --json
leadtime profiles make llama-3.3-70b --gpu h100 --tp 4 --quantization fp8 --out mine.yaml
leadtime profiles make path/to/config.json --gpu l4 --out mine.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="TEXT", help="only profiles whose model's name contains this")
    parser.add_argument("--gpu", metavar="TEXT", help="only profiles whose kind of GPU contains this")
    parser.add_argument("--prompt-tokens", type=float, default=800.0, metavar="N", help="mean prompt tokens (800)")
    parser.add_argument("--output-tokens", type=float, default=200.0, metavar="N", help="mean output tokens (200)")
    parser.add_argument("--ttft-s", type=float, default=2.0, metavar="S", help="SLO: time to first token (2 s)")
    parser.add_argument("--itl-s", type=float, default=0.05, metavar="S", help="SLO: time between tokens (0.05 s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    commands = parser.add_subparsers(dest="command", required=False, metavar="[make]")
    _add_make(commands.add_parser("make", help="a profile of an engine that nobody measured"))


def _add_make(make: argparse.ArgumentParser) -> None:
    make.add_argument("shape", metavar="MODEL", help="a model's name, or the path of its config.json")
    make.add_argument("--gpu", required=True, metavar="KIND", help="l4, l40s, a100, h100, h200, b200, rtx-pro-6000")
    make.add_argument("--out", type=Path, required=True, metavar="F", help="the profile to write (YAML)")
    make.add_argument("--tp", type=int, default=1, metavar="N", help="tensor parallelism (1)")
    make.add_argument("--pp", type=int, default=1, metavar="N", help="pipeline stages (1)")
    make.add_argument("--ep", type=int, default=1, metavar="N", help="expert parallelism: 1, or as --tp (1)")
    make.add_argument("--quantization", metavar="FORMAT", help="of the weights: bf16, fp8, int4, ... (the model's)")
    make.add_argument("--kv-dtype", default="bf16", metavar="TYPE", help="of the KV cache: bf16 or fp8 (bf16)")
    make.add_argument("--max-num-seqs", type=int, default=256, metavar="N", help="sequences at once (256)")
    make.add_argument("--max-num-batched-tokens", type=int, metavar="N", help="tokens a step (vLLM's for this GPU)")
    make.add_argument("--max-model-len", type=int, metavar="N", help="longest request (the model's, or what fits)")
    make.add_argument("--gpu-memory-utilization", type=float, default=0.9, metavar="X", help="share of memory (0.9)")
    make.add_argument("--from", dest="way", choices=("auto", "tables", "roofline"), default="auto", help="step times")
    make.add_argument("--name", metavar="NAME", help="the profile's name (OUT without its ending)")
    make.add_argument("--price", type=float, metavar="USD", help="of one GPU and hour (a round list price)")


def run(args: argparse.Namespace) -> int:
    return _make(args) if args.command == "make" else _list(args)


# ---------------------------------------------------------------- make


def _make(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError
    from autoscaler.common.safe_files import write_output
    from policies.capacity.write import profile_yaml

    if not args.out.parent.is_dir():
        raise UsageError(f"leadtime profiles make: --out {args.out}: no such folder {str(args.out.parent)!r}")
    made = made_profile(args, args.name or args.out.stem)
    write_output(args.out, profile_yaml(made.profile))
    say(f"{args.out}: {made.profile.name}", *_lines(made))
    return 0


def made_profile(args: argparse.Namespace, name: str) -> Made:
    """What `make`'s options ask for. Errors: InputError."""
    from dataclasses import replace

    from autoscaler.common.errors import InputError
    from simulator.experiments.profiles.engine import Engine
    from simulator.experiments.profiles.gpus import find_gpu
    from simulator.experiments.profiles.make import make_profile
    from simulator.experiments.profiles.models import find_model

    model, gpu = find_model(args.shape), find_gpu(args.gpu)
    if args.price is not None and not 0 <= args.price <= 1e6:
        raise InputError(f"--price: {args.price:g}; allowed: 0 to 1e+06 USD for a GPU and hour")
    engine = Engine(
        model,
        gpu,
        args.tp,
        args.pp,
        args.ep,
        args.quantization or model.weights,
        args.kv_dtype,
        args.max_num_seqs,
        args.max_num_batched_tokens or max(gpu.batched_tokens, args.max_num_seqs),
        args.gpu_memory_utilization,
    )
    made = make_profile(engine, name, way=args.way, max_model_len=args.max_model_len)
    if args.price is None:
        return made
    assumed = [key for key in made.profile.fit["assumed"] if key != "price_usd_per_gpu_hour"]
    fit = dict(made.profile.fit) | {"assumed": assumed}
    return replace(made, profile=replace(made.profile, price_usd_per_gpu_hour=args.price, fit=fit))


def _lines(made: Made) -> list[str]:
    profile = made.profile
    limits, fit = profile.limits, profile.fit
    errors = ", ".join(f"{kind} {100 * error:.1f} %" for kind, error in fit["error_fraction"].items())
    start_s = profile.load_s.median_s + profile.init_s.median_s
    return [
        f"step times: {fit['source']}",
        f"how sure: {fit['sure']}",
        f"expected error of a step: {errors}" + ("" if made.way == "tables" else ", of the tables"),
        f"KV: {limits.kv_tokens:,} tokens, longest request {limits.max_model_len:,}",
        f"start: {start_s:.0f} s at the median, once its node and image are there",
        f"assumed, not measured: {', '.join(fit['assumed'])}",
    ]


# ---------------------------------------------------------------- list


def _list(args: argparse.Namespace) -> int:
    from autoscaler.common.errors import ConfigError
    from autoscaler.settings.document.blocks import typed_promise
    from policies.base import TokenMix
    from policies.capacity.load import load_profile
    from policies.options import exact

    for name in ("prompt_tokens", "output_tokens"):
        value = getattr(args, name)
        if not 0 < value < _MOST_TOKENS:
            allowed = f"a number above 0 and below {_MOST_TOKENS}"
            raise ConfigError(f"--{name.replace('_', '-')}: {exact(value)}; allowed: {allowed}")
    mix, slo = TokenMix(args.prompt_tokens, args.output_tokens), typed_promise(args.ttft_s, args.itl_s)
    rows = [_row(load_profile(name), mix, slo) for name in _chosen(args.model, args.gpu)]
    if args.json:
        say_json(json.dumps({"version": 1, "profiles": rows}))
    else:
        _table(rows, args)
    return 0


def _chosen(model: str | None, gpu: str | None) -> list[str]:
    """Names of presets that match. Errors: ConfigError with what there is."""
    from autoscaler.common.errors import ConfigError
    from policies.capacity.load import preset_names

    names = list(preset_names())
    for option, part, text in (("--model", 0, model), ("--gpu", 1, gpu)):
        there = sorted({name.split("/")[part] for name in names})
        if text is not None and not any(text.lower() in word for word in there):
            raise ConfigError(f"{option}: {text!r}; allowed: a part of one of {', '.join(there)}")
        names = [name for name in names if text is None or text.lower() in name.split("/")[part]]
    return names


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
        "way": profile.fit.get("way", "tables"),
        "error_fraction": dict(errors),
        "capacity_rps": found.rps,
        "saturation_rps": found.saturation_rps,
        "limiter": found.limiter,
        "price_usd_per_gpu_hour": profile.price_usd_per_gpu_hour,
        "start_median_s": profile.load_s.median_s + profile.init_s.median_s,
        "assumed": list(profile.fit.get("assumed", ())),
        "source": profile.fit.get("source"),
    }


_HEADINGS = ("profile", "KV ktok", "req/s", "limit", "start s", "$/h", "err %")
_LIMITS = {"utilization": "load", "max_num_seqs": "seqs", "token budget": "tokens", "KV cache": "KV"}


def _table(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """At most 80 columns: the price is of a whole replica, the error the worst kind of step's."""
    from rich.table import Table

    title = f"one replica at {args.prompt_tokens:g} prompt and {args.output_tokens:g} output tokens, "
    title += f"TTFT {args.ttft_s:g} s, ITL {args.itl_s:g} s"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in ("profile", "limit") else "right", no_wrap=True)
    for row in rows:
        errors, price = row["error_fraction"].values(), row["price_usd_per_gpu_hour"]
        guess = "~" if row["way"] == "roofline" else ""
        table.add_row(
            row["name"],
            f"{row['kv_tokens'] / 1e3:,.0f}",
            f"{row['capacity_rps']:.3g}",
            _LIMITS.get(row["limiter"], row["limiter"]),
            f"{row['start_median_s']:.0f}",
            "?" if price is None else f"{row['gpus'] * price:.3g}",
            f"{guess}{100 * max(errors):.0f}" if errors else "?",
        )
    console(width=None if sys.stdout.isatty() else 80).print(table)
    say("~: roofline, a first guess; others: measured GPU operations (sources: --json)")
