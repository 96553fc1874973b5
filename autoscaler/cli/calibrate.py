"""`leadtime calibrate`: fits an engine profile to step logs, step tables, or a running endpoint.

What is fitted is in simulator/calibration*.py; here are the words of the command line and what is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.progress import at_work, share_done
from autoscaler.cli.text import say, warn
from autoscaler.common.safe_files import write_output

if TYPE_CHECKING:
    from policies.capacity.profile import EngineProfile
    from simulator.experiments.calibration.profile import Calibrated, Engine, Identity
    from simulator.experiments.observed import ClosedBatches

DESCRIPTION = """Fit an engine profile to your own engine: to vLLM's step log (--enable-logging-iteration-details), to
tables of step times, or to an OpenAI-compatible endpoint that is measured with a bounded plan of closed batches. Prints
how well the profile fits, what it only assumes, and where it extrapolates."""
EXAMPLE = """leadtime calibrate --from-steps vllm.log --requests requests.csv \\
    --engine max_num_seqs=16,max_num_batched_tokens=512,block_size=32,kv_tokens=5088,max_model_len=2048 --out mine.yaml
leadtime calibrate --from-tables decode.csv prefill.csv mixed.csv \\
    --select model=Llama-3.1-8B,gpu=h100_sxm,tp=1,dtype=bf16 --engine kv_tokens=432992 --out mine.yaml
leadtime calibrate http://localhost:8000 --engine kv_tokens=432992 --out mine.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("endpoint", nargs="?", metavar="ENDPOINT", help="base URL of an OpenAI-compatible server")
    parser.add_argument("--from-steps", nargs="+", type=Path, metavar="FILE", help="vLLM's log, or a CSV of its steps")
    parser.add_argument("--from-tables", nargs="+", type=Path, metavar="CSV", help="tables: decode, prefill, mixed")
    parser.add_argument("--requests", nargs="+", type=Path, metavar="CSV", help="its requests, or closed batches")
    parser.add_argument("--select", metavar="K=V,..", help="rows of the tables, e.g. model=..,gpu=..,tp=..,dtype=..")
    parser.add_argument("--engine", default="", metavar="K=V,..", help="the engine's limits and scheduling switches")
    parser.add_argument("--like", metavar="P", help="a profile that gives limits, GPUs, start-up, price not said here")
    parser.add_argument("--scale", type=float, metavar="X", help="multiply the tables' times (1): what they leave out")
    parser.add_argument("--form", choices=("affine", "table"), help="form of the step law (the one that fits better)")
    parser.add_argument("--name", metavar="NAME", help="the profile's name (OUT without its ending)")
    parser.add_argument("--gpu", metavar="KIND", help="kind of GPU, e.g. nvidia-h100-80gb")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs of one replica")
    parser.add_argument("--out", type=Path, required=True, metavar="F", help="the profile to write (YAML)")
    add_endpoint_arguments(parser)


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("measuring an endpoint")
    group.add_argument("--model", metavar="NAME", help="the served model (the first of /v1/models)")
    group.add_argument("--api-key-file", type=Path, metavar="F", help="file with the bearer token of the endpoint")
    group.add_argument("--max-minutes", type=float, default=15.0, metavar="M", help="stop measuring after so long (15)")
    group.add_argument("--max-concurrency", type=int, default=64, metavar="N", help="never more at once (64)")


