"""From checked settings to what the controller and its shell take: plain frozen dataclasses with absolute paths.

Not for checking (config_checks.py) and not for reading files other than engine profiles. No secret passes through.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.config_prewarm import warm_pool, warm_pools
from autoscaler.config_yaml import SettingsFile
from autoscaler.model import (
    ActWay,
    ControllerConfig,
    DeploymentSettings,
    Follows,
    GuardSettings,
    PoolSettings,
    Startup,
)
from autoscaler.mqtt_link import MqttBroker
from autoscaler.prewarm import WarmPool
from policies.base import Slo
from policies.engines import EngineProfile, load_profile

if TYPE_CHECKING:
    from autoscaler.config import Deployment, NodePool, Settings

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One Ray cluster to look after. `token_file` and `ca_file` are read by whoever talks to it."""

    name: str
    namespace: str
    dashboard: str
    token_file: Path | None
    ca_file: Path | None
    timeout_s: float
    act: ActWay = "external"
    nodes: bool = False
    """Its dashboard's list of nodes is read, too."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the controller's own pages are, and the file with the token that pause and resume need."""

    host: str
    port: int
    token_file: Path | None


@dataclass(frozen=True, slots=True)
class PrometheusConfig:
    """A Prometheus server. `match` still holds {namespace} and {service}."""

    url: str
    token_file: Path | None
    ca_file: Path | None
    match: str
    history_s: float
    signals: bool
    timeout_s: float


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """What the settings say of a cluster. `namespace` None: the pod's own."""

    watch_namespaces: tuple[str, ...]
    name: str
    namespace: str | None
    tokens: Path | None
    nodes: bool
    events: bool
    kubeconfig: Path | None
    context: str | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """An MQTT broker; its password is read by whoever connects."""

    broker: MqttBroker
    publish: bool


@dataclass(frozen=True, slots=True)
class ElectionConfig:
    """Several controllers: how long a lease lasts, and when after the last renewal writes stop."""

    lease_s: float
    renew_deadline_s: float


@dataclass(frozen=True, slots=True)
class Config:
    """Everything of a settings file: what the core needs (`controller`), and what the shell around it needs."""

    path: Path
    controller: ControllerConfig
    services: tuple[ServiceConfig, ...]
    state_path: Path
    journal_path: Path
    journal_max_bytes: int
    server: ServerConfig
    prometheus: PrometheusConfig | None = None
    kubernetes: KubernetesConfig | None = None
    election: ElectionConfig | None = None
    mqtt: MqttConfig | None = None
    prewarm: tuple[WarmPool, ...] = ()


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
        server=ServerConfig(
            settings.server.host, settings.server.port, optional_path(file, settings.server.token_file)
        ),
        prometheus=_prometheus(settings, file),
        kubernetes=_kubernetes(settings, file),
        election=ElectionConfig(settings.leader_election.lease_s, settings.leader_election.renew_deadline_s)
        if settings.leader_election.enabled
        else None,
        mqtt=_mqtt(settings, file),
        prewarm=warm_pools(settings),
    )


def _mqtt(settings: Settings, file: SettingsFile) -> MqttConfig | None:
    block = settings.mqtt
    if block is None:
        return None
    own = hashlib.sha256(f"{file.path.absolute()} {block.prefix}".encode()).hexdigest()[:8]
    broker = MqttBroker(
        host=block.host,
        port=block.port or (8883 if block.tls else 1883),
        identifier=block.identifier or f"leadtime-{socket.gethostname()}-{own}",
        tls=block.tls,
        ca_file=optional_path(file, block.ca_file),
        client_cert_file=optional_path(file, block.client_cert_file),
        client_key_file=optional_path(file, block.client_key_file),
        username=block.username,
        password_file=optional_path(file, block.password_file),
        prefix=block.prefix,
        timeout_s=block.timeout_s,
    )
    return MqttConfig(broker, block.publish)


def _kubernetes(settings: Settings, file: SettingsFile) -> KubernetesConfig | None:
    block = settings.kubernetes
    if block is None:
        return None
    return KubernetesConfig(
        watch_namespaces=tuple(block.watch_namespaces),
        name=block.name,
        namespace=block.namespace,
        tokens=optional_path(file, block.tokens),
        nodes=block.nodes,
        events=block.events,
        kubeconfig=optional_path(file, block.kubeconfig),
        context=block.context,
        timeout_s=block.timeout_s,
    )


def _prometheus(settings: Settings, file: SettingsFile) -> PrometheusConfig | None:
    block = settings.prometheus
    if block is None:
        return None
    return PrometheusConfig(
        url=block.url.rstrip("/"),
        token_file=optional_path(file, block.token_file),
        ca_file=optional_path(file, block.ca_file),
        match=block.match,
        history_s=block.history_s,
        signals=block.signals,
        timeout_s=block.timeout_s,
    )


def _controller(settings: Settings, file: SettingsFile) -> ControllerConfig:
    guards = settings.guards
    deployments = tuple(_deployment(d, file) for d in settings.deployments)
    return ControllerConfig(
        deployments=deployments,
        pools=tuple(_pool(p, deployments) for p in settings.node_pools),
        policy_name=policy_name(settings, file),
        policy_options=dict(settings.policy.options),
        tick_s=settings.tick_s,
        dry_run=settings.dry_run,
        gpu_budget=dict(settings.gpu_budget),
        guards=GuardSettings(
            stale_after_s=guards.stale_after_s,
            scale_down_stabilization_s=guards.scale_down_stabilization_s,
            max_step_up=guards.max_step_up,
            max_step_down=guards.max_step_down,
        ),
        full_guards=True,
        hint_max_rps=settings.mqtt.max_rps_per_deployment if settings.mqtt else None,
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


# ---------------------------------------------------------------- paths


def folder(file: SettingsFile) -> Path:
    """The folder that relative paths in the file start from."""
    return file.path.absolute().parent


def read_profile(file: SettingsFile, name_or_path: str) -> EngineProfile:
    """A preset, or a file relative to the settings. Errors: PolicyError."""
    return load_profile(name_or_path, folder(file))


def policy_name(settings: Settings, file: SettingsFile) -> str:
    """The policy's name; of a policy in a file (FILE.py:CLASS) with the file's absolute path."""
    name = settings.policy.name
    return str(absolute_path(file, name)) if ".py:" in name else name


def absolute_path(file: SettingsFile, text: str) -> Path:
    """A path setting: `~` and `$VARIABLES` filled in, relative to the settings file's folder."""
    return folder(file) / os.path.expanduser(os.path.expandvars(text))


def optional_path(file: SettingsFile, text: str | None) -> Path | None:
    return None if text is None else absolute_path(file, text)


def unset_variable(text: str) -> str | None:
    """The name of the first environment variable in a path setting that is not set."""
    for match in _VARIABLE.finditer(text):
        name = match.group(1).strip("{}")
        if name not in os.environ:
            return name
    return None
