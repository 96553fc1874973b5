"""The faults of one run: lets each happen at its time, and asks them what is in trouble now.

What each kind does is in simulator/faults. Every fault draws its luck from a stream of its own, so that policies meet
the same. What a controller does without its memory is loop.py's, what it still knows of a source that is down is
observation.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from policies.base import DeploymentKey
from simulator.faults.base import Api, Fault, Restart, World
from simulator.kernel.draws import Draws
from simulator.kernel.events import EventQueue
from simulator.serve.lifecycle import Serve


class Faults:
    """All faults of one run. `inside_serve`: Serve's own autoscaler decides, which no API or source stands between."""

    def __init__(
        self,
        faults: Sequence[Fault],
        queue: EventQueue,
        seed: int,
        serves: Mapping[DeploymentKey, Serve],
        inside_serve: bool,
    ) -> None:
        self._queue = queue
        self._inside_serve = inside_serve
        self._all = [(fault, Draws(seed, f"fault/{i}")) for i, fault in enumerate(faults)]
        restarts = [fault.restart() for fault in faults]
        self.restarts: list[Restart] = [one for one in restarts if one is not None]
        world = World(queue, serves, inside_serve)
        for fault, draws in self._all:
            queue.at(fault.at_s, partial(fault.happen, world, draws))

    def source_down(self, source: str) -> str:
        """Why a source cannot be read now; empty where it can."""
        if self._inside_serve:
            return ""
        return next(filter(None, (f.source_trouble(source, self._queue.now_s) for f, _ in self._all)), "")

    def api_trouble(self, api: Api, deployment: DeploymentKey | None = None) -> str:
        """Why this write fails; empty where it does not."""
        if self._inside_serve:
            return ""
        now_s = self._queue.now_s
        return next(filter(None, (f.write_trouble(api, deployment, now_s, d) for f, d in self._all)), "")
