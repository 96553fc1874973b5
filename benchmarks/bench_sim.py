"""Times whole scenarios on one core: traffic, telemetry, controller, cluster, engines; a process for each job.

    python benchmarks/bench_sim.py [--job a|b|c|d]... [--duration-s S] [--vidur PATH]

Jobs are fixed files in benchmarks/jobs, run as `leadtime simulate FILE` does, without any output files:
    a   8 x llama-3.1-8b/h100/tp1, 100 req/s Poisson, lengths of mean 512 / 128, 1 h
    b   100 deployments of 2 req/s on average, 24 h, tick 10 s, predictive in the loop
    c   the traffic of (a) for 7 days
    d   Vidur (a checkout of microsoft/vidur by --vidur or $VIDUR_PATH, else an installed package) on its own job of
        10,000 requests on 4 replicas, in the same run, as a ratio to (a); skipped, and said so, where it is absent

Printed: requests and simulated seconds per wall second (the kernels' compilation or loading is not in it, drawing the
traffic is), the mean of Controller.step (wall and CPU: they differ on a
busy machine), peak memory of the whole process. `--duration-s` shortens jobs for a look.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import RATES, Timed, peak_mb

_JOBS = Path(__file__).parent / "jobs"
_FILES = {"a": "a-steady.yaml", "b": "b-hundred.yaml", "c": "c-week.yaml"}
_WARM_UP_S = 60.0
_VIDUR_REQUESTS = 10_000
_VIDUR_ARGUMENTS = (
    "--replica_config_device a100 --replica_config_model_name meta-llama/Llama-2-7b-hf --cluster_config_num_replicas 4 "
    "--replica_config_tensor_parallel_size 1 --replica_config_num_pipeline_stages 1 "
    "--request_generator_config_type synthetic "
    f"--synthetic_request_generator_config_num_requests {_VIDUR_REQUESTS} "
    "--length_generator_config_type fixed --fixed_request_length_generator_config_prefill_tokens 512 "
    "--fixed_request_length_generator_config_decode_tokens 128 --interval_generator_config_type poisson "
    "--poisson_request_interval_generator_config_qps 32 --replica_scheduler_config_type vllm "
    "--no-metrics_config_write_metrics --no-metrics_config_store_plots --no-metrics_config_enable_chrome_trace"
)


@dataclasses.dataclass(frozen=True)
class JobRun(Timed):
    step_ms: float
    step_cpu_ms: float
    steps: int
    peak_mb: float


def play(job: str, duration_s: float | None) -> JobRun:
    """One job in this process. The clock starts when the scenario is read and the kernels are there."""
    import numpy as np

    from autoscaler.core.controller import Controller
    from autoscaler.core.types import Plan, Signals
    from simulator.experiments.simulation import simulate
    from simulator.run import Choice, make_policy
    from simulator.scenario.load import load_scenario

    file = str(_JOBS / _FILES[job])
    warm = load_scenario(file, [f"duration_s={_WARM_UP_S:g}"])
    simulate(warm, make_policy(warm, Choice()))
    scenario = load_scenario(file, [] if duration_s is None else [f"duration_s={duration_s:g}"])

    steps_s: list[tuple[float, float]] = []
    step = Controller.step

    def timed(self: Controller, signals: Signals, now_s: float) -> Plan:
        begun, begun_cpu = time.perf_counter(), time.thread_time()
        plan = step(self, signals, now_s)
        steps_s.append((time.perf_counter() - begun, time.thread_time() - begun_cpu))
        return plan

    Controller.step = timed  # type: ignore[method-assign]
    begun, begun_cpu = time.perf_counter(), time.process_time()
    result = simulate(scenario, make_policy(scenario, Choice()))
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    requests = sum(d.outcomes.requests for d in result.deployments)
    step_ms, step_cpu_ms = np.array(steps_s).mean(axis=0) * 1000
    return JobRun(
        requests, wall_s, cpu_s, scenario.duration_s, float(step_ms), float(step_cpu_ms), len(steps_s), peak_mb()
    )


def apart(job: str, duration_s: float | None) -> JobRun:
    """One job in a process of its own, so that peak memory is that of the job."""
    command = [sys.executable, __file__, "--one", job]
    command += [] if duration_s is None else ["--duration-s", f"{duration_s:g}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_one_core())
    return JobRun(**json.loads(done.stdout.splitlines()[-1]))


def _one_core() -> dict[str, str]:
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(threads, "1")}


def vidur_requests_per_wall_s(path: Path | None) -> float | str:
    """Requests per wall second of Vidur's own job, its start included; or in words why there is none."""
    if path is None and importlib.util.find_spec("vidur") is None:
        return "not installed, and neither --vidur nor VIDUR_PATH names a checkout"
    if path is not None and not (path / "vidur" / "main.py").exists():
        return f"{path} holds no vidur/main.py"
    python = path / ".venv" / "bin" / "python" if path is not None else Path(sys.executable)
    command = [str(python) if python.exists() else sys.executable, "-m", "vidur.main", *_VIDUR_ARGUMENTS.split()]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=path, env=_one_core(), capture_output=True, text=True, check=False)
    if done.returncode:
        return f"it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"
    return _VIDUR_REQUESTS / (time.perf_counter() - begun)


def show_vidur(path: Path | None, fastest: JobRun | None) -> None:
    found = vidur_requests_per_wall_s(path)
    if isinstance(found, str):
        print(f"d    skipped: Vidur is {found}" if path is None else f"d    skipped: Vidur: {found}")
        return
    ratio = f"; (a) is {fastest.requests_per_wall_s / found:,.0f} times that" if fastest else ""
    print(f"d    Vidur, 10,000 requests on 4 replicas: {found:,.0f} requests/wall s{ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", action="append", choices=("a", "b", "c", "d"), help="only these (default: all)")
    parser.add_argument("--duration-s", type=float, help="of each job, instead of its own")
    parser.add_argument("--vidur", type=Path, default=os.environ.get("VIDUR_PATH"), help="a checkout of Vidur")
    parser.add_argument("--one", choices=tuple(_FILES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(dataclasses.asdict(play(options.one, options.duration_s))))
        return
    wanted = options.job or ["a", "b", "c", "d"]
    head = (*RATES, "step wall ms", "step CPU ms", "steps", "peak MB", "wall s")
    print(f"{'job':<4}" + "".join(f"{name:>16}" for name in head) + f"{'requests':>14}", flush=True)
    outcomes: dict[str, JobRun] = {}
    for job in (j for j in wanted if j in _FILES):
        o = outcomes[job] = apart(job, options.duration_s)
        print(
            f"{job:<4}{o.rates()}{o.step_ms:>16.2f}{o.step_cpu_ms:>16.2f}{o.steps:>16,}{o.peak_mb:>16,.0f}{o.wall_s:>16.1f}"
            f"{o.requests:>14,}",
            flush=True,
        )
    if "d" in wanted:
        show_vidur(options.vidur, outcomes.get("a"))


if __name__ == "__main__":
    main()
