"""What is true: deployments with traffic, replicas that take a lead time to come, and what Ray's pages say of it.

A fluid model: requests are fractions, replicas serve what they carry, the rest waits. It knows no fault: faults change
what is shown of it, or its truth.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from policies.base import Slo, TokenMix
from policies.capacity import capacity
from policies.capacity.load import load_profile

PROFILE = "llama-3.1-8b/h100/tp1"
PROMPT, OUTPUT = 1000.0, 250.0
NODES = 3
LEAD_S = 60.0
"""From a target to replicas that serve."""
_CAPACITY = capacity(load_profile(PROFILE), TokenMix(PROMPT, OUTPUT), Slo())
assert _CAPACITY.rps is not None
CARRIES_RPS: float = _CAPACITY.rps
"""What one replica carries."""
STAYS_S = 0.8 * (_CAPACITY.batch or 0.0) / CARRIES_RPS
"""Of a request, where none waits."""


@dataclass
class Replica:
    name: str
    node: int
    asked_s: float
    ready_s: float | None = None
    served: float = 0.0

    @property
    def worker(self) -> str:
        return f"w{self.name}"


@dataclass
class Deployment:
    """`load`: traffic in replicas' worth. `min`, `max`: its bounds in the settings."""

    app: str
    name: str
    load: float
    target: int
    min: int = 1
    max: int = 12
    replicas: list[Replica] = field(default_factory=list)
    arrived: list[float] = field(default_factory=lambda: [0.0] * NODES)
    share: list[float] = field(default_factory=lambda: [1.0 / NODES] * NODES)
    """Of the arrivals that the handle of each node takes."""
    waiting: float = 0.0
    failed: float = 0.0
    failing: bool = False
    status: str = "HEALTHY"
    app_status: str = "RUNNING"
    message: str = ""
    obeys: bool = True
    """Whether Serve starts and ends replicas as the target says."""
    crashes: bool = False
    """New replicas die when they are about to serve."""
    lead_s: float = LEAD_S
    died: int = 0
    alone_waiting: float = 0.0
    """What would wait had the level been left alone."""
    debt: float = 0.0
    """Request-seconds of waiting so far, and those had the level been left alone."""
    alone_debt: float = 0.0
    alone_level: int = 0
    last_served: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.app}/{self.name}"

    def ready(self) -> list[Replica]:
        return [one for one in self.replicas if one.ready_s is not None]

    def in_flight(self) -> float:
        return self.last_served * STAYS_S


