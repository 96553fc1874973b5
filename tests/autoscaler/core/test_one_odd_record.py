"""One record of a source that makes no sense costs what it is about, and nothing else.

Each field of each record of a real answer is broken in turn, in many ways. What must hold each time: the tick is
alive, the other deployments are decided as if nothing were wrong, and what is written can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from autoscaler.clients.ray_dashboard import Answer
from autoscaler.common.errors import SourceError
from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import from_rows, to_rows
from autoscaler.core.ports import Reading
from autoscaler.core.state import ControllerState
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentPlan,
    DeploymentSettings,
    PauseState,
    Plan,
    PoolSettings,
    Signals,
    SourceStatus,
)
from autoscaler.kubernetes.lease import record_of
from autoscaler.runtime.assembly import Held, assemble
from autoscaler.sources.applications import read_applications
from autoscaler.sources.exposition import parse
from autoscaler.sources.hint_messages import HintBook
from autoscaler.sources.join import NodePage
from autoscaler.sources.kuberay.objects import parse_ray_cluster, parse_ray_service
from autoscaler.sources.kubernetes.events import parse_failed_scale_up, parse_pulled
from autoscaler.sources.kubernetes.nodes import parse_node, parse_pod, pools_of
from autoscaler.sources.names import NAMES
from autoscaler.sources.node_metrics import parse_targets
from autoscaler.sources.prometheus_samples import pages_of, rates_of
from autoscaler.sources.ray_nodes import NodeMemory, parse_asked, parse_nodes
from autoscaler.sources.readings import Inventories, NodePages
from policies.base import DeploymentKey
from tests.fakes.small_world import PROFILE

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
BROKEN, OTHER = DeploymentKey.parse("llm/LLMServer:tiny"), DeploymentKey.parse("other/model")
DEPLOYMENT = ("applications", "llm", "deployments", "LLMServer:tiny")
CONFIG = ControllerConfig(
    deployments=(DeploymentSettings("*/*", profile=PROFILE, min_replicas=1, max_replicas=8),), dry_run=False, tick_s=5.0
)
ODD: tuple[object, ...] = (
    None, True, -1, 10**30, 10**400, 1.5, 1e308, -1e308, float("nan"), float("inf"), "", "x", "\ud83d", "a\x00\x1b[2J",
    "a/b", "y" * 5000, [], [1], ["\ud83d"], {}, {"a": 1}, {"\ud83d": "\ud83d"},
)  # fmt: skip
GONE = object()


def broken(document: Any, under: tuple[object, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The document with each value below `under` odd or gone, in turn."""
    place = document
    for step in under:
        place = place[step]
    for path in _paths(place):
        for odd in (*ODD, GONE):
            copy = deepcopy(document)
            parent = copy
            for step in (*under, *path[:-1]):
                parent = parent[step]
            if odd is GONE:
                del parent[path[-1]]
            else:
                parent[path[-1]] = odd
            shown = "gone" if odd is GONE else ascii(odd)[:30]
            yield f"{'.'.join(map(str, (*under, *path)))} = {shown}", copy


def _paths(value: Any, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    steps: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*path, step)
        yield from _paths(inner, (*path, step))


def real_answer() -> dict[str, Any]:
    """A recorded answer of Serve, and a second application like its first."""
    answer: dict[str, Any] = json.loads((SAMPLES / "vllm_under_serve_applications.json").read_text())
    model = deepcopy(answer["applications"]["llm"]["deployments"]["LLMServer:tiny"])
    model["replicas"] = [{**model["replicas"][0], "replica_id": f"o{i}", "worker_id": f"w{i}"} for i in range(2)]
    model["target_num_replicas"] = 2
    answer["applications"]["llm"]["deployments"].pop("OpenAiIngress:tiny", None)
    config = answer["applications"]["llm"]["deployments"]["LLMServer:tiny"]["deployment_config"]
    for name in ("ray_actor_options", "request_router_config", "backpressure_config"):
        config.pop(name)  # nothing of these is read
    for name in ("deployed_app_config", "proxies", "http_options", "grpc_options"):
        answer.pop(name, None)
    answer["applications"]["other"] = {"deployments": {"model": model}, "external_scaler_enabled": True}
    return answer


