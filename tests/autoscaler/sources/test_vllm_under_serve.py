"""A node's page and Serve's answer as a real vLLM under ray.serve.llm wrote them, read with our own names and labels.

How they were recorded: docs/decisions/0008-vllm-under-ray-serve.md. What is expected was read off the raw text.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from autoscaler.core.types import DeploymentInventory, DeploymentMetrics
from autoscaler.sources import names
from autoscaler.sources.applications import parse_applications
from autoscaler.sources.exposition import Sample, parse
from autoscaler.sources.join import NodePage, collect
from policies.base import DeploymentKey, ReplicaMetrics

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
PAGE = SAMPLES / "vllm_under_serve.prom"
IDLE = SAMPLES / "vllm_under_serve_idle.prom"
ANSWER = SAMPLES / "vllm_under_serve_applications.json"
IDLE_ANSWER = SAMPLES / "vllm_under_serve_idle_applications.json"
MODEL = DeploymentKey("default", "local", "llm", "LLMServer:tiny")
INGRESS = DeploymentKey("default", "local", "llm", "OpenAiIngress")

TTFT_EDGES = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560 inf"
ITL_EDGES = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80 inf"


@pytest.fixture(scope="module")
def inventories() -> dict[DeploymentKey, DeploymentInventory]:
    return parse_applications(json.loads(ANSWER.read_text()), "default", "local", 5.0)


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, ...]:
    return tuple(parse(PAGE.read_bytes(), names.NAMES))


@pytest.fixture(scope="module")
def metrics(
    inventories: dict[DeploymentKey, DeploymentInventory], samples: tuple[Sample, ...]
) -> dict[DeploymentKey, DeploymentMetrics]:
    return collect({"node": NodePage(6.0, samples)}, inventories, "default", "local", 6.0)


def edges(text: str) -> tuple[float, ...]:
    return tuple(float(edge) for edge in text.split())


def written(name: str, **labels: str) -> float:
    """The one value of that series, found in the raw text and not by our parser."""
    found = [
        line.rpartition(" ")[2]
        for line in PAGE.read_text().splitlines()
        if line.startswith(name + "{") and all(f'{label}="{value}"' in line for label, value in labels.items())
    ]
    assert len(found) == 1, (name, labels, found)
    return float(found[0])


def test_the_builders_deployments_are_found_and_may_be_scaled_from_outside(
    inventories: dict[DeploymentKey, DeploymentInventory],
) -> None:
    assert set(inventories) == {MODEL, INGRESS}
    for inventory in inventories.values():
        assert inventory.external_scaler_enabled is True
        assert inventory.autoscaled_by_serve is False


def test_every_name_that_says_what_current_versions_use_is_on_the_page(samples: tuple[Sample, ...]) -> None:
    used = {value for name, value in vars(names).items() if name.startswith("VLLM_")}
    assert used - {sample.name for sample in samples} == set()


def test_vllms_series_carry_the_replica_and_the_worker_that_the_inventory_lists(
    inventories: dict[DeploymentKey, DeploymentInventory], samples: tuple[Sample, ...]
) -> None:
    (replica,) = inventories[MODEL].replicas
    of_vllm = [sample for sample in samples if sample.name.startswith("ray_vllm_")]
    assert {(s.labels[names.REPLICA_ID], s.labels[names.WORKER_ID]) for s in of_vllm} == {
        (replica.replica_id, replica.worker_id)
    }
    assert {s.labels[names.ENGINE] for s in of_vllm} == {"0"}
    assert not [s for s in of_vllm if names.APPLICATION in s.labels or names.DEPLOYMENT in s.labels]


def test_the_page_joins_to_the_model_and_not_to_the_ingress(metrics: dict[DeploymentKey, DeploymentMetrics]) -> None:
    found = metrics[MODEL]
    (replica,) = found.replicas
    assert replica == ReplicaMetrics(
        replica_id=replica.replica_id,
        ongoing=written(names.SERVE_PROCESSING, deployment="LLMServer:tiny"),
        running=written(names.VLLM_RUNNING),
        waiting=written(names.VLLM_WAITING),
        kv_usage_fraction=written(names.VLLM_KV_USAGE),
    )
    assert replica.running
    assert replica.waiting
    assert replica.kv_usage_fraction
    assert replica.kv_usage_fraction <= 1.0
    assert list(found.arrivals_total.values()) == [written(names.SERVE_ROUTED, deployment="LLMServer:tiny")]
    assert list(found.prompt_tokens_total.values()) == [written(names.VLLM_PROMPT_TOKENS)]
    assert list(found.output_tokens_total.values()) == [written(names.VLLM_OUTPUT_TOKENS)]
    assert list(found.cached_tokens_total.values()) == [written(names.VLLM_CACHED_TOKENS)]
    assert list(found.preemptions_total.values()) == [written(names.VLLM_PREEMPTIONS)]
    ingress = metrics[INGRESS]
    assert list(ingress.arrivals_total.values()) == [written(names.SERVE_ROUTED, deployment="OpenAiIngress")]
    assert not ingress.prompt_tokens_total
    assert not ingress.ttft
    assert ingress.replicas[0].running is None


def test_a_client_that_left_is_no_answer(metrics: dict[DeploymentKey, DeploymentMetrics]) -> None:
    """One client left before this page: vLLM counts its first token and never that it finished."""
    found = metrics[MODEL]
    assert list(found.finished_total.values()) == [written(names.VLLM_FINISHED, finished_reason="length")]
    at_work = written(names.VLLM_RUNNING) + written(names.VLLM_WAITING)
    routed = written(names.SERVE_ROUTED, deployment="LLMServer:tiny")
    assert routed - at_work - sum(found.finished_total.values()) == 1.0


def test_first_token_and_token_times_come_with_vllms_edges_and_their_sums(
    metrics: dict[DeploymentKey, DeploymentMetrics],
) -> None:
    found = metrics[MODEL]
    ((series, ttft),) = found.ttft.items()
    assert ttft.edges == edges(TTFT_EDGES)
    assert ttft.counts[-1] == written(names.VLLM_TTFT_SUM.replace("_sum", "_count")) > 0
    assert list(ttft.counts) == sorted(ttft.counts)
    assert found.ttft_sum_s == {series: written(names.VLLM_TTFT_SUM)}
    ((series, itl),) = found.itl.items()
    assert itl.edges == edges(ITL_EDGES)
    assert itl.counts[-1] == written(names.VLLM_MEAN_ITL_BUCKET.replace("_bucket", "_count")) > 0
    assert found.itl_sum_s == {series: written(names.VLLM_MEAN_ITL_BUCKET.replace("_bucket", "_sum"))}


def test_the_time_between_tokens_has_the_same_edges_and_an_observation_for_each_token(
    samples: tuple[Sample, ...],
) -> None:
    (between,) = [sample.value for sample in samples if sample.name == names.VLLM_ITL_BUCKET]
    assert not isinstance(between, float)
    assert between.edges == edges(ITL_EDGES)
    assert math.isinf(between.edges[-1])
    assert between.counts[-1] > written(names.VLLM_MEAN_ITL_BUCKET.replace("_bucket", "_count"))


def test_an_idle_engine_shows_no_gauges_and_is_still_a_replica_that_reports() -> None:
    """vLLM writes gauges after a step only and Ray forgets them after some 20 s; its counters and Serve's stay."""
    inventories = parse_applications(json.loads(IDLE_ANSWER.read_text()), "default", "local", 60.0)
    page = NodePage(60.0, tuple(parse(IDLE.read_bytes(), names.NAMES)))
    found = collect({"node": page}, inventories, "default", "local", 60.0)[MODEL]
    (replica,) = inventories[MODEL].replicas
    assert found.replicas == (ReplicaMetrics(replica.replica_id, ongoing=0.0, running=None, waiting=None),)
    assert found.replicas[0].kv_usage_fraction is None
    assert (found.ongoing, found.queued_at_handles) == (0.0, 0.0)
    for counted in (found.arrivals_total, found.prompt_tokens_total, found.output_tokens_total, found.finished_total):
        assert sum(counted.values()) > 0
    assert found.ttft
    assert found.itl


def test_the_recording_says_nothing_of_the_machine_it_was_made_on() -> None:
    for file in (PAGE, IDLE, ANSWER, IDLE_ANSWER):
        text = file.read_text()
        assert len(text) < 150_000
        addresses = set(re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text))
        assert addresses <= {"192.0.2.2", "127.0.0.1"}
        assert not re.findall(r"/(?:work|tmp|home|root|usr)\b", text)
