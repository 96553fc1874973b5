"""A real vLLM on this machine's CPU: calibrated from its log and from outside, then a preempting load is predicted.

Only with `make test-vllm` (LEADTIME_VLLM names the virtual environment that vLLM is in). Minutes. The machine may be
busier during the load than it was during calibration: by how much is read off the load's own steps in vLLM's log, and
predictions are judged with that taken out. What a quiet machine gives is in
tests/simulator/calibration/test_calibrate_command.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.capacity.load import load_profile
from simulator.experiments.calibration.fit import predicted_s
from simulator.experiments.calibration.step_log import read_steps
from tests.cli.helpers import leadtime
from tests.vllm.load import counter, replay

VENV = os.environ.get("LEADTIME_VLLM", "")
pytestmark = pytest.mark.skipif(not VENV, reason="only with `make test-vllm`")

ENGINE = "max_num_seqs=8,max_num_batched_tokens=256,block_size=32,kv_tokens=1504,max_model_len=1024,asynchronous=false"
START_S = 400.0


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM with a KV cache of 47 usable blocks: two long sequences fill a third of it."""
    folder = tmp_path_factory.mktemp("vllm")
    binaries = Path(VENV).resolve() / "bin"
    model = Path(__file__).parent / "make_model.py"
    subprocess.run([binaries / "python", model, folder / "small"], check=True, timeout=300)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = "--dtype float32 --max-model-len 1024 --max-num-seqs 8 --max-num-batched-tokens 256 --block-size 32"
    options += " --num-gpu-blocks-override 48 --disable-uvicorn-access-log --enable-logging-iteration-details"
    words = [binaries / "vllm", "serve", folder / "small", "--served-model-name", "small", "--host", "127.0.0.1"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    url, log = f"http://127.0.0.1:{port}", folder / "vllm.log"
    with log.open("w") as file:
        vllm = subprocess.Popen(
            [*words, "--port", str(port), *options.split()],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_healthy(vllm, url, log)
            yield Server(url, log)
        finally:
            os.killpg(vllm.pid, signal.SIGTERM)
            vllm.wait(60)


def wait_until_healthy(vllm: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and vllm.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(1.0)
    pytest.fail(f"vLLM did not come up; the end of its log:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def batches(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Closed batches, measured by `leadtime calibrate ENDPOINT`."""
    out = tmp_path_factory.mktemp("endpoint") / "endpoint.yaml"
    engine = ENGINE.replace("kv_tokens=1504,", "")
    ran = leadtime("calibrate", server.url, "--engine", engine, "--max-minutes", "2.5", "--out", str(out))
    assert ran.code == 0, ran.err
    print(ran.out, ran.err)
    assert load_profile(str(out)).limits.kv_tokens == 1504, "the usable KV cache, as /metrics tells it"
    return out.with_name("endpoint.yaml.progress.csv")


def test_a_preempting_load_is_predicted(server: Server, batches: Path, tmp_path: Path) -> None:
    """From the log and from outside: preemptions, rate and time between tokens, for the machine as it then was."""
    from_log, requests = tmp_path / "log.yaml", tmp_path / "requests.csv"
    words = ("--from-steps", str(server.log), "--requests", str(batches), "--engine", ENGINE, "--out", str(from_log))
    ran = leadtime("calibrate", *words)
    assert ran.code == 0, ran.err
    print(ran.out)
    before = asyncio.run(counter(server.url, "vllm:num_preemptions_total"))
    calibrated_until = server.log.stat().st_size
    replay(server.url, "small", 120, 5.0, requests)
    preempted = asyncio.run(counter(server.url, "vllm:num_preemptions_total")) - before
    assert preempted > 0
    rest = tmp_path / "rest.log"
    rest.write_bytes(server.log.read_bytes()[calibrated_until:])
    for profile in (from_log, batches.with_name("endpoint.yaml")):
        words = ("--profile", str(profile), "--requests", str(requests), "--observed", f"preemptions={preempted:g}")
        print(leadtime("fidelity", *words).out)
        found = json.loads(leadtime("fidelity", *words, "--json").out)
        assert found["observed"]["requests"] == 120
        slower = slower_than(profile, rest)
        error = found["error_fraction"]
        rate, itl = (1 + error["throughput_rps"]) / slower - 1, (1 + error["itl_s"]["p50"]) * slower - 1
        print(f"the load's steps took {slower:.2f} times what {profile.stem} says of them; with that taken out:")
        print(f"throughput {rate:+.1%}, time between tokens p50 {itl:+.1%}, preemptions {error['preemptions']:+.1%}")
        # The queue amplifies small errors of the rate: TTFT is not judged.
        assert abs(rate) < 0.15
        assert abs(itl) < 0.2
        assert abs(error["preemptions"]) < 0.5


def slower_than(profile: Path, log: Path) -> float:
    """How much longer the steps of a log took, all together, than a profile says of the same steps."""
    engine = load_profile(str(profile))
    steps = read_steps([log], engine.limits)
    return float(steps.seconds.sum() / predicted_s(engine.step, steps).sum())
