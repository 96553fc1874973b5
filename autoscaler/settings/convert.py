"""From checked settings to what the controller and its shell take.

Not for checking (checks.py) and not for reading files other than engine profiles. No secret passes through.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoscaler.api.access import Readers
from autoscaler.api.listener import ConnectionLimits
from autoscaler.core.types import ControllerConfig, DeploymentSettings, Follows, PoolSettings, Startup
from autoscaler.kuberay.tokens import Tokens
from autoscaler.settings.deployments import Deployment
from autoscaler.settings.document.reading import SettingsFile
from autoscaler.settings.model import (
    Config,
    ElectionConfig,
    KubernetesConfig,
    ServerConfig,
    ServiceConfig,
)
from autoscaler.settings.paths import absolute_path, optional_path, policy_name, read_profile
from autoscaler.settings.pools import NodePool
from autoscaler.settings.prewarm import warm_pool, warm_pools
from autoscaler.settings.settings import Settings
from policies.base import Slo
from policies.capacity import EngineProfile


def to_config(settings: Settings, file: SettingsFile) -> Config:
    """Settings that passed every check, converted. Errors: PolicyError when a profile changed since it was checked."""
    return Config(
        path=file.path,
        controller=_controller(settings, file),
        services=tuple(
            ServiceConfig(
                name=s.name,
                namespace=s.namespace,
                dashboard=s.dashboard.rstrip("/"),
                token_file=optional_path(file, s.token_file),
                ca_file=optional_path(file, s.ca_file),
                timeout_s=s.timeout_s,
                act=s.act,
                nodes=s.nodes,
            )
            for s in settings.services
        ),
        state_path=absolute_path(file, settings.state.path),
        journal_path=absolute_path(file, settings.journal.path),
        journal_max_bytes=settings.journal.max_bytes,
        journal_max_age_s=settings.journal.max_age_s,
        journal_stdout=settings.journal.stdout,
        server=_server(settings, file),
        kubernetes=_kubernetes(settings, file),
        election=ElectionConfig(settings.leader_election.lease_s, settings.leader_election.renew_deadline_s)
        if settings.leader_election.enabled
        else None,
        sources=settings.sources(),
        prewarm=warm_pools(settings),
        reading=settings.reading.limits,
    )


def _server(settings: Settings, file: SettingsFile) -> ServerConfig:
    block = settings.server
    return ServerConfig(
        host=block.host,
        port=block.port,
        token_file=optional_path(file, block.token_file),
        readers=Readers(
            token_file=optional_path(file, block.read_token_file),
            namespace_token_files={name: absolute_path(file, text) for name, text in block.plan_token_files.items()},
            metrics_open=block.open_metrics,
            hosts=tuple(block.hosts),
        ),
        cert_file=optional_path(file, block.cert_file),
        key_file=optional_path(file, block.key_file),
        limits=ConnectionLimits(block.max_connections, block.max_connections_per_peer),
    )


def _kubernetes(settings: Settings, file: SettingsFile) -> KubernetesConfig | None:
    block = settings.kubernetes
    if block is None:
        return None
    return KubernetesConfig(
        watch_namespaces=tuple(block.watch_namespaces),
        name=block.name,
        namespace=block.namespace,
        tokens=Tokens(
            optional_path(file, block.tokens),
            {secret: absolute_path(file, path) for secret, path in block.token_files.items()},
        ),
        nodes=block.nodes,
        autoscalers=block.autoscalers,
        events=block.events,
        kubeconfig=optional_path(file, block.kubeconfig),
        context=block.context,
        timeout_s=block.timeout_s,
    )


def _controller(settings: Settings, file: SettingsFile) -> ControllerConfig:
    deployments = tuple(_deployment(d, file) for d in settings.deployments)
    ceilings = [block.hint_max_rps for block in settings.sources().values() if block.hint_max_rps is not None]
    return ControllerConfig(
        deployments=deployments,
        pools=tuple(_pool(p, deployments) for p in settings.node_pools),
        policy_name=policy_name(settings, file),
        policy_options=dict(settings.policy.options),
        tick_s=settings.tick_s,
        dry_run=settings.dry_run,
        gpu_budget=dict(settings.gpu_budget),
        guards=settings.guards.settings,
        full_guards=True,
        hint_max_rps=min(ceilings) if ceilings else None,
        tenants=settings.tenants.rules,
        namespace_forecasters=None if settings.kubernetes is None else settings.reading.namespace_forecasters,
        namespace_deployments=None if settings.kubernetes is None else settings.reading.namespace_deployments,
        sha256=file.sha256,
    )


def _deployment(entry: Deployment, file: SettingsFile) -> DeploymentSettings:
    profile = None if entry.profile is None else read_profile(file, entry.profile)
    follows = entry.follows
    return DeploymentSettings(
        match=entry.match,
        profile=profile,
        node_pools=tuple(entry.node_pools),
        min_replicas=entry.replicas.min,
        max_replicas=entry.replicas.max,
        slo=Slo(entry.slo.ttft_s, entry.slo.itl_s, entry.slo.target_fraction),
        weight=entry.weight,
        priority=entry.priority,
        guaranteed_gpus=entry.guaranteed_gpus,
        gpus_per_replica=entry.gpus_per_replica,
        follows=None if follows is None else Follows(follows.deployment, follows.ratio, follows.min),
        startup=_startup(entry, profile),
        may_widen=tuple(entry.may_widen),
        schedule=tuple(block.load for block in entry.schedule),
    )


def _startup(entry: Deployment, profile: EngineProfile | None) -> Startup | None:
    """Stages that the file leaves open are the profile's, else the core's defaults."""
    load_s, init_s = entry.startup.load_s, entry.startup.init_s
    if load_s is None and init_s is None:
        return None
    known = Startup() if profile is None else Startup(profile.load_s, profile.init_s)
    return Startup(load_s or known.load_s, init_s or known.init_s)


def _pool(entry: NodePool, deployments: Sequence[DeploymentSettings]) -> PoolSettings:
    """What the file leaves open comes from the profiles that run on the pool: the GPU kind, and the dearest price."""
    profiles = [d.profile for d in deployments if d.profile is not None and entry.name in d.node_pools]
    prices = [p.price_usd_per_gpu_hour for p in profiles if p.price_usd_per_gpu_hour is not None]
    price = entry.gpus_per_node * max(prices) if prices else None
    return PoolSettings(
        name=entry.name,
        gpus_per_node=entry.gpus_per_node,
        gpu=entry.gpu or (profiles[0].gpu if profiles else ""),
        min_nodes=entry.min_nodes,
        max_nodes=entry.max_nodes,
        prewarm=entry.prewarm,
        max_run_s=warm_pool(entry, "", "").max_run_s,
        price_usd_per_hour=price if entry.price_usd_per_hour is None else entry.price_usd_per_hour,
        real_prices_usd_per_hour=dict(entry.real_prices_usd_per_hour),
        provision_s=entry.provision_s,
        image_pull_s=entry.image_pull_s,
        worker_start_s=entry.worker_start_s,
    )
