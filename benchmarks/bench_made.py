"""Compares profiles that nobody measured (`leadtime profiles make`) with all published runs: by model and GPU.

    python -m benchmarks.bench_made [CSV] [--hits 1] [--from auto|tables|roofline] [--rows]

Every row of quality `ok`: its engine is made from the model's shape, GPU, parallelism and format, with the run's own
limits, then served at the row's rate (at most ten minutes of it). Nothing of it was fitted to these rows but the factor
1.047 for the host. Tables need the extra `leadtime[tables]`; without it everything is made by roofline.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.bench_fidelity import of_run, serve
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.gpus import find_gpu
from simulator.experiments.profiles.make import Way, make_profile
from simulator.experiments.profiles.models import find_model

GPUS = {"H100-80GB-SXM": "h100", "A100-80GB-SXM": "a100", "L40S": "l40s"}
MEASURES = ("e2e_mean_ms", "tpot_derived_ms", "ttft_mean_ms")
LONGEST_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="?", default=Path("../shared/calibration/real_vllm_h100.csv"))
    parser.add_argument("--hits", type=float, default=1.0, help="share of each prompt found in the prefix cache (1)")
    parser.add_argument("--from", dest="way", choices=("auto", "tables", "roofline"), default="auto")
    parser.add_argument("--rows", action="store_true", help="every row beside the means")
    options = parser.parse_args()
    if not options.csv.is_file():
        print(f"{options.csv}: not here; skipped")
        return
    with options.csv.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quality"] == "ok"]
    groups: dict[tuple[str, ...], list[tuple[float, ...]]] = defaultdict(list)
    for row in rows:
        way, errors = judged(row, options.hits, options.way)
        model = find_model(row["model"])
        kind = "experts" if model.experts else "dense"
        groups[f"all {kind}", "", ""].append(errors)
        groups[model.name, f"{GPUS[row['gpu']]}/tp{row['tp']}", way].append(errors)
        if options.rows:
            words = " ".join(f"{error:+.1%}" for error in errors)
            print(
                f"{model.name} {row['gpu']} tp{row['tp']} {row['workload']} {row['request_rate']}/s: {words}",
                flush=True,
            )
    print("| model | GPU | by | rows | e2e, mean error | worst | TPOT | TTFT |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (name, gpu, way), found in sorted(groups.items()):
        off = 100 * np.abs(np.array(found))
        e2e, tpot, ttft = off.mean(axis=0)
        print(
            f"| {name} | {gpu} | {way} | {len(found)} | {e2e:.1f} % | {off[:, 0].max():.1f} % | {tpot:.1f} % "
            f"| {ttft:.1f} % |"
        )


def judged(row: dict[str, str], hits: float, way: Way) -> tuple[str, tuple[float, ...]]:
    """How the profile was made, and the relative errors of end to end, time per token and to the first one."""
    engine = Engine(
        find_model(row["model"]),
        find_gpu(GPUS[row["gpu"]]),
        int(row["tp"]),
        weights="fp8" if row["dtype"] == "fp8" else "bf16",
        max_num_seqs=int(row["max_num_seqs"] or 256),
        max_num_batched_tokens=int(row["max_num_batched_tokens"] or 2048),
        gpu_memory_utilization=float(row["gpu_mem_util"] or 0.9),
    )
    made = make_profile(engine, "made", way=way)
    prompt = round(float(row["prompt_tokens_mean"] or row["prompt_tokens_nominal"]))
    seconds = min(float(row["stage_duration_s"]), LONGEST_S)
    output, cached = int(row["output_tokens"]), round(hits * prompt)
    times_ms = serve(of_run(made.profile, row), float(row["request_rate"]), seconds, prompt, output, cached)
    seen_ms = (float(row[name]) for name in MEASURES)
    return made.way, tuple(simulated / seen - 1 for simulated, seen in zip(times_ms, seen_ms, strict=True))


if __name__ == "__main__":
    main()