def run(args: argparse.Namespace) -> int:
    from autoscaler.cli.parser import UsageError

    ways = [args.endpoint is not None, args.from_steps is not None, args.from_tables is not None]
    if sum(ways) != 1:
        raise UsageError("leadtime calibrate: say one of ENDPOINT, --from-steps FILE..., --from-tables CSV...")
    if args.select is not None and args.from_tables is None:
        raise UsageError("leadtime calibrate: --select is for --from-tables only")
    if args.scale is not None and (args.from_tables is None or not 0.1 <= args.scale <= 10):
        raise UsageError(f"leadtime calibrate: --scale {args.scale:g}: for --from-tables; allowed: 0.1 to 10")
    if args.gpus is not None and args.gpus < 1:
        raise UsageError(f"leadtime calibrate: --gpus {args.gpus}; allowed: a whole number >= 1")
    if not args.out.parent.is_dir():
        raise UsageError(f"leadtime calibrate: --out {args.out}: no such folder {str(args.out.parent)!r}")
    way = _from_endpoint if args.endpoint is not None else _from_steps if args.from_steps else _from_tables
    _write(way(args), args.out)
    return 0


def _base(args: argparse.Namespace) -> EngineProfile | None:
    from policies.capacity.load import load_profile

    return load_profile(args.like) if args.like else None


def _from_steps(args: argparse.Namespace) -> Calibrated:
    from autoscaler.cli.parser import UsageError
    from simulator.experiments.calibration.fit import fit
    from simulator.experiments.calibration.profile import calibrated, parse_engine
    from simulator.experiments.calibration.step_log import read_steps
    from simulator.experiments.observed import read_measured

    base = _base(args)
    engine = parse_engine(args.engine, base)
    if base is None and "kv_tokens" not in engine.said:
        raise UsageError(
            "leadtime calibrate: --engine kv_tokens=N is needed with --from-steps: the log's KV usage is a share of it"
        )
    measured = [read_measured(path) for path in args.requests or ()]
    steps = read_steps(args.from_steps, engine.limits)
    source = f"engine steps of {_names(args.from_steps)}"
    if measured:
        source += f"; host and API time from {_names(args.requests)}"
    with at_work("fit", source):
        return calibrated(_identity(args, base, source), engine, steps, fit(steps, args.form), measured, base)


def _from_tables(args: argparse.Namespace) -> Calibrated:
    from dataclasses import replace

    from simulator.experiments.calibration.fit import fit, read_tables
    from simulator.experiments.calibration.profile import calibrated, parse_engine, parse_words
    from simulator.experiments.observed import read_measured

    base = _base(args)
    engine = parse_engine(args.engine, base)
    select = parse_words("--select", args.select or "")
    known_kv = base is not None or "kv_tokens" in engine.said
    steps = read_tables(args.from_tables, select, engine.limits.kv_tokens if known_kv else None)
    if args.scale:
        steps = replace(steps, seconds=steps.seconds * args.scale)
    measured = [read_measured(path) for path in args.requests or ()]
    chosen = f" ({', '.join(f'{k}={v}' for k, v in select.items())})" if select else ""
    scaled = f", times {args.scale:g}" if args.scale else ""
    source = f"step tables {_names(args.from_tables)}{chosen}{scaled}"
    identity = _identity(args, base, source, select.get("gpu"), select.get("tp"))
    with at_work("fit", source):
        return calibrated(identity, engine, steps, fit(steps, args.form), measured, base)


def _from_endpoint(args: argparse.Namespace) -> Calibrated:
    import asyncio

    from autoscaler.cli.parser import UsageError
    from simulator.experiments.calibration.profile import calibrated_from_batches

    if args.requests or args.form or args.scale:
        raise UsageError("leadtime calibrate: --requests, --form and --scale do not go with ENDPOINT")
    if not args.endpoint.startswith(("http://", "https://")):
        raise UsageError(f"leadtime calibrate: ENDPOINT {args.endpoint!r}; allowed: http://... or https://...")
    if not 0 < args.max_minutes <= 1440 or not 1 <= args.max_concurrency <= 4096:
        raise UsageError("leadtime calibrate: allowed: --max-minutes above 0 to 1440, --max-concurrency 1 to 4096")
    base = _base(args)
    engine, measured, model = asyncio.run(_measure(args, base))
    source = f"closed batches of {model} measured at an endpoint"
    with at_work("fit", source):
        return calibrated_from_batches(_identity(args, base, source), engine, measured, base)


