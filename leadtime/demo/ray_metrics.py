"""vLLM's metrics of one emulated engine, through Ray, under the names and labels of vLLM's own Ray logger.

They appear on the node's metrics page as `ray_vllm_...`. Runs inside a replica; not for the controller, which only
reads the page.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

TTFT_EDGES_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
ITL_EDGES_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
LATENCY_EDGES_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_LABELS = ("model_name", "engine", "ReplicaId")


class EngineMetrics:
    """One engine's gauges, counters and histograms. Times in seconds."""

    def __init__(self, model: str, replica_id: str) -> None:
        self._labels = {"model_name": model, "engine": "0", "ReplicaId": replica_id}
        self._running = self._gauge("num_requests_running", "Requests in the running list.")
        self._waiting = self._gauge("num_requests_waiting", "Requests that wait inside the engine.")
        self._kv = self._gauge("kv_cache_usage_perc", "KV cache in use, 0 to 1.")
        self._prompt = self._counter("prompt_tokens", "Prompt tokens computed.")
        self._generated = self._counter("generation_tokens", "Tokens generated.")
        self._preemptions = self._counter("num_preemptions", "Preemptions.")
        self._finished = Counter("vllm_request_success", "Requests that ended.", (*_LABELS, "finished_reason"))
        self._ttft = self._histogram("time_to_first_token_seconds", TTFT_EDGES_S)
        self._itl = self._histogram("inter_token_latency_seconds", ITL_EDGES_S)
        self._mean_itl = self._histogram("request_time_per_output_token_seconds", ITL_EDGES_S)
        self._e2e = self._histogram("e2e_request_latency_seconds", LATENCY_EDGES_S)
        self._queue = self._histogram("request_queue_time_seconds", LATENCY_EDGES_S)
        self.show(0, 0, 0.0)

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge(f"vllm_{name}", text, _LABELS)
        gauge.set_default_tags(self._labels)
        return gauge

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter(f"vllm_{name}", text, _LABELS)
        counter.set_default_tags(self._labels)
        return counter

    def _histogram(self, name: str, edges_s: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"vllm_{name}", name.replace("_", " "), list(edges_s), _LABELS)
        histogram.set_default_tags(self._labels)
        return histogram

    def show(self, running: int, waiting: int, kv_usage_fraction: float) -> None:
        """The gauges, as they are now."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._kv.set(kv_usage_fraction)

    def first_token(self, ttft_s: float, prompt_tokens: int) -> None:
        self._ttft.observe(ttft_s)
        self._prompt.inc(prompt_tokens)

    def tokens(self, number: int, gap_s: float | None) -> None:
        """More tokens of one request, `gap_s` after its last one (None: the first)."""
        self._generated.inc(number)
        if gap_s is not None:
            self._itl.observe(gap_s)

    def preempted(self, number: int) -> None:
        self._preemptions.inc(number)

    def finished(self, e2e_s: float, queue_s: float, mean_itl_s: float | None) -> None:
        """A request got all it asked for."""
        self._finished.inc(1, {**self._labels, "finished_reason": "length"})
        self._e2e.observe(e2e_s)
        self._queue.observe(queue_s)
        if mean_itl_s is not None:
            self._mean_itl.observe(mean_itl_s)

    def aborted(self) -> None:
        """A request whose client went away."""
        self._finished.inc(1, {**self._labels, "finished_reason": "abort"})
