"""Compares presets with measured vLLM runs (published means of vLLM 0.15.1 on H100 and A100): mean e2e, TPOT, TTFT.

    python benchmarks/bench_fidelity.py [CSV] [--hits 1] [--scale 1.047]

Rows of quality `ok` whose model, GPU and tensor parallelism have a preset, with the limits of the run. What the
published runs do not say is an input here and printed beside each row: the prefix hits (`--hits`, the share of each
prompt found in the cache; the runs replayed 100 prompts for 10 to 20 minutes with prefix caching on, so nearly all of
it). Arrivals come at constant rate, outputs have their exact length.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from pathlib import Path

import numpy as np

from policies.capacity import EngineProfile, StepLaw
from policies.capacity.load import load_profile
from simulator.dataplane.plane import DataPlane

PRESETS = {
    ("meta-llama/Llama-3.1-8B-Instruct", "H100-80GB-SXM", "1"): "llama-3.1-8b/h100/tp1",
    ("meta-llama/Llama-3.1-8B-Instruct", "A100-80GB-SXM", "1"): "llama-3.1-8b/a100/tp1",
    ("meta-llama/Llama-3.1-70B-Instruct", "H100-80GB-SXM", "4"): "llama-3.1-70b/h100/tp4",
}
MEASURES = (("e2e", "e2e_mean_ms"), ("tpot", "tpot_derived_ms"), ("ttft", "ttft_mean_ms"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="?", default=Path("../shared/calibration/real_vllm_h100.csv"))
    parser.add_argument("--hits", type=float, default=1.0, help="share of each prompt found in the prefix cache (1)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply all step times (1)")
    parser.add_argument("--quality", default="ok")
    options = parser.parse_args()
    if not options.csv.is_file():
        print(f"{options.csv}: not here; skipped")
        return
    with options.csv.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["quality"] == options.quality and _key(r) in PRESETS]
    print(f"prefix hits {options.hits:.0%} of each prompt, step times x {options.scale:g}")
    heads = "".join(f" {measure} ms seen | simulated | error |" for measure, _ in MEASURES)
    print(f"| run | preset | req/s | prompt/output | hits |{heads}")
    print("| --- |" + " --- |" * (4 + 3 * len(MEASURES)))
    errors: dict[str, list[float]] = {name: [] for name, _ in MEASURES}
    for row in rows:
        errors_of_row = report(row, options.hits, options.scale)
        for name, error in errors_of_row.items():
            errors[name].append(error)
    for name, values in errors.items():
        off = np.abs(values)
        bias = f"mean error {np.mean(values):+.1%} ({len(off)} rows)"
        print(f"{name}: mean absolute error {off.mean():.1%}, worst {off.max():.1%}, {bias}")


def _key(row: dict[str, str]) -> tuple[str, str, str]:
    return row["model"], row["gpu"], row["tp"]


def report(row: dict[str, str], hits: float, scale: float) -> dict[str, float]:
    """Prints one row of the table; the relative errors."""
    name = PRESETS[_key(row)]
    profile = scaled(of_run(load_profile(name), row), scale)
    rate, output = float(row["request_rate"]), int(row["output_tokens"])
    prompt = round(float(row["prompt_tokens_mean"] or row["prompt_tokens_nominal"]))
    times_ms = serve(profile, rate, float(row["stage_duration_s"]), prompt, output, round(hits * prompt))
    simulated = dict(zip(("e2e", "tpot", "ttft"), times_ms, strict=True))
    cells, errors = "", {}
    for measure, column in MEASURES:
        seen = float(row[column])
        errors[measure] = simulated[measure] / seen - 1
        cells += f" {seen:.4g} | {simulated[measure]:.4g} | {errors[measure]:+.1%} |"
    run, stage = row["exp_key"].split("-llama")[0], row["stage"]
    print(f"| {run} {row['workload']} {stage} | {name} | {rate:g} | {prompt}/{output} | {hits:.0%} |{cells}")
    return errors


def of_run(profile: EngineProfile, row: dict[str, str]) -> EngineProfile:
    """The preset with the limits that the run had."""
    known = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
    limits = {name: int(row[name]) for name in known if row[name]}
    if row["kv_blocks_16"]:
        limits["kv_tokens"] = 16 * int(row["kv_blocks_16"])
    return dataclasses.replace(profile, limits=dataclasses.replace(profile.limits, **limits))


def scaled(profile: EngineProfile, scale: float) -> EngineProfile:
    law = profile.step
    knots = tuple((x, scale * y) for x, y in law.knots)
    times = {n: scale * getattr(law, n) for n in ("a_s", "b_s", "c_s", "d_s", "e_s", "h_s")}
    return dataclasses.replace(profile, step=StepLaw(law.form, knots=knots, **times))


def serve(
    profile: EngineProfile, rate: float, seconds: float, prompt: int, output: int, cached: int
) -> tuple[float, float, float]:
    """(mean e2e, TPOT, mean TTFT) in ms at constant rate, the first 60 s left out."""
    count = int(seconds * rate)
    arrival_s = np.arange(count) / rate
    plane = DataPlane(profile, max_ongoing_requests=10**9, request_timeout_s=None, seed=1)
    plane.add_replica(0, 0.0)
    plane.feed(arrival_s, np.full(count, prompt), np.full(count, output), np.full(count, cached))
    plane.advance(1e6)
    done = plane.completed()
    late = done.arrival_s > 60
    e2e_ms, ttft_ms = 1e3 * float(done.e2e_s[late].mean()), 1e3 * float(done.ttft_s[late].mean())
    return e2e_ms, (e2e_ms - ttft_ms) / (output - 1), ttft_ms


if __name__ == "__main__":
    main()