def page(now_s: float) -> str:
    """Both deployments under load."""
    lines = []
    for app, name, replica in (("llm", "LLMServer:tiny", "1ibysq3q"), ("other", "model", "o0")):
        of, by = f'application="{app}",deployment="{name}"', f'ReplicaId="{replica}"'
        lines += [
            f'ray_serve_num_router_requests_total{{{of},handle="h"}} {9 * now_s}',
            f'ray_serve_deployment_queued_queries{{{of},handle="h"}} 3',
            f'ray_serve_num_ongoing_requests_at_replicas{{{of},handle="h"}} 40',
            f'ray_serve_deployment_error_counter_total{{{of},replica="{replica}"}} 1',
            f'ray_serve_replica_processing_queries{{{of},replica="{replica}"}} 40',
            f"ray_vllm_num_requests_running{{{by}}} 38",
            f"ray_vllm_num_requests_waiting{{{by}}} 2",
            f"ray_vllm_kv_cache_usage_perc{{{by}}} 0.6",
            f"ray_vllm_prompt_tokens_total{{{by}}} {9000 * now_s}",
            f"ray_vllm_generation_tokens_total{{{by}}} {2000 * now_s}",
            f'ray_vllm_request_success_total{{{by},finished_reason="stop"}} {9 * now_s}',
            f'ray_vllm_time_to_first_token_seconds_bucket{{{by},le="0.5"}} {8 * now_s}',
            f'ray_vllm_time_to_first_token_seconds_bucket{{{by},le="+Inf"}} {9 * now_s}',
            f"ray_vllm_time_to_first_token_seconds_sum{{{by}}} {3 * now_s}",
        ]
    return "\n".join(lines) + "\n"


def as_sent(document: Any) -> Any:
    """What the reader makes of a document that somebody sends: numbers of 400 digits and halves of pairs too."""
    return Answer(200, json.dumps(document).encode()).json()


def given(now_s: float, answer: Any, text: str, known: tuple[DeploymentKey, ...] = ()) -> Signals:
    found = read_applications(as_sent(answer), "default", "local", now_s, known=known)
    nodes = NodePages("default", "local", {"n": NodePage(now_s, tuple(parse(text.encode("utf-8", "replace"), NAMES)))})
    held = [
        Held(SourceStatus(name, True, now_s), Reading(name, True, now_s, data))
        for name, data in (("ray_dashboard", found), ("node_metrics", nodes))
    ]
    return assemble(held, PauseState(), True, now_s)


def settled() -> tuple[bytes, float]:
    """A controller's memory after some minutes of the real answer."""
    controller = new_controller(CONFIG)
    now_s = 1_795_551_000.0
    for _ in range(40):
        now_s += 5.0
        controller.step(given(now_s, real_answer(), page(now_s)), now_s)
    return controller.state.to_bytes(), now_s + 5.0


MEMORY, NOW_S = settled()


_DECIDED: dict[bytes, Plan] = {}


def decided(signals: Signals) -> Plan:
    """A step on the settled memory; what is written of it can be read. Signals that are the same are decided once."""
    same = msgspec.json.encode(msgspec.to_builtins(signals, str_keys=True), order="sorted")
    if same not in _DECIDED:
        _DECIDED[same] = _decided(signals)
    return _DECIDED[same]


def _decided(signals: Signals) -> Plan:
    controller = new_controller(CONFIG, ControllerState.from_bytes(MEMORY))
    plan = controller.step(signals, NOW_S)
    line = journal.encode(journal.tick_record(signals, plan))
    assert journal.decode_signals(msgspec.json.decode(line)) == signals
    assert from_rows(to_rows(controller.state)).tick == plan.tick
    again = new_controller(CONFIG, ControllerState.from_bytes(controller.state.to_bytes()))
    again.step(signals, NOW_S + 5.0)
    return plan


