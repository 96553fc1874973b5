"""The demo's own settings: how long, how fast, with which seed, and what each deployment may have. Plain data.

Also the controller's settings file for it, written out as a user would write it, so that what runs is what
`leadtime run --config` would run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from leadtime.demo.nodes import POOL, Nodes
from leadtime.demo.traffic import DEMANDS, Demand
from policies.base import Slo

APP = "demo"
INGRESS = "OpenAiIngress"
MAX_ONGOING = 8
"""Requests that a replica takes at once: as many as its engine runs (max_num_seqs); the rest wait at the handle."""
RAY_START_S = 2.5
"""What a replica takes besides loading: a Ray worker process, imports, Serve's own part. Seen on two cores."""
_MOST = {"chat": 6, "code": 2}
"""Replicas that each deployment may have: eight in all, for Serve as for leadtime."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One demo. Times in seconds of the wall clock."""

    seconds: float = 150.0
    """How long traffic lasts in each pass."""
    day_s: float = 150.0
    """How long a day of traffic takes."""
    seed: int = 7
    baseline: Literal["simulated", "live"] = "simulated"
    start_s: tuple[float, float] = (20.0, 25.0)
    """Least and most that a replica takes to start."""
    bin_s: float = 5.0
    history_days: int = 7
    patience_s: float = 20.0
    """How long requests under way may take after the last one was sent."""
    slo: Slo = Slo(ttft_s=1.0, itl_s=None, target_fraction=0.98)
    """One promise, so that one can see whether it is kept: the first token within a second, for 98 of 100."""
    demands: tuple[Demand, ...] = DEMANDS
    nodes: Nodes | None = None
    """GPUs are on nodes that have to be made; None: all of them are there."""

    def most_replicas(self, deployment: str) -> int:
        return _MOST[deployment]

    @property
    def gpus(self) -> int:
        """As many pretended GPUs as all replicas together may hold."""
        return sum(self.most_replicas(d.deployment) for d in self.demands)

    @property
    def startup(self) -> dict[str, object]:
        """What to expect of a replica's start besides its node, as settings and scenarios have it."""
        low, high = self.start_s
        return {"load_s": {"median": (low + high) / 2, "p99": high}, "init_s": RAY_START_S}

    @property
    def ttft_s(self) -> float:
        """The promise on the first token."""
        assert self.slo.ttft_s is not None
        return self.slo.ttft_s


def settings(
    spec: Spec, dashboard: str, folder: Path, port: int, act: bool, profile: Path, token_file: Path | None = None
) -> str:
    """The controller's settings file. `folder` takes journal and state; without `act` it is a dry run."""
    service: dict[str, object] = {"name": "local", "namespace": "default", "dashboard": dashboard}
    if spec.nodes is not None:
        service["nodes"] = True
    if token_file is not None:
        service["token_file"] = str(token_file)
    document = {
        "version": 1,
        "dry_run": not act,
        "tick_s": 1.0,
        "services": [service],
        "deployments": [
            {
                "match": f"{APP}/{demand.deployment}",
                "profile": str(profile),
                **({} if spec.nodes is None else {"node_pools": [POOL], "startup": spec.startup}),
                "replicas": {"min": 1, "max": spec.most_replicas(demand.deployment)},
                "slo": {
                    "ttft_s": spec.slo.ttft_s,
                    "itl_s": spec.slo.itl_s,
                    "target_fraction": spec.slo.target_fraction,
                },
            }
            for demand in spec.demands
        ],
        "node_pools": [] if spec.nodes is None else [_pool(spec.nodes)],
        # A day of 150 s: what a user leaves at its default because days last 24 h has to be told here.
        "policy": {"name": "predictive", "options": policy_options(spec)},
        "guards": guards(),
        "state": {"path": str(folder / "leadtime.sqlite")},
        "journal": {"path": str(folder / "journal")},
        "server": {"host": "127.0.0.1", "port": port},
    }
    return yaml.safe_dump(document, sort_keys=False)


def _pool(nodes: Nodes) -> dict[str, object]:
    """The pool of the controller's settings. On Ray a node is its own worker: it has no image to pull."""
    ready_s = nodes.provision_s + nodes.raylet_s
    return {
        "name": POOL,
        "gpus_per_node": nodes.gpus_per_node,
        "max_nodes": nodes.most,
        "prewarm": "request_resources",
        "provision_s": {"median": ready_s, "p99": 1.6 * ready_s},
        "image_pull_s": 0.0,
        "worker_start_s": 0.0,
    }


def policy_options(spec: Spec) -> dict[str, float | str]:
    """What differs from a real day: its length, hence the bins, and how fast a backlog should be gone.

    A day of so few bins teaches the default forecaster, which learns from each, too little; the plainer one needs less.
    """
    return {"forecaster": "seasonal", "season_s": spec.day_s, "bin_s": spec.bin_s, "drain_s": 20.0}


def guards() -> dict[str, float]:
    """Waiting before a scale-down is counted in a day's minutes, too: 10 s are a good hour and a half of this day."""
    return {"stale_after_s": 15.0, "scale_down_stabilization_s": 10.0}


def application(spec: Spec, act: bool) -> dict[str, object]:
    """The Serve application: scaled from outside, or (not `act`) by Serve's own autoscaler with its defaults."""
    deployments: list[dict[str, object]] = []
    for demand in spec.demands:
        name = demand.deployment
        scaling: dict[str, object] = {"num_replicas": 1}
        if not act:
            scaling = {"autoscaling_config": {"min_replicas": 1, "max_replicas": spec.most_replicas(name)}}
        deployments.append({"name": name, "max_ongoing_requests": MAX_ONGOING, **scaling})
    return {
        "name": APP,
        "route_prefix": "/",
        "import_path": "leadtime.demo.ray_app:build",
        "args": {
            "models": [demand.deployment for demand in spec.demands],
            "seed": spec.seed,
            "start_s": list(spec.start_s),
        },
        "external_scaler_enabled": act,
        "deployments": deployments,
    }
