"""A small Ray cluster as its pages tell of it: text that the real parser reads, a fleet that does what is posted.

Three nodes, each with a handle that takes a third of the requests; replicas in turn on them. Tests bend what is shown
(`bend`), never what is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from autoscaler.core import guards
from autoscaler.core.build import new_controller
from autoscaler.core.types import (
    ControllerConfig,
    DeploymentInventory,
    DeploymentMetrics,
    DeploymentPlan,
    DeploymentSettings,
    DeploymentSignals,
    GuardSettings,
    Plan,
    ReplicaSignal,
    Signals,
)
from autoscaler.sources.exposition import Memory, parse
from autoscaler.sources.join import NodePage, collect
from autoscaler.sources.names import NAMES
from policies.base import DeploymentKey, TokenMix
from policies.capacity import capacity
from policies.capacity.load import load_profile

KEY = DeploymentKey.parse("chat/llm")
TICK_S = 5.0
PROFILE = load_profile("llama-3.1-8b/h100/tp1")
PROMPT, OUTPUT = 1000.0, 250.0
NODES = 3
SETTINGS = DeploymentSettings("chat/llm", profile=PROFILE, min_replicas=1, max_replicas=12)

Bend = Callable[[str, int], str | None]
"""The text of a node's page, and the node -> what is shown instead; None: it does not answer."""


_CAPACITY = capacity(PROFILE, TokenMix(PROMPT, OUTPUT), SETTINGS.slo)
STAYS_S = 0.8 * (_CAPACITY.batch or 0.0) / (_CAPACITY.rps or 1.0)
"""A request, on replicas that are not full."""


def carries_rps() -> float:
    """What a replica carries at the world's mix."""
    assert _CAPACITY.rps is not None
    return _CAPACITY.rps