def of(plan: Plan, key: DeploymentKey) -> DeploymentPlan:
    found = plan.deployment(key)
    assert found is not None
    return found


PLAN = decided(given(NOW_S, real_answer(), page(NOW_S)))


def test_the_world_that_is_broken_here_is_decided_when_it_is_whole() -> None:
    assert {of(PLAN, key).target is not None for key in (BROKEN, OTHER)} == {True}


@pytest.mark.parametrize(
    "field", sorted(_ for _ in real_answer()["applications"]["llm"]["deployments"]["LLMServer:tiny"])
)
def test_an_odd_entry_of_a_deployment_leaves_the_others_as_they_are(field: str) -> None:
    answer = real_answer()
    entry = answer["applications"]["llm"]["deployments"]["LLMServer:tiny"]
    under = (*DEPLOYMENT, field) if isinstance(entry[field], dict | list) else DEPLOYMENT
    for what, document in broken(answer, under):
        if under == DEPLOYMENT and f".{field} = " not in what:
            continue
        plan = decided(given(NOW_S, document, page(NOW_S)))
        assert of(plan, OTHER) == of(PLAN, OTHER), what
        assert of(plan, BROKEN).target is None or 1 <= (of(plan, BROKEN).target or 0) <= 8, what


def test_an_odd_application_leaves_the_others_as_they_are() -> None:
    for odd in (*ODD, GONE):
        for field in ("deployments", "status", "message", "external_scaler_enabled", "name"):
            answer = real_answer()
            answer["applications"]["llm"][field] = odd
            if odd is GONE:
                del answer["applications"]["llm"][field]
            signals = given(NOW_S, answer, page(NOW_S), known=(BROKEN, OTHER))
            assert of(decided(signals), OTHER) == of(PLAN, OTHER), (field, odd)


def test_an_application_that_cannot_be_read_is_unknown_and_not_gone() -> None:
    for odd in (None, [], 7, {"deployments": None}):
        answer = real_answer()
        answer["applications"]["llm"] = odd
        found = read_applications(as_sent(answer), "default", "local", NOW_S, known=(BROKEN, OTHER))
        assert BROKEN in found.unreadable
        assert OTHER in found.deployments
        with pytest.raises(SourceError):  # nothing is known of what it holds: the list may be a short one
            read_applications(as_sent(answer), "default", "local", NOW_S)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_num_replicas": 10**30}, "target_num_replicas is 1000000"),
        ({"target_num_replicas": True}, "target_num_replicas is True"),
        ({"replicas": [{"replica_id": "\ud83d", "state": "RUNNING"}]}, None),
        ({"replicas": [{"replica_id": ["r"], "state": "RUNNING"}]}, "replica_id is a list"),
        ({"replicas": [{"replica_id": "r", "state": {"a": 1}}]}, "state is an object"),
    ],
)
def test_a_deployment_that_makes_no_sense_is_unknown_with_the_reason(change: dict[str, Any], words: str | None) -> None:
    answer = real_answer()
    answer["applications"]["llm"]["deployments"]["LLMServer:tiny"] |= change
    plan = decided(given(NOW_S, answer, page(NOW_S)))
    if words is not None:
        assert of(plan, BROKEN).target is None
        assert words in of(plan, BROKEN).sentence
    assert of(plan, OTHER) == of(PLAN, OTHER)


