"""Small scenarios for tests, as text that can be varied."""

from __future__ import annotations

from pathlib import Path

SMALL = """
version: 1
name: small
duration_s: 300
tick_s: 5
policy: {name: hpa_ongoing}
deployments:
  - name: chat/llm
    profile: llama-3.1-8b/h100/tp1
    node_pool: h100
    replicas: {min: 1, max: 4, initial: 1}
    graceful_shutdown_timeout_s: 30
    startup: {load_s: 10, init_s: 5}
    workload:
      synthetic:
        bin_s: 10
        duration_s: 300
        base_rps: 40
        spikes: [{at_s: 60, width_s: 90, factor: 3}]
        prompt_tokens: {median: 500, p99: 2000}
        output_tokens: {median: 60, p99: 200}
node_pools:
  - name: h100
    gpus_per_node: 1
    nodes: {min: 0, max: 4}
    provision_s: {median: 20, p99: 40}
    image_pull_s: 4
    worker: {start_s: 2, idle_timeout_s: 20}
    scale_down_after_s: 30
    price_usd_per_hour: 10
"""

TWO_TENANTS = """
version: 1
name: two-tenants
duration_s: 240
tick_s: 5
policy: {name: hpa_ongoing}
deployments:
  - name: chat/llm
    profile: llama-3.1-8b/h100/tp1
    node_pools: [spot, h100]
    replicas: {min: 0, max: 5, initial: 1}
    graceful_shutdown_timeout_s: 10
    startup: {load_s: 6, init_s: 2}
    workload: &traffic
      synthetic:
        bin_s: 10
        duration_s: 240
        base_rps: 10
        spikes: [{at_s: 40, width_s: 60, factor: 4}, {at_s: 150, width_s: 40, factor: 0}]
        prompt_tokens: {median: 400, p99: 1500}
        output_tokens: {median: 40, p99: 150}
  - name: code/llm
    profile: qwen3-32b/h100/tp2
    node_pool: h100
    replicas: {min: 1, max: 3}
    startup: {load_s: 6, init_s: 2}
    workload: *traffic
node_pools:
  - name: spot
    gpus_per_node: 2
    nodes: {min: 0, max: 2}
    provision_s: {median: 10, p99: 20}
    image_pull_s: 2
    worker: {gpus: 1, start_s: 2, idle_timeout_s: 10}
    scale_down_after_s: 20
    spot: true
    preemption_per_node_hour: 30
    price_usd_per_hour: 5
    stockouts: [{start_s: 60, end_s: 80, fraction: 1.0}]
  - name: h100
    gpus_per_node: 4
    nodes: {min: 0, max: 3}
    provision_s: {median: 15, p99: 30}
    image_pull_s: 2
    worker: {start_s: 2, idle_timeout_s: 10}
    scale_down_after_s: 20
    price_usd_per_hour: 20
"""


def write(folder: Path, text: str = SMALL, name: str = "scenario.yaml") -> str:
    """A scenario file in `folder`; its path as the loader takes it."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)