async def _measure(args: argparse.Namespace, base: EngineProfile | None) -> tuple[Engine, ClosedBatches, str]:
    """The engine, what was measured of it (progress file included), its model."""
    import time

    import aiohttp

    from autoscaler.cli.parser import UsageError
    from autoscaler.common.errors import SourceError
    from simulator.experiments.calibration.client import HttpEndpoint, first_model, kv_tokens
    from simulator.experiments.calibration.endpoint import Patience, Progress, measure, plan
    from simulator.experiments.calibration.profile import parse_engine

    engine = parse_engine(args.engine, base)
    url = args.endpoint.rstrip("/").removesuffix("/v1")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=_headers(args.api_key_file), connector=connector) as session:
        model = args.model or await first_model(session, url)
        if base is None and "kv_tokens" not in engine.said:
            found = await kv_tokens(session, url)
            if found is None:
                raise UsageError(
                    "leadtime calibrate: --engine kv_tokens=N is needed: the endpoint's /metrics does not say"
                )
            engine = engine.holding(found)
        progress = Progress(args.out.with_name(args.out.name + ".progress.csv"), model)
        patience = Patience(time.monotonic() + 60 * args.max_minutes, time.monotonic)
        with share_done("measure", model) as seen:
            batches = plan(engine.limits, args.max_concurrency)
            result = await measure(HttpEndpoint(session, url, model), batches, progress, patience, seen)
    warn(f"{result.done} of {result.planned} batches, {result.resumed} of them from {progress.path}")
    for note in dict.fromkeys([*result.notes, *([f"stopped early: {result.stopped}"] if result.stopped else [])]):
        warn(note)
    measured = progress.batches()
    if measured is None:
        raise SourceError(f"{url}: nothing was measured ({result.stopped or 'no batch fits in the engine'})")
    return engine, measured, model


def _headers(key_file: Path | None) -> dict[str, str]:
    if key_file is None:
        return {}
    from autoscaler.common.errors import InputError
    from autoscaler.common.redaction import remember

    try:
        key = key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--api-key-file {key_file}: cannot be read: {type(error).__name__}") from error
    if not key or not key.isprintable():
        raise InputError(f"--api-key-file {key_file}: allowed: one line with the key")
    remember(key)
    return {"Authorization": f"Bearer {key}"}


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _identity(
    args: argparse.Namespace, base: EngineProfile | None, source: str, gpu: str | None = None, tp: str | None = None
) -> Identity:
    from autoscaler.settings.document.gpu_kinds import UNKNOWN_KIND
    from simulator.experiments.calibration.profile import Identity

    tensor_parallel = int(tp) if tp and tp.isdecimal() else None
    gpus, kind = args.gpus or tensor_parallel, args.gpu or gpu
    copied = [name for name, said in (("gpus", gpus), ("gpu", kind)) if base is not None and not said]
    return Identity(
        args.name or args.out.stem,
        gpus or (base.gpus if base else 1),
        kind or (base.gpu if base else UNKNOWN_KIND),
        source,
        tuple(copied),
    )


def _write(made: Calibrated, out: Path) -> None:
    from autoscaler.settings.document.gpu_kinds import UNKNOWN_KIND
    from policies.capacity.write import profile_yaml

    profile = made.profile
    write_output(out, profile_yaml(profile))
    lines = [
        f"{out}: {profile.name}, step law of form {profile.step.form!r} from {made.basis}",
        f"host time {1e3 * profile.host_s:.2f} ms a step, API time {1e3 * profile.api_s:.2f} ms a request",
        *made.errors,
    ]
    lines += made.assumed
    if profile.gpu == UNKNOWN_KIND:
        lines.append("kind of GPU: not said; `--gpu nvidia-l4` would, as gpu_budget and node_pools[].gpu need it")
    lines += [f"extrapolates {line}" for line in made.extrapolates]
    say(*lines)
