"""Records what a real vLLM under ray.serve.llm shows: python -m tests.vllm.record_under_serve MODEL FOLDER.

Writes a node's page (only what the tests look at) and Serve's answer, twice: under load as FOLDER/vllm_under_serve.prom
and vllm_under_serve_applications.json, and long after the last request as vllm_under_serve_idle*. Runs in the virtual
environment of vLLM with Ray added (docs/decisions/0008-vllm-under-ray-serve.md says how); not a test, and not for
measuring: the machine is too small.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autoscaler.sources.names import (
    ROLES,
    VLLM_FINISHED,
    VLLM_PREEMPTIONS,
    VLLM_PROMPT_TOKENS,
    VLLM_RUNNING,
    VLLM_TTFT_SUM,
    VLLM_WAITING,
)
from tests.live.local_serve import LocalServe, local_serve

KV_BLOCKS = 24
"""So few that three sequences of some 400 tokens preempt each other."""

ENGINE = {
    "dtype": "float32", "max_model_len": 544, "max_num_seqs": 3, "max_num_batched_tokens": 256, "block_size": 32,
    "num_gpu_blocks_override": KV_BLOCKS, "enforce_eager": True,
}  # fmt: skip
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
ALSO = re.compile(
    "ray_vllm_(num_requests_waiting_by_reason|engine_sleep_state|cache_config_info|prompt_tokens_by_source"
    "|prefix_cache_queries|e2e_request_latency_seconds|iteration_tokens_total)|ray_serve_num_http_requests"
)
WATCHED = (VLLM_RUNNING, VLLM_WAITING, VLLM_PROMPT_TOKENS, VLLM_TTFT_SUM, "ray_vllm_engine_sleep_state")
START_S = 600.0
IDLE_S = 50.0


def application(model: str) -> dict[str, object]:
    """`num_replicas` in both: without it the builder sets an autoscaling_config that fights an external scaler."""
    one = {
        "model_loading_config": {"model_id": "tiny", "model_source": model},
        "accelerator_config": {"kind": "cpu"},
        "deployment_config": {"num_replicas": 1},
        "engine_kwargs": ENGINE,
    }
    arguments = {"llm_configs": [one], "ingress_deployment_config": {"num_replicas": 1}}
    return {"name": "llm", "route_prefix": "/", "import_path": "ray.serve.llm:build_openai_app",
            "external_scaler_enabled": True, "args": arguments}  # fmt: skip


def asked(prompt: str, tokens: int) -> str:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True}
    return json.dumps(body | {"temperature": 0, "stream": True})


def ask(serve: LocalServe, prompt: str, tokens: int) -> None:
    url, headers = serve.http + "/v1/completions", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=asked(prompt, tokens).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer.read()


def leave(serve: LocalServe) -> None:
    """A client that goes away in the middle of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", serve.http_port, timeout=60)
    connection.request("POST", "/v1/completions", asked("I leave", 400), {"Content-Type": "application/json"})
    connection.getresponse().read(200)
    connection.close()


def page_of(serve: LocalServe) -> str:
    with urllib.request.urlopen(serve.metrics, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def page_under_load(serve: LocalServe) -> str:
    """A page on which requests run and wait, some have finished, some were preempted; one client had left before."""
    for tokens in (8, 12, 16):
        ask(serve, "hello there " * 6, tokens)
    leave(serve)
    with ThreadPoolExecutor(6) as pool:
        held = [pool.submit(ask, serve, f"{number} held request " * 8, 300) for number in range(6)]
        while not all(request.done() for request in held):
            time.sleep(1.0)
            page = page_of(serve)
            at_work = [re.search(rf"^{name}{{.*}} [1-9]", page, re.MULTILINE) for name in (VLLM_RUNNING, VLLM_WAITING)]
            if all(at_work) and VLLM_PREEMPTIONS in page and VLLM_FINISHED in page:
                return page
    raise AssertionError("no page with waiting, preempted and finished requests: more load, or fewer blocks")


def page_when_idle(serve: LocalServe) -> str:
    """The page after IDLE_S without a request; says on the way which metrics are on it and which are not."""
    started = time.monotonic()
    while time.monotonic() - started < IDLE_S:
        page = page_of(serve)
        names = set(re.findall(r"^(ray_vllm_\w+)", page, re.MULTILINE))
        shown = ", ".join(f"{name} {'yes' if name in names else 'no'}" for name in WATCHED)
        print(f"idle for {time.monotonic() - started:.0f} s: {shown}", flush=True)
        time.sleep(4.0)
    return page


def trimmed(page: str) -> str:
    families = {re.sub("_(bucket|sum)$", "", name) for name in ROLES}
    kept = []
    for line in page.splitlines():
        found = re.match(r"(?:# \w+ )?(\w+)", line)
        name = found[1] if found else ""
        if name in ROLES or re.sub("_(bucket|sum|count)$", "", name) in families or ALSO.match(name):
            kept.append(line)
    return anonymous("\n".join(kept) + "\n")


def anonymous(text: str) -> str:
    """Every address but loopback becomes one of those that are kept for documentation."""
    return re.sub(r"\b(?!127\.0\.0\.1\b)\d{1,3}(?:\.\d{1,3}){3}\b", "192.0.2.2", text)


def save(stem: Path, page: str, serve: LocalServe) -> None:
    answer: dict[str, Any] = json.loads(serve.request("GET", "/api/serve/applications/")[1])
    config = answer["applications"]["llm"]["deployed_app_config"]["args"]["llm_configs"][0]
    config["model_loading_config"]["model_source"] = "/models/tiny"
    stem.with_name(stem.name + ".prom").write_text(trimmed(page))
    stem.with_name(stem.name + "_applications.json").write_text(anonymous(json.dumps(answer, indent=1)) + "\n")


def main(model: str, folder: Path) -> None:
    os.environ.update(SETTINGS)
    with local_serve() as serve:
        serve.deploy(application(model))
        seconds = serve.wait("LLMServer:tiny running", lambda: serve.running("llm", "LLMServer:tiny") == 1, START_S)
        print(f"running after {seconds:.0f} s")
        save(folder / "vllm_under_serve", page_under_load(serve), serve)
        save(folder / "vllm_under_serve_idle", page_when_idle(serve), serve)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
