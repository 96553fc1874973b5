"""What the controller is told of a scenario: its settings, as they would be in that cluster."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from autoscaler.core.types import ControllerConfig, DeploymentSettings, PoolSettings, Startup
from policies.base import Policy
from simulator.scenario.load import Scenario


def controller_config(scenario: Scenario, policy: Policy) -> ControllerConfig:
    """The settings that the controller would have in that cluster."""
    deployments = tuple(
        DeploymentSettings(
            match=d.key.full,
            profile=d.profile,
            node_pools=d.block.pools,
            min_replicas=d.block.replicas.min,
            max_replicas=d.block.replicas.max,
            slo=d.slo,
            weight=d.block.weight,
            priority=d.block.priority,
            guaranteed_gpus=d.block.guaranteed_gpus,
            gpus_per_replica=d.gpus,
            startup=Startup(d.load_s, d.init_s),
        )
        for d in scenario.deployments
    )
    pools = tuple(
        PoolSettings(
            name=p.name,
            gpus_per_node=p.gpus_per_node,
            gpu=next((d.profile.gpu for d in scenario.deployments if p.name in d.block.pools), ""),
            min_nodes=p.nodes.min,
            max_nodes=p.nodes.max,
            prewarm=p.prewarm,
            price_usd_per_hour=scenario.node_price_usd_per_hour(p),
            provision_s=p.provision_s,
            image_pull_s=p.image_pull_s,
            worker_start_s=p.worker.start_s,
        )
        for p in scenario.pools
    )
    return ControllerConfig(
        deployments=deployments,
        pools=pools,
        policy_name=policy.name,
        policy_options=policy_options(policy),
        tick_s=scenario.file.tick_s,
        dry_run=False,
        gpu_budget=dict(scenario.file.gpu_budget),
        guards=scenario.file.guards.settings,
        sha256=scenario.sha256,
    )


def policy_options(policy: Policy) -> dict[str, Any]:
    """A policy's options as plain data."""
    options = policy.options
    return asdict(options) if is_dataclass(options) and not isinstance(options, type) else {}
