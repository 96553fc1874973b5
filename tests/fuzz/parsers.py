"""Every parser of others' bytes: what it is given, a good sample to mutate, and what it may raise.

A parser ends in a value or in its declared error, soon, and takes no more memory than its input is worth.
"""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import leadtime_serve_policy
from autoscaler.common.errors import LeadtimeError
from autoscaler.core import journal
from autoscaler.core.checkpoint import from_rows, to_rows
from autoscaler.kubernetes.lease import record_of
from autoscaler.runtime.journal_file import read_journal
from autoscaler.settings import load_config
from autoscaler.sources.applications import parse_applications
from autoscaler.sources.exposition import parse
from autoscaler.sources.hint_messages import HintBook
from autoscaler.sources.kuberay.annotations import read_annotations
from autoscaler.sources.kuberay.objects import parse_ray_cluster, parse_ray_service
from autoscaler.sources.kubernetes.events import parse_failed_scale_up, parse_pulled
from autoscaler.sources.kubernetes.nodes import parse_node, parse_pod
from autoscaler.sources.kubernetes.pause import parse_pause
from autoscaler.sources.node_metrics import parse_targets
from autoscaler.sources.prometheus_samples import pages_of, rates_of
from autoscaler.sources.ray_nodes import parse_asked, parse_nodes
from autoscaler.sources.serve_config import parse_serve_config
from policies.base import PolicyError
from simulator.scenario.load import load_scenario
from simulator.workload.convert import FORMATS
from simulator.workload.traces import read_rates, read_requests
from tests.cli.journals import records
from tests.fakes.kubernetes import objects
from tests.mqtt.messages import NOW_S, TOPIC, message

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
DECLARED = (LeadtimeError, PolicyError, leadtime_serve_policy.PlanError)
_NAMES = frozenset(
    name.encode() for names in json.loads((SAMPLES / "metric_names.json").read_text()).values() for name in names
) | {b"vllm:num_requests_running", b"vllm:time_to_first_token_seconds_bucket", b"ray_serve_num_router_requests_total"}


@dataclass(frozen=True, slots=True)
class Parser:
    """`run` gets bytes; for `structured` ones a JSON document that has been decoded is what others choose."""

    name: str
    run: Callable[[bytes], object]
    good: bytes
    structured: bool = True


def _decoded(data: bytes) -> Any:
    """As the clients decode: what is no JSON never reaches the parser."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _json(run: Callable[[Any], object]) -> Callable[[bytes], object]:
    return lambda data: run(_decoded(data))


def _object(run: Callable[[Any], object]) -> Callable[[bytes], object]:
    """The client hands on objects only."""

    def of(data: bytes) -> object:
        found = _decoded(data)
        return run(found) if isinstance(found, Mapping) else None

    return of


def _file(suffix: str, run: Callable[[Path], object]) -> Callable[[bytes], object]:
    def of(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"f{suffix}"
            path.write_bytes(data)
            return run(path)

    return of


def _journal(path: Path) -> None:
    for record in read_journal(path):
        if record.data["kind"] == "checkpoint":
            journal.decode_state(record.data)
            journal.decode_settings(record.data)
        else:
            journal.decode_signals(record.data)


def _rows(data: bytes) -> object:
    found = _decoded(data)
    if not isinstance(found, dict):
        return None
    return from_rows({str(name): json.dumps(value).encode() for name, value in found.items()})


def _saved() -> bytes:
    """Rows of a state that has learned something."""
    state = journal.decode_state(json.loads(records([1, 1, 3])[0]))
    return json.dumps({name: json.loads(row) for name, row in to_rows(state).items()}).encode()


def _hints(data: bytes) -> None:
    book = HintBook("leadtime")
    book.take(TOPIC, data, NOW_S)
    book.hints(NOW_S)


def _annotations(found: Any) -> object:
    return read_annotations([(str(name), str(value)) for name, value in found.items()])


SETTINGS = b"""\
version: 1
services: [{dashboard: "http://127.0.0.1:8265", name: local}]
deployments: [{match: chat/llm, replicas: {min: 1, max: 8}, slo: {ttft_s: 2.0, itl_s: 0.05, target_fraction: 0.99}}]
tick_s: 5
"""
SCENARIO = b"""\
version: 1
name: s
duration_s: 60
deployments:
  - name: chat/llm
    profile: llama-3.1-8b/h100/tp1
    node_pools: [h100]
    replicas: {min: 1, max: 2, initial: 1}
    slo: {ttft_s: 2.0, itl_s: 0.05, target_fraction: 0.9}
    workload: {synthetic: {bin_s: 60, duration_s: 60, base_rps: 2}, prompt_tokens: {median: 9, p99: 20},
               output_tokens: {median: 10, p99: 20}}
node_pools: [{name: h100, gpus_per_node: 8, nodes: {min: 1, max: 1, initial: 1}}]
"""
SERVE_CONFIG = b"""\
applications:
- name: chat
  external_scaler_enabled: true
  deployments: [{name: llm, num_replicas: 2, autoscaling_config: {min_replicas: 1, max_replicas: 3}}]
