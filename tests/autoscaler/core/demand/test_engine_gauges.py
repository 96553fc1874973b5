"""An engine without gauges: idle when Serve says so, unknown otherwise; and decisions with such engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoscaler.core.demand.knowledge import engine_gauges
from autoscaler.core.types import DeploymentMetrics
from autoscaler.sources import names
from autoscaler.sources.applications import parse_applications
from autoscaler.sources.exposition import parse
from autoscaler.sources.join import NodePage, collect
from policies.base import DeploymentKey, ReplicaMetrics

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
BUSY = ReplicaMetrics("a", 3.0, 2.0, 1.0, 0.4)


def metrics(*replicas: ReplicaMetrics, tokens: float | None = 100.0) -> DeploymentMetrics:
    counted = {} if tokens is None else {"series": tokens}
    return DeploymentMetrics(as_of_s=0.0, prompt_tokens_total=counted, replicas=replicas)


def test_an_engine_that_shows_nothing_while_serve_counts_nothing_is_idle() -> None:
    assert engine_gauges(metrics(BUSY, ReplicaMetrics("b", 0.0))) == (BUSY, ReplicaMetrics("b", 0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "one",
    [
        ReplicaMetrics("b", 2.0),  # Serve has sent it something: perhaps it hangs
        ReplicaMetrics("b", None),  # Serve says nothing either
        ReplicaMetrics("b", 0.0, running=1.0),  # it shows something
    ],
)
def test_what_cannot_be_told_stays_unknown(one: ReplicaMetrics) -> None:
    assert engine_gauges(metrics(BUSY, one)) == (BUSY, one)


def test_a_deployment_without_engines_has_no_idle_ones() -> None:
    replicas = (ReplicaMetrics("a", 0.0), ReplicaMetrics("b", 0.0))
    assert engine_gauges(metrics(*replicas, tokens=None)) == replicas


def test_the_recorded_page_of_an_idle_vllm_is_read_as_idle() -> None:
    answer = json.loads((SAMPLES / "vllm_under_serve_idle_applications.json").read_text())
    inventories = parse_applications(answer, "default", "local", 60.0)
    page = NodePage(60.0, tuple(parse((SAMPLES / "vllm_under_serve_idle.prom").read_bytes(), names.NAMES)))
    found = collect({"node": page}, inventories, "default", "local", 60.0)
    (model,) = engine_gauges(found[DeploymentKey("default", "local", "llm", "LLMServer:tiny")])
    assert (model.running, model.waiting, model.kv_usage_fraction) == (0.0, 0.0, 0.0)
    (ingress,) = engine_gauges(found[DeploymentKey("default", "local", "llm", "OpenAiIngress")])
    assert ingress.running is None