@dataclass
class World:
    """All deployments of one Ray cluster at `now_s`."""

    deployments: list[Deployment]
    engines: bool = True
    """Whether vLLM's metrics are there."""
    lingers: bool = True
    """Whether engines' gauges stay when they are 0; Ray drops them some 20 s after the last sample."""
    now_s: float = 1_800_000_000.0
    born: int = 0

    def of(self, key: str) -> Deployment:
        return next(one for one in self.deployments if one.key == key)

    def settle(self) -> None:
        """All replicas that are wanted are there."""
        for one in self.deployments:
            self._follow(one)
            for replica in one.replicas:
                replica.ready_s = self.now_s

    def step(self, seconds: float) -> None:
        self.now_s += seconds
        for one in self.deployments:
            self._follow(one)
            self._serve(one, seconds)

    def _follow(self, one: Deployment) -> None:
        for replica in list(one.replicas):
            if replica.ready_s is None and self.now_s - replica.asked_s >= one.lead_s:
                if one.crashes:
                    one.replicas.remove(replica)
                    one.died += 1
                else:
                    replica.ready_s = self.now_s
        if not one.obeys:
            return
        while len(one.replicas) < one.target and len(one.replicas) < 64:
            one.replicas.append(Replica(f"r{self.born}", self.born % NODES, self.now_s))
            self.born += 1
        while len(one.replicas) > one.target:
            starting = [replica for replica in one.replicas if replica.ready_s is None]
            one.replicas.remove((starting or one.replicas)[-1])

    def _serve(self, one: Deployment, seconds: float) -> None:
        came = one.load * CARRIES_RPS * seconds
        for node in range(NODES):
            one.arrived[node] += came * one.share[node]
        ready = one.ready()
        if one.failing:
            one.failed += came
            one.last_served = 0.0
            return
        served = min(one.waiting + came, 1.25 * CARRIES_RPS * seconds * len(ready))  # the capacity leaves a margin
        one.waiting += came - served
        one.last_served = served / seconds
        one.debt += one.waiting * seconds
        alone = min(one.alone_waiting + came, 1.25 * CARRIES_RPS * seconds * one.alone_level)
        one.alone_waiting += came - alone
        one.alone_debt += one.alone_waiting * seconds
        for replica in ready:
            replica.served += served / len(ready)

    # ------------------------------------------------------------ what is shown

    def page(self, node: int) -> str:
        """The metrics page of a node."""
        lines: list[str] = ["# HELP ray_node_cpu_count CPUs", f'ray_node_cpu_count{{instance="{node}"}} 8.0']
        for one in self.deployments:
            lines += self._lines(one, node)
        return "\n".join(lines) + "\n"

    def _lines(self, one: Deployment, node: int) -> list[str]:
        of = f'application="{one.app}",deployment="{one.name}"'
        handle = f'handle="{one.name}-h{node}",WorkerId="proxy{node}"'
        flight = one.in_flight()
        lines = [
            f"ray_serve_num_router_requests_total{{{of},{handle}}} {one.arrived[node]}",
            f"ray_serve_deployment_queued_queries{{{of},{handle}}} 0.0",
            f"ray_serve_num_ongoing_requests_at_replicas{{{of},{handle}}} {(flight + one.waiting) * one.share[node]}",
        ]
        ready = one.ready()
        for replica in ready:
            if replica.node != node:
                continue
            each, waits, served = flight / len(ready), one.waiting / len(ready), replica.served
            lines.append(f'ray_serve_replica_processing_queries{{{of},replica="{replica.name}"}} {each + waits}')
            if one.failed and replica is ready[0]:
                lines.append(f'ray_serve_deployment_error_counter_total{{{of},replica="{replica.name}"}} {one.failed}')
            if not self.engines or served == 0.0:
                continue
            by = f'model_name="{one.name}",engine="0",ReplicaId="{replica.name}",WorkerId="{replica.worker}"'
            if self.lingers or each > 0.0:
                lines += [
                    f"ray_vllm_num_requests_running{{{by}}} {each}",
                    f"ray_vllm_num_requests_waiting{{{by}}} {waits}",
                    f"ray_vllm_kv_cache_usage_perc{{{by}}} {0.4 if each else 0.0}",
                ]
            lines += [
                f"ray_vllm_prompt_tokens_total{{{by}}} {served * PROMPT}",
                f"ray_vllm_generation_tokens_total{{{by}}} {served * OUTPUT}",
                f'ray_vllm_request_success_total{{{by},finished_reason="stop"}} {served}',
                f'ray_vllm_time_to_first_token_seconds_bucket{{{by},le="0.5"}} {served}',
                f'ray_vllm_time_to_first_token_seconds_bucket{{{by},le="+Inf"}} {served}',
                f"ray_vllm_time_to_first_token_seconds_sum{{{by}}} {served * 0.2}",
            ]
        return lines

    def applications(self) -> dict[str, Any]:
        """What the dashboard lists."""
        found: dict[str, Any] = {}
        for one in self.deployments:
            app = found.setdefault(
                one.app,
                {"name": one.app, "status": one.app_status, "message": "", "external_scaler_enabled": True,
                 "deployments": {}},
            )  # fmt: skip
            app["deployments"][one.name] = {
                "name": one.name,
                "status": one.status,
                "message": one.message,
                "deployment_config": {"name": one.name, "num_replicas": 1, "max_ongoing_requests": 10**9},
                "target_num_replicas": one.target,
                "required_resources": {"CPU": 1, "GPU": 1},
                "replicas": [self._replica(replica) for replica in one.replicas],
                "recent_dead_replicas": [{"replica_id": f"dead{i}"} for i in range(min(one.died, 10))],
            }
        return {"controller_info": {"actor_name": "SERVE_CONTROLLER_ACTOR"}, "proxies": {}, "applications": found}

    def _replica(self, one: Replica) -> dict[str, Any]:
        return {
            "replica_id": one.name,
            "state": "RUNNING" if one.ready_s is not None else "STARTING",
            "start_time_s": one.asked_s,
            "node_id": f"n{one.node}",
            "worker_id": one.worker,
        }

    def scale(self, app: str, name: str, body: bytes) -> tuple[int, str]:
        """What the scale API does with a request: its status and message."""
        try:
            one = self.of(f"{app}/{name}")
        except StopIteration:
            return 404, "Application or Deployment not found"
        one.target = int(json.loads(body)["target_num_replicas"])
        return 200, "Scaling request received. Deployment will get scaled asynchronously."


LLM, AUX = "chat/llm", "tools/aux"


def steady(load: float = 4.2, aux: float = 1.3, **changes: Any) -> World:
    """A large and a small deployment under steady load, served."""
    level, small = 6, 2
    world = World([Deployment("chat", "llm", load, level), Deployment("tools", "aux", aux, small, max=6)], **changes)
    world.settle()
    return world