"""
_MATRIX = [{"metric": {"__name__": "a_bucket", "le": "+Inf", "pod": "p"}, "values": [[1.0, "2"], [2.0, "3"]]}]
_LEASE = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15,
          "acquireTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 1}}  # fmt: skip
_NODE = {"metadata": {"name": "n", "labels": {"cloud.google.com/gke-nodepool": "h100"}, "creationTimestamp":
         "2026-01-01T00:00:00Z"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
         "status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True",
         "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}  # fmt: skip
_POD = {"metadata": {"name": "p", "namespace": "llm", "labels": {"ray.io/cluster": "c", "ray.io/group": "g"}},
        "spec": {"nodeName": "n", "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}  # fmt: skip
_EVENT = {"regarding": {"kind": "Pod", "namespace": "llm", "name": "p"}, "reason": "FailedScaleUp",
          "note": "Pulled image in 3m2.5s (1h) Node scale up in zones us-a failed: GCE out of resources",
          "eventTime": "2026-01-01T00:00:00.000000Z"}  # fmt: skip
_PLAN = {"version": 1, "tick": 1, "issued_at_s": 1.0, "period_s": 5.0, "targets": {"chat/llm": 2}, "held": [],
         "withheld": {}}  # fmt: skip


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def all_parsers() -> list[Parser]:
    """Each with a good sample."""
    summary = json.loads((SAMPLES / "ray_nodes.json").read_text())
    sample = (SAMPLES / "vllm_under_serve.prom").read_bytes()
    trace = b"timestamp_s,prompt_tokens,output_tokens\n0,1,2\n0.5,10,20\n3,5,6\n"
    rates = b"timestamp_s,rps\n0,1.5\n60,2\n120,3e1\n"
    found = [
        Parser("applications", _json(lambda d: parse_applications(d, "a", "b", 0.0)),
               (SAMPLES / "vllm_under_serve_applications.json").read_bytes()),
        Parser("targets", _json(lambda d: parse_targets(d, "x")),
               b'[{"targets": ["10.0.0.1:8080", "h:1"], "labels": {}}]'),
        Parser("exposition", lambda data: parse(data, _NAMES), sample[:20000], structured=False),
        Parser("ray nodes", _object(lambda d: parse_nodes(d.get("nodes"), d.get("status"))), _bytes(summary)),
        Parser("ray nodes asked", _object(lambda d: parse_asked(d.get("status"))), _bytes(summary)),
        Parser("hints", _hints, message(prompt_tokens=10, issued_at="2027-01-15T08:00:00Z")),
        Parser("lease", _object(record_of), _bytes(_LEASE)),
        Parser("ray service", _object(parse_ray_service), _bytes(objects.ray_service("chat"))),
        Parser("ray cluster", _object(parse_ray_cluster), _bytes(objects.ray_cluster("chat-x"))),
        Parser("annotations", _object(_annotations), _bytes({
            "leadtime.dev/enabled": "true", "leadtime.dev/min-replicas": "1", "leadtime.dev/max-replicas": "4",
            "leadtime.dev/slo-ttft-s": "2.0", "leadtime.dev/target-fraction": "0.99"})),
        Parser("serve config", lambda data: parse_serve_config(data.decode("utf-8", "replace")), SERVE_CONFIG, False),
        Parser("node", _object(parse_node), _bytes(_NODE)),
        Parser("pod", _object(parse_pod), _bytes(_POD)),
        Parser("events", _object(lambda d: (parse_failed_scale_up(d), parse_pulled(d))), _bytes(_EVENT)),
        Parser("pause", _object(parse_pause), _bytes({"data": {"paused": "true", "deployments": "a/b\n# x\nc/d/e/f"}})),
        Parser("prometheus", _json(lambda d: (pages_of(d), rates_of(d))), _bytes(_MATRIX)),
        Parser("published plan", leadtime_serve_policy.parse_plan, _bytes(_PLAN)),
        Parser("requests trace", _file(".csv", read_requests), trace, False),
        Parser("rates trace", _file(".csv", read_rates), rates, False),
        Parser("packed trace", _file(".csv.gz", read_requests), gzip.compress(trace, mtime=0), False),
        Parser("azure", _file(".csv", lambda p: list(FORMATS["azure"](p))),
               b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,10,20\n", False),
        Parser("burstgpt", _file(".csv", lambda p: list(FORMATS["burstgpt"](p))),
               b"Timestamp,Model,Request tokens,Response tokens\n5,x,10,20\n", False),
        Parser("mooncake", _file(".jsonl", lambda p: list(FORMATS["mooncake"](p))),
               b'{"timestamp": 27, "input_length": 6955, "output_length": 52}'),
        Parser("vllm-bench", _file(".json", lambda p: list(FORMATS["vllm-bench"](p))),
               _bytes({"start_times": [1.0, 2.0], "input_lens": [1, 2], "output_lens": [3, 4]})),
        Parser("settings", _file(".yaml", lambda p: load_config(p, look_at_files=False)), SETTINGS, False),
        Parser("scenario", _file(".yaml", lambda p: load_scenario(str(p))), SCENARIO, False),
        Parser("journal checkpoint", _file(".jsonl", _journal), records([1])[0]),
        Parser("journal tick", _json(lambda d: journal.decode_signals(d) if isinstance(d, dict) else None),
               records([1])[1]),
        Parser("journal", _file(".jsonl", _journal), b"".join(records([1, 1, 3])), False),
        Parser("saved state", _rows, _saved()),
        Parser("saved state in one piece", lambda data: journal.decode_state(
            {"kind": "checkpoint", "version": journal.JOURNAL_VERSION, "state": base64.b64encode(data).decode()}),
            base64.b64decode(json.loads(records([1])[0])["state"])),
    ]  # fmt: skip
    assert len({parser.name for parser in found}) == len(found)
    return found
