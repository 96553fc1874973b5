"""The books balance in any scenario: random small fleets, pools, outages and faults, under several policies."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator.experiments.simulation import simulate
from simulator.run import Choice, make_policy
from simulator.scenario.load import load_scenario

POLICIES = ("predictive", "static", "hpa_ongoing", "ray_serve", "knative", "target_tracking", "oracle")


def pool(draw: random.Random, name: str, duration_s: float) -> dict[str, Any]:
    at_s = draw.uniform(0, duration_s)
    return {
        "name": name,
        "gpus_per_node": draw.choice([1, 2]),
        "nodes": {"max": 4, "min": draw.choice([0, 1]), "reserved": draw.choice([0, 1])},
        "provision_s": draw.choice([0, 30]),
        "worker": {"gpus": 1, "start_s": draw.choice([0, 5]), "idle_timeout_s": draw.choice([0, 60])},
        "prewarm": draw.choice(["placeholder", "worker_group", "node_pool", "none"]),
        "price_usd_per_hour": draw.choice([1.0, 10.5]),
        "spot": True,
        "preemption_per_node_hour": draw.choice([0, 60]),
        "scale_down_after_s": draw.choice([0, 60]),
        "stockouts": [{"start_s": at_s, "end_s": at_s + 90, "fraction": draw.choice([0.5, 1.0])}],
    }


def deployment(draw: random.Random, name: str, duration_s: float) -> dict[str, Any]:
    return {
        "name": name,
        "profile": "llama-3.1-8b/h100/tp1",
        "node_pools": ["spot", "other"],
        "replicas": {"min": draw.choice([0, 1]), "max": draw.choice([1, 3])},
        "slo": {"ttft_s": draw.choice([0.1, 2.0])},
        "max_ongoing_requests": draw.choice([1, 4, 256]),
        "request_timeout_s": draw.choice([5, 600]),
        "graceful_shutdown_timeout_s": draw.choice([0, 30]),
        "startup": {"load_s": draw.choice([0, 20]), "init_s": 5},
        "workload": {
            "synthetic": {"bin_s": 10, "duration_s": duration_s, "base_rps": draw.choice([0, 1, 8])},
            "prompt_tokens": draw.choice([1, {"median": 300, "p99": 2500}]),
            "output_tokens": draw.choice([1, {"median": 40, "p99": 200}]),
        },
    }


def fault(draw: random.Random, duration_s: float) -> dict[str, Any]:
    at_s = draw.choice([0, duration_s / 2, duration_s - 0.1, duration_s])
    return {
        "at_s": at_s,
        **draw.choice(
            [
                {"kind": "replica_crash", "deployment": "a/llm", "replicas": 3},
                {"kind": "redeploy", "deployment": "a/llm", "new_image": True, "max_surge_fraction": 0.5},
                {"kind": "source_down", "source": "ray_dashboard", "duration_s": 100},
                {"kind": "api_errors", "duration_s": 100, "fraction": 0.5},
            ]
        ),
    }


def scenario(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    duration_s = draw.choice([60, 201.5, 400])
    restart = {
        "at_s": draw.choice([0, duration_s]),
        "kind": "controller_restart",
        "state": draw.choice(["saved", "lost"]),
    }
    return {
        "version": 1,
        "name": f"random-{seed}",
        "duration_s": duration_s,
        "warmup_s": draw.choice([0, duration_s / 3]),
        "seed": seed,
        "tick_s": draw.choice([1, 5]),
        "deployments": [deployment(draw, name, duration_s) for name in ("a/llm", "b/llm")],
        "node_pools": [pool(draw, name, duration_s) for name in ("spot", "other")],
        "faults": [restart, fault(draw, duration_s), fault(draw, duration_s)],
    }


@pytest.mark.parametrize("seed", range(14))
def test_requests_starts_gpu_time_and_bills_add_up(seed: int, tmp_path: Path) -> None:
    made = scenario(seed)
    path = tmp_path / "random.yaml"
    path.write_text(yaml.safe_dump(made))
    loaded = load_scenario(str(path))
    result = simulate(loaded, make_policy(loaded, Choice(POLICIES[seed % len(POLICIES)])))
    document = result.document()
    for part in (document, *document["deployments"].values()):
        ended = sum(part[name] for name in ("completed", "failed", "timed_out", "unfinished"))
        assert part["requests"] == ended
        starts = sum(part[f"cold_starts_{name}"] for name in ("hidden", "exposed", "cancelled"))
        assert part["replica_starts"] == starts
        assert part["gpu_hours"]["allocated"] >= part["gpu_hours"]["busy"] - 1e-9 >= -1e-9
        within = part["slo_attainment_fraction"]
        assert within is None or -1e-9 <= within * part["requests"] <= part["completed"] + 1e-6
    assert document["requests"] == sum(d["requests"] for d in document["deployments"].values())
    assert document["gpu_hours"]["billed"] >= document["gpu_hours"]["allocated"] - 1e-9
    if document["policy"] != "oracle":  # its bill is that of a plan, in units of the smallest node of each group
        prices = {p["name"]: p["price_usd_per_hour"] for p in made["node_pools"]}
        bill = sum(p.billed_node_s / 3600 * prices[p.name] for p in result.pools)
        assert document["cost_usd"] == pytest.approx(bill)
        most_h = sum(p["nodes"]["max"] for p in made["node_pools"]) * result.window_s / 3600
        assert sum(p.billed_node_s for p in result.pools) / 3600 == pytest.approx(document["node_hours"])
        assert document["node_hours"] <= most_h + 1e-9
