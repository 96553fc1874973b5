"""Pages as a Ray node would have them, for one deployment with two replicas, at any second. Deterministic."""

from __future__ import annotations

from autoscaler.core.types import DeploymentInventory, ReplicaSignal
from policies.base import DeploymentKey

KEY = DeploymentKey("llm", "chat", "chat", "LLMServer:x")
START_S = 1_760_000_000.0
SCRAPE_S = 15.0
HOUR_S = 3600.0
_SERVE = 'application="chat",deployment="LLMServer:x",SessionName="s1"'
REPLICAS = ("r1", "r2")
_ALIVE = tuple(ReplicaSignal(replica, "RUNNING", worker_id=f"w-{replica}") for replica in REPLICAS)
_ALIVE = tuple(ReplicaSignal(replica, "RUNNING", worker_id=f"w-{replica}") for replica in REPLICAS)
INVENTORY = {KEY: DeploymentInventory(START_S, 2, _ALIVE, external_scaler_enabled=True)}


def arrivals(since_start_s: float) -> float:
    """Requests so far: 4 a second, and 10 a second in every second half hour."""
    whole, part = divmod(since_start_s, HOUR_S)
    return whole * 7 * HOUR_S + 4 * min(part, 1800.0) + 10 * max(0.0, part - 1800.0)


def lines(since_start_s: float) -> list[str]:
    """The samples of the page, without timestamps."""
    total = arrivals(since_start_s)
    found = [
        f'ray_serve_num_router_requests_total{{{_SERVE},handle="h1"}} {total!r}',
        f'ray_serve_deployment_queued_queries{{{_SERVE},handle="h1"}} 3',
        f'ray_serve_num_ongoing_requests_at_replicas{{{_SERVE},handle="h1"}} 12',
    ]
    for replica in REPLICAS:
        engine = f'model_name="x",engine="0",ReplicaId="{replica}",WorkerId="w-{replica}",SessionName="s1"'
        found += [
            f'ray_serve_replica_processing_queries{{{_SERVE},replica="{replica}"}} 6',
            f"ray_vllm_num_requests_running{{{engine}}} 5",
            f"ray_vllm_num_requests_waiting{{{engine}}} 1",
            f"ray_vllm_kv_cache_usage_perc{{{engine}}} 0.25",
            f"ray_vllm_prompt_tokens_total{{{engine}}} {total * 400!r}",
            f"ray_vllm_generation_tokens_total{{{engine}}} {total * 100!r}",
            f'ray_vllm_request_success_total{{{engine},finished_reason="stop"}} {total / 2!r}',
            f'ray_vllm_time_to_first_token_seconds_bucket{{{engine},le="0.5"}} {total / 4!r}',
            f'ray_vllm_time_to_first_token_seconds_bucket{{{engine},le="+Inf"}} {total / 2!r}',
        ]
    return found


def page(since_start_s: float) -> bytes:
    return ("\n".join(lines(since_start_s)) + "\n").encode()


def openmetrics(
    hours: float, more_labels: str = 'instance="10.1.0.1:8080",job="ray",pod="head",namespace="llm"'
) -> str:
    """What a Prometheus that scraped the page every 15 s would hold: the same with a time and the target's labels."""
    by_name: dict[str, list[str]] = {}
    for tick in range(int(hours * HOUR_S / SCRAPE_S) + 1):
        at_s = tick * SCRAPE_S
        for line in lines(at_s):
            series, value = line.rsplit(" ", 1)
            name = series.partition("{")[0]
            text = f"{series[:-1]},{more_labels}}} {value} {START_S + at_s:.3f}"
            by_name.setdefault(name, []).append(text)
    parts = []
    for name, samples in by_name.items():
        parts += [f"# TYPE {name} unknown", *samples]
    return "\n".join([*parts, "# EOF", ""])