@dataclass
class World:
    """Time, truth and what is shown of it."""

    replicas: int = 5
    rps: float = 0.0
    engines: bool = True
    settings: tuple[DeploymentSettings, ...] = (SETTINGS,)
    guards: GuardSettings = GuardSettings()
    now_s: float = 0.0
    bend: Bend = lambda text, node: text
    bend_inventory: Callable[[DeploymentInventory], DeploymentInventory] = lambda inventory: inventory
    ask_nothing: bool = False
    """No request was ever sent, so Ray has created none of the handles' series."""
    arrived: list[float] = field(default_factory=lambda: [0.0] * NODES)
    served: dict[str, float] = field(default_factory=dict)
    failed: float = 0.0
    failing: bool = False
    names: list[str] = field(default_factory=list)
    pages: dict[int, NodePage] = field(default_factory=dict)
    memories: list[Memory] = field(default_factory=lambda: [Memory() for _ in range(NODES)])
    targets: list[int | None] = field(default_factory=list)
    posts: list[int] = field(default_factory=list)
    born: int = 0

    def __post_init__(self) -> None:
        self.target = self.replicas
        self._follow()
        self.controller = new_controller(
            ControllerConfig(deployments=self.settings, dry_run=False, tick_s=TICK_S, guards=self.guards)
        )

    def _follow(self) -> None:
        while len(self.names) < self.target:
            self.names.append(f"r{self.born}")
            self.served[self.names[-1]] = 0.0
            self.born += 1
        del self.names[self.target :]

    def _page(self, node: int) -> str:
        lines = []
        of, handle = 'application="chat",deployment="llm"', f'handle="h{node}",WorkerId="proxy{node}"'
        in_flight = self.rps * STAYS_S
        if not self.ask_nothing:
            lines += [
                f"ray_serve_num_router_requests_total{{{of},{handle}}} {self.arrived[node]}",
                f"ray_serve_deployment_queued_queries{{{of},{handle}}} 0.0",
                f"ray_serve_num_ongoing_requests_at_replicas{{{of},{handle}}} {in_flight / NODES}",
            ]
        here = [name for i, name in enumerate(self.names) if i % NODES == node]
        if node == 0 and self.failed:
            lines.append(f'ray_serve_deployment_error_counter_total{{{of},replica="{self.names[0]}"}} {self.failed}')
        for name in here:
            each, count = in_flight / len(self.names), self.served[name]
            lines.append(f'ray_serve_replica_processing_queries{{{of},replica="{name}"}} {each}')
            if not self.engines or (count == 0.0 and each == 0.0):
                continue
            by = f'ReplicaId="{name}",WorkerId="w{name}"'
            if each > 0.0:
                lines += [
                    f"ray_vllm_num_requests_running{{{by}}} {each}",
                    f"ray_vllm_num_requests_waiting{{{by}}} 0.0",
                    f"ray_vllm_kv_cache_usage_perc{{{by}}} 0.4",
                ]
            lines += [
                f"ray_vllm_prompt_tokens_total{{{by}}} {count * PROMPT}",
                f"ray_vllm_generation_tokens_total{{{by}}} {count * OUTPUT}",
                f'ray_vllm_request_success_total{{{by},finished_reason="stop"}} {count}',
                f'ray_vllm_time_to_first_token_seconds_bucket{{{by},le="0.5"}} {count}',
                f'ray_vllm_time_to_first_token_seconds_bucket{{{by},le="+Inf"}} {count}',
                f"ray_vllm_time_to_first_token_seconds_sum{{{by}}} {count * 0.2}",
            ]
        return "\n".join(lines) + "\n"

    def metrics(self, inventory: DeploymentInventory) -> DeploymentMetrics:
        """What the pages say now."""
        for node in range(NODES):
            text = self.bend(self._page(node), node)
            if text is not None:
                samples = tuple(parse(text.encode(), NAMES, self.memories[node]))
                self.pages[node] = NodePage(self.now_s, samples, first=node not in self.pages)
        pages = {f"node{node}": page for node, page in self.pages.items()}
        return collect(pages, {KEY: inventory}, "default", "local", self.now_s)[KEY]

    def inventory(self) -> DeploymentInventory:
        replicas = tuple(ReplicaSignal(name, "RUNNING", 0.0, worker_id=f"w{name}") for name in self.names)
        found = DeploymentInventory(
            self.now_s, self.target, replicas, external_scaler_enabled=True, max_ongoing_requests=10**9,
            configured_replicas=1,
        )  # fmt: skip
        return self.bend_inventory(found)

    def step(self) -> DeploymentPlan:
        """One tick: traffic, a look, a decision, and Serve does it."""
        self.now_s += TICK_S
        for node in range(NODES):
            self.arrived[node] += self.rps * TICK_S / NODES
        for name in self.names:
            self.served[name] += 0.0 if self.failing else self.rps * TICK_S / len(self.names)
        self.failed += self.rps * TICK_S if self.failing else 0.0
        inventory = self.inventory()
        metrics = self.metrics(inventory)
        self.plan: Plan = self.controller.step(Signals((DeploymentSignals(KEY, inventory, metrics),)), self.now_s)
        [decision] = self.plan.deployments
        failed = [record.why for record in decision.guards if record.name == guards.DECISION_FAILED]
        assert not failed, failed  # a bug in a decision looks like a level that is held
        if decision.target is not None and decision.target != inventory.target:
            self.posts.append(decision.target)
            self.target = decision.target
            self._follow()
        self.targets.append(decision.target)
        return decision

    def runs(self, minutes: float) -> list[int]:
        """The levels in force after each tick."""
        levels = []
        for _ in range(round(minutes * 60.0 / TICK_S)):
            self.step()
            levels.append(self.target)
        return levels


def busy_world(load: float = 4.2, **changes: object) -> World:
    """Steady load for some replicas, for half an hour; the fleet has settled."""
    world = World(rps=load * carries_rps(), **changes)  # type: ignore[arg-type]
    world.runs(30.0)
    return world


def without(pattern: str) -> Bend:
    """Pages without the lines whose name matches."""
    return lambda text, node: "\n".join(line for line in text.splitlines() if not re.match(pattern, line)) + "\n"


def valued(pattern: str, value: Callable[[float], object]) -> Bend:
    """Pages whose lines with a matching name have another value."""

    def bend(text: str, node: int) -> str:
        lines = []
        for line in text.splitlines():
            name, _, number = line.rpartition(" ")
            lines.append(f"{name} {value(float(number))}" if re.match(pattern, line) else line)
        return "\n".join(lines) + "\n"

    return bend