@pytest.mark.parametrize("name", ["\ud83d", "a/b", "", "a\nb", "y" * 5000])
def test_a_name_that_no_key_can_hold_is_refused_by_itself(name: str) -> None:
    answer = real_answer()
    answer["applications"]["llm"]["deployments"][name] = {"target_num_replicas": 1}
    answer["applications"][name] = {"deployments": {"x": {}}}
    signals = given(NOW_S, answer, page(NOW_S))
    plan = decided(signals)
    assert of(plan, OTHER) == of(PLAN, OTHER)
    assert of(plan, BROKEN) == of(PLAN, BROKEN)
    assert sum(1 for one in signals.deployments if one.unreadable) >= 1


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e308", "-1e308", "1e999", "x", "", "1_0", "\ud83d"])
def test_an_odd_value_of_a_series_leaves_the_others_as_they_are(value: str) -> None:
    text = page(NOW_S)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if 'application="other"' in line or 'ReplicaId="o0"' in line:
            continue
        odd = f"{line.rpartition(' ')[0]} {value}"
        twice = odd.replace("handle=", "handle2=").replace("ReplicaId=", 'engine="1",ReplicaId=')
        changed = [*lines[:number], odd, twice, *lines[number + 1 :]]
        plan = decided(given(NOW_S, real_answer(), "\n".join(changed) + "\n"))
        assert of(plan, OTHER) == of(PLAN, OTHER), odd


@pytest.mark.parametrize("label", ["\ud83d", "\x00", '\\"', "}", "y" * 5000, "\\"])
def test_an_odd_label_of_a_series_leaves_the_others_as_they_are(label: str) -> None:
    lines = page(NOW_S).splitlines()
    for number, line in enumerate(lines):
        if 'application="other"' in line or 'ReplicaId="o0"' in line:
            continue
        odd = line.replace('="', f'="{label}', 1)
        changed = [*lines[:number], odd, *lines[number + 1 :]]
        assert of(decided(given(NOW_S, real_answer(), "\n".join(changed) + "\n")), OTHER) == of(PLAN, OTHER), odd


# ---------------------------------------------------------------- the other sources


NODES = json.loads((SAMPLES / "ray_nodes.json").read_text())
POOLS = (PoolSettings("gpu", gpus_per_node=8),)


def ray_nodes(document: Any) -> object:
    sent = as_sent(document)
    nodes, status = sent.get("nodes"), sent.get("status")
    return NodeMemory().pools(POOLS, parse_nodes(nodes, status), parse_asked(status), NOW_S)


TIME = "2026-01-31T12:00:05Z"
META = {"namespace": "n", "name": "a", "uid": "u", "creationTimestamp": TIME, "labels": {}, "annotations": {}}
NODE = {
    "metadata": {**META, "labels": {"cloud.google.com/gke-nodepool": "gpu", "topology.kubernetes.io/zone": "z"}},
    "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": False},
    "status": {
        "allocatable": {"nvidia.com/gpu": "8"},
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": TIME}],
    },
}
POD = {
    "metadata": {**META, "labels": {"ray.io/node-type": "worker", "ray.io/cluster": "c"}},
    "spec": {
        "nodeName": "a",
        "nodeSelector": {"cloud.google.com/gke-nodepool": "gpu"},
        "containers": [{"resources": {"limits": {"nvidia.com/gpu": 8}}}],
    },
    "status": {
        "phase": "Running", "podIPs": [{"ip": "192.0.2.7"}],
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": TIME}],
    },
}  # fmt: skip
EVENT = {
    "metadata": META, "reason": "FailedScaleUp", "eventTime": TIME, "note": "out of resources in europe-west4-a",
    "regarding": {"kind": "Pod", "namespace": "n", "name": "p"}, "series": {"count": 1, "lastObservedTime": TIME},
}  # fmt: skip
CLUSTER_SPEC = {
    "rayVersion": "2.60.0", "enableInTreeAutoscaling": True,
    "headGroupSpec": {"rayStartParams": {"dashboard-port": "8265"}},
    "workerGroupSpecs": [
        {
            "groupName": "g", "replicas": 1, "minReplicas": 0, "maxReplicas": 4, "rayStartParams": {"num-gpus": "8"},
            "template": {"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": 8}}}]}},
        }
    ],
}  # fmt: skip
SERVE = """
applications:
- {name: llm, import_path: "a:b", deployments: [{name: d, num_replicas: 2, ray_actor_options: {num_gpus: 1}}]}
"""
SERVICE = {
    "metadata": {**META, "generation": 2, "resourceVersion": "7"},
    "spec": {"serveConfigV2": SERVE, "rayClusterConfig": CLUSTER_SPEC},
    "status": {
        "observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}],
        "activeServiceStatus": {
            "rayClusterName": "c", "targetCapacity": 100, "trafficRoutedPercent": 100,
            "applicationStatuses": {"llm": {"serveDeploymentStatuses": {"d": {}}}},
        },
    },
}  # fmt: skip
CLUSTER = {
    "metadata": META,
    "spec": CLUSTER_SPEC,
    "status": {"head": {"serviceName": "s"}, "endpoints": {"dashboard": "1"}},
}
MATRIX = [
    {"metric": {"__name__": "ray_vllm_num_requests_running", "ReplicaId": "r"}, "values": [[NOW_S, "1"]]},
    {
        "metric": {"__name__": "ray_vllm_time_to_first_token_seconds_bucket", "ReplicaId": "r", "le": "+Inf"},
        "values": [[NOW_S, "1"]],
    },
]
HINT = {"id": "i", "start_at": TIME, "end_at": "2026-01-31T13:00:05Z", "rps": 7, "confidence_fraction": 0.5}
LEASE = {"spec": {
    "holderIdentity": "me", "leaseDurationSeconds": 15, "acquireTime": TIME, "renewTime": TIME, "leaseTransitions": 1,
}}  # fmt: skip


