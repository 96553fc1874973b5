"""The metrics that are read from Ray's node pages, by what they mean; the simulator makes its samples with these names.

One meaning may have several names: vLLM renamed metrics, Ray writes `:` or `_`, counters come with and without
`_total`. `ROLES` maps every accepted name to its meaning; the constants are the names that current versions use.
Labels: `APPLICATION`, `DEPLOYMENT` and, by metric, `REPLICA` or `HANDLE` on Serve's; `REPLICA_ID` or `WORKER_ID` on
vLLM's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

APPLICATION = "application"
DEPLOYMENT = "deployment"
REPLICA = "replica"
HANDLE = "handle"
WORKER_ID = "WorkerId"
REPLICA_ID = "ReplicaId"
ENGINE = "engine"
SESSION = "SessionName"
FINISHED_REASON = "finished_reason"
EDGE = "le"

GOOD_FINISHES = frozenset({"stop", "length", "repetition"})
"""Values of `finished_reason` that are answers; `abort` is a client that left, `error` a failure."""

# Serve's own (labels application, deployment; SERVE_QUEUED .. SERVE_ROUTED also handle, the other two replica)
SERVE_QUEUED = "ray_serve_deployment_queued_queries"
SERVE_ONGOING = "ray_serve_num_ongoing_requests_at_replicas"
SERVE_ROUTED = "ray_serve_num_router_requests_total"
SERVE_HANDLED = "ray_serve_handle_request_counter_total"
SERVE_PROCESSING = "ray_serve_replica_processing_queries"
SERVE_ERRORS = "ray_serve_deployment_error_counter_total"
SERVE_HTTP_ERRORS = "ray_serve_num_deployment_http_error_requests_total"
"""Counted by the proxies, by error_code; the deployment is the one behind the proxy."""
SERVE_HTTP_REQUESTS = "ray_serve_num_http_requests_total"
GRPC_REQUESTS = "ray_serve_num_grpc_requests_total"
"""Both counted by whatever stands at the front (proxy, HAProxy's manager, a replica), by application, at the end."""
SERVE_REPLICA_REQUESTS = "ray_serve_deployment_request_counter_total"
"""Counted by the replicas, at the end."""
HAPROXY = "ray_serve_haproxy_process_count"
"""Is there where HAProxy stands before Serve (docs/ray-paths.md); only `doctor` looks for it."""
STATUS_CODE = "status_code"
METHOD = "method"
HEALTH_CHECK = "/Healthz"
"""How the gRPC method ends that HAProxy asks every replica for."""
ERROR_CODE = "error_code"
REJECTED_CODE = "503"
"""What Serve answers for requests beyond max_queued_requests; those are in no count of arrivals."""

# vLLM's, through Ray (labels model_name, engine, ReplicaId, WorkerId)
VLLM_RUNNING = "ray_vllm_num_requests_running"
VLLM_WAITING = "ray_vllm_num_requests_waiting"
VLLM_KV_USAGE = "ray_vllm_kv_cache_usage_perc"
VLLM_PROMPT_TOKENS = "ray_vllm_prompt_tokens_total"
VLLM_OUTPUT_TOKENS = "ray_vllm_generation_tokens_total"
VLLM_CACHED_TOKENS = "ray_vllm_prompt_tokens_cached_total"
VLLM_CACHE_HITS = "ray_vllm_prefix_cache_hits_total"
VLLM_FINISHED = "ray_vllm_request_success_total"
VLLM_PREEMPTIONS = "ray_vllm_num_preemptions_total"
VLLM_TTFT_BUCKET = "ray_vllm_time_to_first_token_seconds_bucket"
VLLM_TTFT_SUM = "ray_vllm_time_to_first_token_seconds_sum"
VLLM_MEAN_ITL_BUCKET = "ray_vllm_request_time_per_output_token_seconds_bucket"
VLLM_MEAN_ITL_SUM = "ray_vllm_request_time_per_output_token_seconds_sum"
VLLM_ITL_BUCKET = "ray_vllm_inter_token_latency_seconds_bucket"
VLLM_ITL_SUM = "ray_vllm_inter_token_latency_seconds_sum"

Field = Literal[
    "queued", "ongoing", "arrivals", "processing", "errors", "rejected", "running", "waiting", "kv_usage",
    "prompt_tokens", "output_tokens", "cached_tokens", "finished", "preemptions", "ttft", "itl",
    "ttft_sum", "itl_sum", "at_front", "at_replicas",
    "haproxy",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Role:
    """What a metric name means. Of several sources of one field the lowest `rank` that is there wins, whole."""

    field: Field
    kind: Literal["gauge", "counter", "histogram"]
    rank: int = 0
    owner: Literal["deployment", "replica", "application"] = "deployment"
    """Who says which deployment it is: Serve's labels, or a replica id that the inventory knows. What is of an
    application is of its ingress."""


def _spellings(name: str) -> tuple[str, ...]:
    colon = name.replace("ray_vllm_", "ray_vllm:", 1)
    return (name,) if colon == name else (name, colon)


def _roles() -> dict[str, Role]:
    roles: dict[str, Role] = {}

    def add(name: str, role: Role) -> None:
        for spelling in _spellings(name):
            roles[spelling] = role
            # Older exports lack the suffix; where both are there, the suffixed one wins.
            if role.kind == "counter" and name.endswith("_total"):
                roles[spelling.removesuffix("_total")] = Role(role.field, role.kind, role.rank + 1, role.owner)

    add(SERVE_QUEUED, Role("queued", "gauge"))
    add(SERVE_ONGOING, Role("ongoing", "gauge"))
    add(SERVE_PROCESSING, Role("processing", "gauge"))
    add(SERVE_ROUTED, Role("arrivals", "counter"))
    add(SERVE_HANDLED, Role("arrivals", "counter", rank=2))
    add(SERVE_ERRORS, Role("errors", "counter"))
    add(SERVE_HTTP_ERRORS, Role("rejected", "counter"))
    add(SERVE_HTTP_REQUESTS, Role("at_front", "counter", owner="application"))
    add(GRPC_REQUESTS, Role("at_front", "counter", owner="application"))
    add(HAPROXY, Role("haproxy", "gauge", owner="application"))
    add(SERVE_REPLICA_REQUESTS, Role("at_replicas", "counter"))
    add(VLLM_RUNNING, Role("running", "gauge", owner="replica"))
    add(VLLM_WAITING, Role("waiting", "gauge", owner="replica"))
    add(VLLM_KV_USAGE, Role("kv_usage", "gauge", owner="replica"))
    add("ray_vllm_gpu_cache_usage_perc", Role("kv_usage", "gauge", rank=1, owner="replica"))
    add(VLLM_PROMPT_TOKENS, Role("prompt_tokens", "counter", owner="replica"))
    add(VLLM_OUTPUT_TOKENS, Role("output_tokens", "counter", owner="replica"))
    add(VLLM_CACHED_TOKENS, Role("cached_tokens", "counter", owner="replica"))
    add(VLLM_CACHE_HITS, Role("cached_tokens", "counter", rank=2, owner="replica"))
    add("ray_vllm_gpu_prefix_cache_hits_total", Role("cached_tokens", "counter", rank=4, owner="replica"))
    add(VLLM_FINISHED, Role("finished", "counter", owner="replica"))
    add(VLLM_PREEMPTIONS, Role("preemptions", "counter", owner="replica"))
    add(VLLM_TTFT_BUCKET, Role("ttft", "histogram", owner="replica"))
    add(VLLM_MEAN_ITL_BUCKET, Role("itl", "histogram", owner="replica"))
    add(VLLM_ITL_BUCKET, Role("itl", "histogram", rank=1, owner="replica"))
    add("ray_vllm_time_per_output_token_seconds_bucket", Role("itl", "histogram", rank=2, owner="replica"))
    # The histograms' sums, of the same rank as their buckets, so that both come from one source.
    add(VLLM_TTFT_SUM, Role("ttft_sum", "counter", owner="replica"))
    add(VLLM_MEAN_ITL_SUM, Role("itl_sum", "counter", owner="replica"))
    add(VLLM_ITL_SUM, Role("itl_sum", "counter", rank=1, owner="replica"))
    add("ray_vllm_time_per_output_token_seconds_sum", Role("itl_sum", "counter", rank=2, owner="replica"))
    return roles


def is_meant(role: Role, labels: Mapping[str, str]) -> bool:
    """Whether a series is of the kind that is meant: requests that ended well, requests turned away, or not."""
    if role.field == "finished":
        return labels.get(FINISHED_REASON, "stop") in GOOD_FINISHES
    if role.field == "at_front":
        return labels.get(STATUS_CODE) != REJECTED_CODE and not labels.get(METHOD, "").endswith(HEALTH_CHECK)
    return role.field != "rejected" or labels.get(ERROR_CODE) == REJECTED_CODE


ROLES: dict[str, Role] = _roles()
NAMES: frozenset[bytes] = frozenset(name.encode() for name in ROLES)
"""What to let through of a page."""
