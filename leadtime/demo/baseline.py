"""The demo's comparison without waiting for it: the same arrivals through the simulator, under Serve's own autoscaler.

Writes an ordinary scenario (which `leadtime compare` takes as well), then runs a policy on it in a child process, where
Ctrl-C can end it. Run as a module it is that child: `python -m leadtime.demo.baseline SCENARIO POLICY`.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from leadtime.demo.local_ray import DemoError
from leadtime.demo.nodes import Nodes
from leadtime.demo.spec import APP, MAX_ONGOING, Spec, guards, policy_options
from leadtime.demo.traffic import Request
from leadtime.demo.users import Served
from policies.base import DeploymentKey

if TYPE_CHECKING:
    from simulator.kernel.outcomes import Ended

_POOL = "laptop"


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the simulator says users would have got."""

    served: tuple[Served, ...]
    replica_seconds: float


def write_scenario(
    spec: Spec,
    folder: Path,
    profile: Path,
    days_before: dict[str, Sequence[Request]],
    today: dict[str, Sequence[Request]],
    ahead: bool = True,
) -> Path:
    """The demo as a scenario: traces of every deployment (the days before and today), and the file that names them.

    `ahead` False: nobody asks for nodes before replicas want them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shift_s = spec.history_days * spec.day_s
    deployments = []
    for demand in spec.demands:
        name = demand.deployment
        trace = f"{name}.csv"
        _write_trace(folder / trace, [*days_before[name], *today[name]], shift_s)
        deployments.append(
            {
                "name": f"{APP}/{name}",
                "profile": str(profile),
                "node_pool": _POOL,
                "replicas": {"min": 1, "max": spec.most_replicas(name), "initial": 1},
                "slo": {
                    "ttft_s": spec.slo.ttft_s,
                    "itl_s": spec.slo.itl_s,
                    "target_fraction": spec.slo.target_fraction,
                },
                "startup": spec.startup,
                "max_ongoing_requests": MAX_ONGOING,
                "graceful_shutdown_timeout_s": 60,
                "workload": {"requests": trace, "start_s": shift_s},
                "history": {"requests": trace},
            }
        )
    document = {
        "version": 1,
        "name": "demo",
        "duration_s": spec.seconds,
        "seed": spec.seed,
        "tick_s": 1,
        "telemetry": {"profile": "ray_serve", "period_s": 1.0, "delay_s": 1.0},
        "policy": {"name": "predictive", "options": policy_options(spec)},
        "guards": guards(),
        "deployments": deployments,
        "node_pools": [_laptop(spec) if spec.nodes is None else _nodes(spec.nodes, ahead)],
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def _laptop(spec: Spec) -> dict[str, object]:
    return {
        "name": _POOL,
        # More than all replicas may hold: nobody ever waits for a node, as on the one machine of the live demo.
        "gpus_per_node": min(spec.gpus + 8, 64),
        "nodes": {"min": 1, "max": 1, "initial": 1},
        "prewarm": "none",
        "price_usd_per_hour": 0.0,
    }


def _nodes(nodes: Nodes, ahead: bool) -> dict[str, object]:
    """As Ray's own autoscaler has them: a node's worker is the node's raylet, and it looks every second."""
    return {
        "name": _POOL,
        "gpus_per_node": nodes.gpus_per_node,
        "nodes": {"min": 0, "max": nodes.most, "initial": 1},
        "provision_s": nodes.provision_s,
        "image_pull_s": 0.0,
        "worker": {
            "gpus": nodes.gpus_per_node,
            "start_s": nodes.raylet_s,
            "idle_timeout_s": nodes.idle_timeout_s,
            "autoscaler_period_s": 1.0,
        },
        "scale_down_after_s": 1.0,
        "prewarm": "request_resources" if ahead else "none",
        "price_usd_per_hour": 0.0,
    }


def _write_trace(path: Path, requests: Sequence[Request], shift_s: float) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("timestamp_s", "prompt_tokens", "output_tokens"))
        for request in requests:
            writer.writerow((f"{request.at_s + shift_s:.6f}", request.prompt_tokens, request.output_tokens))


async def simulate(scenario: Path, policy: str) -> Simulated:
    """Run `policy` on the scenario in a child process. Errors: DemoError with the child's last words."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "leadtime.demo.baseline", str(scenario), policy,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        said = err.decode(errors="replace").strip().splitlines()
        raise DemoError(f"leadtime demo: the simulated baseline failed: {said[-1] if said else 'it said nothing'}")
    return _decode(json.loads(out))


def _decode(document: dict[str, Any]) -> Simulated:
    served = [Served(**row) for row in document["served"]]
    return Simulated(tuple(served), document["replica_seconds"])


# ---------------------------------------------------------------- the child


def main(words: Sequence[str]) -> int:
    from leadtime.demo.engine import without_compiling

    without_compiling()  # a few minutes of a few replicas are simulated sooner than machine code is made
    from simulator.experiments.simulation import simulate as simulate_scenario
    from simulator.run import Choice, Outputs, make_policy
    from simulator.scenario.load import load_scenario

    scenario = load_scenario(words[0])
    sink = _Sink()
    choice = Choice(words[1], {} if words[1] != scenario.file.policy.name else scenario.file.policy.options)
    result = simulate_scenario(scenario, make_policy(scenario, choice), Outputs(requests=sink))
    document = {
        "served": sink.rows,
        "replica_seconds": sum(d.allocated_gpu_s / d.gpus_per_replica for d in result.deployments),
    }
    sys.stdout.write(json.dumps(document))
    return 0


class _Sink:
    """Keeps requests as the demo's own users would have noted them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key: DeploymentKey, ended: Ended) -> None:
        for i in range(len(ended)):
            ok = int(ended.status[i]) == 0
            ttft_s = float(ended.ttft_s[i])
            self.rows.append(
                {
                    "deployment": key.deployment,
                    "at_s": float(ended.arrival_s[i]),
                    "status": "ok" if ok else "unfinished",
                    "ttft_s": None if math.isnan(ttft_s) else ttft_s,
                    "last_s": float(ended.e2e_s[i]) if ok else None,
                    "tokens": int(ended.output_tokens[i]),
                }
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
