"""Makes a scenario's faults happen, each at its time, and says what is in trouble now.

Every fault draws its luck from a stream of its own, so that policies meet the same. What a controller does without its
memory is loop.py's, what it still knows of a source that is down is observation.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from policies.base import DeploymentKey
from simulator.kernel.draws import Draws
from simulator.kernel.events import EventQueue
from simulator.scenario.faults import RESTART_S
from simulator.scenario.file import FaultBlock
from simulator.serve.lifecycle import Serve
from simulator.serve.rollout import Update

HEALTH_CHECK_PERIOD_S = 10.0
"""Serve asks each replica this often whether it lives (its default)."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The controller dies at `at_s` and decides again `down_s` later, with its saved state or without."""

    at_s: float
    down_s: float
    state_kept: bool


class Faults:
    """All faults of one run. `inside_serve`: Serve's own autoscaler decides, which no API or source stands between."""

    def __init__(
        self,
        blocks: Sequence[FaultBlock],
        queue: EventQueue,
        seed: int,
        serves: Mapping[DeploymentKey, Serve],
        inside_serve: bool,
    ) -> None:
        self._queue = queue
        self._inside_serve = inside_serve
        self._windows: list[tuple[FaultBlock, Draws]] = []
        self.restarts: list[Restart] = []
        for i, block in enumerate(blocks):
            draws = Draws(seed, f"fault/{i}")
            if block.kind in ("source_down", "api_errors"):
                self._windows.append((block, draws))
            elif block.kind == "controller_restart":
                down_s = RESTART_S if block.duration_s is None else block.duration_s
                self.restarts.append(Restart(block.at_s, down_s, block.state != "lost"))
            else:
                assert block.deployment is not None
                serve = serves[DeploymentKey.parse(block.deployment)]
                happen = self._crash if block.kind == "replica_crash" else self._redeploy
                queue.at(block.at_s, lambda h=happen, b=block, s=serve, d=draws: h(b, s, d))  # type: ignore[misc]

    # ------------------------------------------------------------ what happens

    @staticmethod
    def _crash(block: FaultBlock, serve: Serve, draws: Draws) -> None:
        """Some of the replicas that run, by lot; fewer where fewer run."""
        for _ in range(block.replicas or 1):
            which, noticed_after_s = draws.uniform(), draws.uniform() * HEALTH_CHECK_PERIOD_S
            running = [r for r in serve.replicas.values() if r.state == "RUNNING" and not r.crashed]
            if running:
                serve.crash(running[int(which * len(running))], noticed_after_s)

    def _redeploy(self, block: FaultBlock, serve: Serve, draws: Draws) -> None:
        usual = Update(max(serve.spec.initial, 1))
        update = Update(
            usual.replicas if block.replicas is None else block.replicas,
            bool(block.new_image),
            block.rolling_update_fraction or usual.rolling_update_fraction,
            block.max_surge_fraction or usual.max_surge_fraction,
        )
        serve.redeploy(update, keep_target=self._inside_serve)

    # ------------------------------------------------------------ what is in trouble

    def source_down(self, source: str) -> str:
        """Why a source cannot be read now; empty where it can."""
        for block, _ in self._windows:
            if block.source == source and self._now(block) and not self._inside_serve:
                return "no answer (a fault of the scenario)"
        return ""

    def api_trouble(self, api: Literal["serve", "kubernetes"], deployment: DeploymentKey | None = None) -> str:
        """Why this write fails; empty where it does not. Takes a draw for each write that may fail."""
        for block, draws in self._windows:
            if block.kind != "api_errors" or not self._now(block) or self._inside_serve:
                continue
            if (block.api or "serve") != api:
                continue
            if block.deployment is not None and DeploymentKey.parse(block.deployment) != deployment:
                continue
            if draws.uniform() < (1.0 if block.fraction is None else block.fraction):
                return "answered 503 (a fault of the scenario)"
        return ""

    def _now(self, block: FaultBlock) -> bool:
        assert block.duration_s is not None
        return block.at_s <= self._queue.now_s < block.at_s + block.duration_s
