"""What a settings file comes to: plain frozen dataclasses with absolute paths, for the core and for its shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoscaler.api.access import Readers
from autoscaler.api.listener import ConnectionLimits
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.core.types import ActWay, ControllerConfig
from autoscaler.core.types.pools import WarmPool
from autoscaler.kuberay.tokens import Tokens
from autoscaler.settings.sources.base import SourceBlock


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
    """Where the controller's own pages are, who may read them, and the token that pause and resume need."""

    host: str
    port: int
    token_file: Path | None
    readers: Readers = Readers()
    cert_file: Path | None = None
    key_file: Path | None = None
    limits: ConnectionLimits = ConnectionLimits()


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """What the settings say of a cluster. `namespace` None: the pod's own."""

    watch_namespaces: tuple[str, ...]
    name: str
    namespace: str | None
    tokens: Tokens
    nodes: bool
    autoscalers: bool
    events: bool
    kubeconfig: Path | None
    context: str | None
    timeout_s: float


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
    journal_max_age_s: float | None = None
    journal_stdout: bool = False
    kubernetes: KubernetesConfig | None = None
    election: ElectionConfig | None = None
    sources: Mapping[str, SourceBlock] = field(default_factory=dict)
    """Those beside Ray and Kubernetes, by their keys in the settings."""
    prewarm: tuple[WarmPool, ...] = ()
    reading: ReadingLimits = ReadingLimits()
