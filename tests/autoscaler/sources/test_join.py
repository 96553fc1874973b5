"""From samples to deployments: who owns a series, what of it counts, and what stays unknown."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.core.types import DeploymentInventory, DeploymentMetrics, Histogram, ReplicaSignal
from autoscaler.sources import names
from autoscaler.sources.applications import parse_applications
from autoscaler.sources.exposition import Sample, parse
from autoscaler.sources.join import NodePage, collect
from policies.base import DeploymentKey, ReplicaMetrics

RAY = Path(__file__).resolve().parents[4] / "shared" / "samples" / "ray"
VLLM = RAY.parent / "vllm"
KEY = DeploymentKey("default", "local", "chat", "llm")
recorded = pytest.mark.skipif(not RAY.exists(), reason="no recorded samples here")


def inventory(*replicas: str) -> DeploymentInventory:
    found = tuple(ReplicaSignal(r, "RUNNING", worker_id=f"worker-{r}") for r in replicas)
    return DeploymentInventory(as_of_s=0.0, target=len(found), replicas=found)


def of_llm(name: str, value: float | Histogram, **labels: str) -> Sample:
    return Sample.of(name, value, application="chat", deployment="llm", **labels)


def joined(*samples: Sample, replicas: tuple[str, ...] = ("a", "b")) -> DeploymentMetrics:
    pages = {"node": NodePage(10.0, samples)}
    return collect(pages, {KEY: inventory(*replicas)}, "default", "local", 12.0)[KEY]


def test_arrivals_are_kept_per_series() -> None:
    found = joined(
        of_llm(names.SERVE_ROUTED, 7.0, handle="h1", route="/a"),
        of_llm(names.SERVE_ROUTED, 5.0, handle="h2", route="/a"),
    )
    assert sorted(found.arrivals_total.values()) == [5.0, 7.0]


def test_the_routers_count_is_preferred_and_never_added_to_the_handles_count() -> None:
    routed, handled = of_llm(names.SERVE_ROUTED, 7.0, handle="h"), of_llm(names.SERVE_HANDLED, 7.0, handle="chat#llm#h")
    assert list(joined(routed, handled).arrivals_total.values()) == [7.0]
    assert list(joined(handled).arrivals_total.values()) == [7.0]


def test_a_counter_that_is_shown_with_and_without_total_counts_once() -> None:
    found = joined(
        Sample.of("ray_vllm_prompt_tokens", 90.0, ReplicaId="a"),
        Sample.of("ray_vllm_prompt_tokens_total", 100.0, ReplicaId="a"),
    )
    assert list(found.prompt_tokens_total.values()) == [100.0]


@pytest.mark.parametrize(
    "name", ["ray_vllm_prompt_tokens_total", "ray_vllm:prompt_tokens_total", "ray_vllm:prompt_tokens"]
)
def test_every_spelling_of_a_vllm_counter_is_read(name: str) -> None:
    assert list(joined(Sample.of(name, 3.0, ReplicaId="a")).prompt_tokens_total.values()) == [3.0]


def test_vllm_is_joined_by_replica_id_or_else_by_worker() -> None:
    found = joined(
        Sample.of(names.VLLM_RUNNING, 2.0, ReplicaId="a", WorkerId="elsewhere"),
        Sample.of(names.VLLM_RUNNING, 3.0, WorkerId="worker-b"),
        Sample.of(names.VLLM_RUNNING, 50.0, ReplicaId="of-nobody", WorkerId="of-nobody"),
    )
    assert [(r.replica_id, r.running) for r in found.replicas] == [("a", 2.0), ("b", 3.0)]


def test_engines_of_one_replica_are_added_and_their_cache_is_averaged() -> None:
    found = joined(
        Sample.of(names.VLLM_RUNNING, 2.0, ReplicaId="a", engine="0"),
        Sample.of(names.VLLM_RUNNING, 3.0, ReplicaId="a", engine="1"),
        Sample.of(names.VLLM_WAITING, 1.0, ReplicaId="a", engine="0"),
        Sample.of(names.VLLM_KV_USAGE, 0.2, ReplicaId="a", engine="0"),
        Sample.of(names.VLLM_KV_USAGE, 0.4, ReplicaId="a", engine="1"),
    )
    (replica,) = found.replicas
    assert (replica.running, replica.waiting) == (5.0, 1.0)
    assert replica.kv_usage_fraction == pytest.approx(0.3)


def test_gauges_of_a_replica_that_is_gone_are_dropped_and_its_counters_are_kept() -> None:
    found = joined(
        of_llm(names.SERVE_PROCESSING, 4.0, replica="a", WorkerId="worker-a"),
        of_llm(names.SERVE_PROCESSING, 9.0, replica="gone", WorkerId="worker-gone"),
        of_llm(names.SERVE_ERRORS, 1.0, replica="gone", WorkerId="worker-gone"),
    )
    assert found.replicas == (ReplicaMetrics("a", ongoing=4.0),)
    assert found.ongoing == 4.0
    assert list(found.errors_total.values()) == [1.0]


def test_the_queue_of_a_dead_ingress_replicas_handle_is_dropped_and_a_proxys_is_kept() -> None:
    ingress = Sample.of(
        names.SERVE_PROCESSING, 1.0, application="chat", deployment="ingress", replica="dead", WorkerId="worker-dead"
    )
    found = joined(
        ingress,
        of_llm(names.SERVE_QUEUED, 30.0, handle="h1", WorkerId="worker-dead"),
        of_llm(names.SERVE_QUEUED, 2.0, handle="h2", WorkerId="proxy"),
    )
    assert found.queued_at_handles == 2.0


def test_no_samples_is_unknown_and_not_zero() -> None:
    found = joined()
    assert (found.queued_at_handles, found.ongoing, found.replicas) == (None, None, ())
    assert (dict(found.arrivals_total), found.as_of_s) == ({}, 12.0)


def test_a_page_is_as_old_as_the_oldest_node_that_served_the_deployment() -> None:
    pages = {
        "fresh": NodePage(100.0, (of_llm(names.SERVE_QUEUED, 1.0, handle="h1"),)),
        "late": NodePage(80.0, (of_llm(names.SERVE_QUEUED, 2.0, handle="h2"),)),
        "other": NodePage(70.0, (Sample.of(names.SERVE_QUEUED, 2.0, application="x", deployment="y"),)),
    }
    found = collect(pages, {KEY: inventory()}, "default", "local", 101.0)[KEY]
    assert (found.as_of_s, found.queued_at_handles, found.silent_pages) == (80.0, 3.0, 0)


def test_a_node_that_is_silent_for_long_is_left_out_and_said_where_others_tell_of_the_deployment() -> None:
    other = DeploymentKey("default", "local", "x", "y")
    pages = {
        "fresh": NodePage(100.0, (of_llm(names.SERVE_QUEUED, 1.0, handle="h1"),)),
        "silent": NodePage(
            40.0,
            (
                of_llm(names.SERVE_QUEUED, 2.0, handle="h2"),
                Sample.of(names.VLLM_PROMPT_TOKENS, 5.0, ReplicaId="a"),
                Sample.of(names.SERVE_QUEUED, 7.0, application="x", deployment="y"),
            ),
        ),
    }
    found = collect(pages, {KEY: inventory("a"), other: inventory()}, "default", "local", 101.0)
    assert (found[KEY].as_of_s, found[KEY].queued_at_handles, found[KEY].silent_pages) == (100.0, 1.0, 1)
    assert found[KEY].prompt_tokens_total == {}
    assert (found[other].as_of_s, found[other].queued_at_handles, found[other].silent_pages) == (40.0, 7.0, 0)


def test_a_page_that_two_targets_show_counts_once() -> None:
    page = NodePage(1.0, (of_llm(names.SERVE_QUEUED, 3.0, handle="h"), of_llm(names.SERVE_ROUTED, 8.0, handle="h")))
    found = collect({"a": page, "b": page}, {KEY: inventory()}, "default", "local", 1.0)[KEY]
    assert (found.queued_at_handles, list(found.arrivals_total.values())) == (3.0, [8.0])


@pytest.mark.parametrize("value", [-1.0, 1e300])
def test_a_gauge_below_zero_or_absurdly_large_is_unknown(value: float) -> None:
    found = joined(of_llm(names.SERVE_QUEUED, value, handle="h"), Sample.of(names.VLLM_RUNNING, value, ReplicaId="a"))
    assert (found.queued_at_handles, found.replicas) == (None, ())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_unknown(value: float) -> None:
    found = joined(of_llm(names.SERVE_QUEUED, value, handle="h"), of_llm(names.SERVE_ROUTED, value, handle="h"))
    assert found.queued_at_handles is None
    assert list(found.arrivals_total.values()) == [-1.0]  # a counter that is there and holds no number


def test_counters_of_a_node_that_was_never_read_before_are_marked_as_baseline() -> None:
    old = NodePage(1.0, (of_llm(names.SERVE_ROUTED, 900.0, handle="h1"),))
    new = NodePage(1.0, (of_llm(names.SERVE_ROUTED, 50_000.0, handle="h2"),), first=True)
    found = collect({"a": old, "b": new}, {KEY: inventory()}, "default", "local", 1.0)[KEY]
    assert {found.arrivals_total[series] for series in found.baseline} == {50_000.0}


def test_only_deployments_of_this_service_are_answered() -> None:
    other = DeploymentKey("prod", "east", "chat", "llm")
    found = collect({}, {KEY: inventory(), other: inventory()}, "prod", "east", 1.0)
    assert list(found) == [other]


def test_requests_that_were_aborted_or_failed_are_no_finished_ones() -> None:
    found = joined(
        *(
            Sample.of(names.VLLM_FINISHED, count, ReplicaId="a", finished_reason=reason)
            for reason, count in {"stop": 5.0, "length": 2.0, "abort": 70.0, "error": 90.0}.items()
        )
    )
    assert sorted(found.finished_total.values()) == [2.0, 5.0]


def test_the_mean_itl_of_requests_is_preferred_to_the_time_between_tokens() -> None:
    mean, single = Histogram((0.1, math.inf), (1.0, 2.0)), Histogram((0.1, math.inf), (100.0, 200.0))
    both = joined(
        Sample.of(names.VLLM_ITL_BUCKET, single, ReplicaId="a"),
        Sample.of(names.VLLM_MEAN_ITL_BUCKET, mean, ReplicaId="a"),
    )
    assert list(both.itl.values()) == [mean]
    old = joined(Sample.of("ray_vllm:time_per_output_token_seconds_bucket", single, ReplicaId="a"))
    assert list(old.itl.values()) == [single]


def test_sums_of_latencies_come_from_the_histogram_that_is_used() -> None:
    mean = names.VLLM_MEAN_ITL_BUCKET.replace("_bucket", "_sum")
    ttft = Sample.of(names.VLLM_TTFT_SUM, 12.5, ReplicaId="a", engine="0")
    every = Sample.of(names.VLLM_ITL_SUM, 30.0, ReplicaId="a", engine="0")
    per_request = Sample.of(mean, 2.0, ReplicaId="a", engine="0")
    found = joined(ttft, every, per_request)
    assert list(found.ttft_sum_s.values()) == [12.5]
    assert list(found.itl_sum_s.values()) == [2.0], "as the mean of each request is preferred to the gaps"
    assert list(joined(every).itl_sum_s.values()) == [30.0]
    assert joined().ttft_sum_s == {}


@recorded
def test_the_recorded_page_under_load_joins_to_its_applications() -> None:
    answer = json.loads((RAY / "applications_loaded.json").read_text())
    inventories = parse_applications(answer.get("body", answer), "default", "local", 5.0)
    page = NodePage(6.0, tuple(parse((RAY / "node_metrics_loaded.prom").read_bytes(), names.NAMES)))
    found = collect({"n": page}, inventories, "default", "local", 6.0)
    llm = found[DeploymentKey.parse("chat/LLMServer")]
    assert (llm.queued_at_handles, llm.ongoing) == (5.0, 4.0)
    assert list(llm.arrivals_total.values()) == [15.0]
    alive = {r.replica_id for r in inventories[DeploymentKey.parse("chat/LLMServer")].replicas}
    assert {r.replica_id for r in llm.replicas} <= alive
    assert found[DeploymentKey.parse("chat/OpenAiIngress")].ongoing == 9.0


@recorded
def test_at_zero_replicas_the_queue_is_still_seen() -> None:
    answer = json.loads((RAY / "applications_zero.json").read_text())
    inventories = parse_applications(answer.get("body", answer), "default", "local", 5.0)
    page = NodePage(6.0, tuple(parse((RAY / "node_metrics_zero_replicas_with_queue.prom").read_bytes(), names.NAMES)))
    llm = collect({"n": page}, inventories, "default", "local", 6.0)[DeploymentKey.parse("chat/LLMServer")]
    assert llm.queued_at_handles is not None
    assert llm.queued_at_handles > 0
    assert all(r.replica_id in alive_ids(inventories) for r in llm.replicas)


def alive_ids(inventories: dict[DeploymentKey, DeploymentInventory]) -> set[str]:
    return {replica.replica_id for inventory in inventories.values() for replica in inventory.replicas}


@recorded
def test_vllms_own_names_through_ray_are_all_read() -> None:
    page = (VLLM / "metrics_preempting.txt").read_text()
    lines = [line for line in page.splitlines() if line.startswith("vllm:")]
    ray_page = "\n".join(
        "ray_" + line.replace("vllm:", "vllm_", 1).replace("{", '{ReplicaId="a",', 1) for line in lines
    )
    found = joined(*parse(ray_page.encode(), names.NAMES))
    (replica,) = found.replicas
    assert None not in (replica.running, replica.waiting, replica.kv_usage_fraction)
    assert sum(found.preemptions_total.values()) > 0
    assert sum(found.prompt_tokens_total.values()) > 0
    assert sum(found.ttft_sum_s.values()) > 0
    assert sum(found.itl_sum_s.values()) > 0
    assert sum(found.output_tokens_total.values()) > 0
    (ttft,), (itl,) = found.ttft.values(), found.itl.values()
    assert ttft.edges[0] == 0.001
    assert itl.edges[0] == 0.01
    assert ttft.counts[-1] >= itl.counts[-1] > 0


@pytest.mark.parametrize(
    ("handles", "replicas", "engines", "all_"),
    [
        (6.0, 6.0, 6.0, 6.0), (0.0, 6.0, 6.0, 6.0), (0.0, 0.0, 4.0, 4.0), (7.0, 6.0, 5.0, 7.0), (5.0, 6.0, 6.0, 5.0),
        (3.0, 60.0, 60.0, 60.0), (0.0, 0.0, 0.0, 0.0),
    ],
)  # fmt: skip
def test_in_flight_is_what_handles_say_unless_another_sees_clearly_more(
    handles: float, replicas: float, engines: float, all_: float
) -> None:
    found = joined(
        of_llm(names.SERVE_ONGOING, handles, handle="fallback"),
        of_llm(names.SERVE_PROCESSING, replicas, replica="a"),
        Sample.of(names.VLLM_RUNNING, engines, ReplicaId="a"),
        Sample.of(names.VLLM_WAITING, 0.0, ReplicaId="a"),
    )
    assert (found.ongoing, found.ongoing_beside_handles) == (all_, all_ - handles)


def test_what_the_front_counts_is_of_the_ingress_alone_without_rejections_and_health_checks() -> None:
    front = (
        Sample.of(names.SERVE_HTTP_REQUESTS, 7.0, application="chat", status_code="200"),
        Sample.of(names.SERVE_HTTP_REQUESTS, 4.0, application="chat", status_code="503"),
        Sample.of(names.SERVE_HTTP_REQUESTS, 9.0, application="other", status_code="200"),
        Sample.of(names.GRPC_REQUESTS, 2.0, application="chat", method="/a.B/Call"),
        Sample.of(names.GRPC_REQUESTS, 60.0, application="chat", method="/ray.serve.RayServeAPIService/Healthz"),
        of_llm(names.SERVE_REPLICA_REQUESTS, 6.0, replica="a"),
        Sample.of(names.VLLM_FINISHED, 5.0, ReplicaId="a", finished_reason="stop"),
        Sample.of(names.VLLM_FINISHED, 1.0, ReplicaId="a", finished_reason="abort"),
    )
    engine = DeploymentKey("default", "local", "chat", "engine")
    inventories = {KEY: replace(inventory("a"), is_ingress=True), engine: inventory("b")}
    found = collect({"node": NodePage(10.0, front)}, inventories, "default", "local", 12.0)
    assert sorted(found[KEY].at_front_total.values()) == [2.0, 7.0]
    assert list(found[KEY].at_replicas_total.values()) == [6.0]
    assert list(found[KEY].finished_total.values()) == [5.0]
    assert list(found[KEY].ended_early_total.values()) == [1.0]
    assert not found[engine].at_front_total