def hints(document: Any) -> object:
    book = HintBook("leadtime")
    taken = book.take("leadtime/hints/n/s/a/d", json.dumps(document).encode(), 1_769_800_000.0)
    return taken, book.hints(1_769_800_000.0)


READERS: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "ray_nodes": (NODES, ray_nodes),
    "node": (NODE, lambda d: [pools_of(POOLS, [n], [], NOW_S) for n in [parse_node(as_sent(d))] if n is not None]),
    "pod": (POD, lambda d: [pools_of(POOLS, [], [p], NOW_S) for p in [parse_pod(as_sent(d))] if p is not None]),
    "event": (EVENT, lambda d: (parse_failed_scale_up(as_sent(d)), parse_pulled(as_sent(d)))),
    "ray_service": (SERVICE, lambda d: parse_ray_service(as_sent(d))),
    "ray_cluster": (CLUSTER, lambda d: parse_ray_cluster(as_sent(d))),
    "prometheus": (MATRIX, lambda d: list(pages_of(as_sent(d)))),
    "prometheus_rates": (MATRIX[:1], lambda d: rates_of(as_sent(d))),
    "targets": ([{"targets": ["192.0.2.1:8080"], "labels": {}}], lambda d: parse_targets(as_sent(d), "x")),
    "hint": (HINT, hints),
    "lease": (LEASE, lambda d: record_of(as_sent(d))),
}


@pytest.mark.parametrize("name", READERS)
def test_an_odd_field_of_any_record_is_read_or_refused_and_can_be_written(name: str) -> None:
    document, read = READERS[name]
    for what, changed in broken(document):
        try:
            found = read(changed)
        except SourceError:
            continue
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        try:
            msgspec.json.encode(msgspec.to_builtins(found, str_keys=True, enc_hook=repr))
        except Exception as error:
            raise AssertionError(f"{what}: cannot be written: {error!r}") from error


def test_the_inventories_of_a_broken_answer_are_never_fewer_than_those_of_a_whole_one() -> None:
    whole = read_applications(as_sent(real_answer()), "default", "local", NOW_S)
    listed = {*whole.deployments, *whole.unreadable}
    for what, document in broken(real_answer(), ("applications", "llm", "deployments")):
        if what.endswith("= gone") and what.count(".") == 3:
            continue  # a deployment that is not listed any more is gone
        found = read_applications(as_sent(document), "default", "local", NOW_S, known=tuple(listed))
        assert isinstance(found, Inventories)
        assert listed <= {*found.deployments, *found.unreadable}, what
