"""The controller's settings as a whole: every key of the file, each documented where it is declared.

The reference table, the JSON schema and the words of every error come from the declarations in this room. Not for what
several keys say together (checks.py), and not for reading secrets: only the paths of their files pass through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model

from autoscaler.common.registered import classes_in
from autoscaler.settings.connections import Kubernetes, Service
from autoscaler.settings.deployments import Deployment, Tenants
from autoscaler.settings.document.blocks import Block, Guards, Name, words
from autoscaler.settings.kinds import HostName, PathText
from autoscaler.settings.pools import NodePool
from autoscaler.settings.reading import Reading
from autoscaler.settings.sources.base import SourceBlock


class PolicyBlock(Block):
    """Who decides how many replicas are wanted."""

    name: str = Field(
        default="predictive",
        min_length=1,
        description="The policy: a built-in one, one of an installed package, or a class in a file of your own.",
        json_schema_extra=words("a policy's name, or FILE.py:CLASS"),
    )
    options: dict[str, Any] = Field(
        default={},
        description="Its options: docs/policy-options.md lists them, `leadtime tune` writes such a block.",
    )


class State(Block):
    """What survives a restart."""

    path: PathText = Field(
        default="./leadtime.sqlite", description="File (SQLite) that keeps what was learned; made when it is missing."
    )


class Journal(Block):
    """What was seen and decided, tick by tick, for replay and explain."""

    path: PathText = Field(default="./journal", description="Folder of the journal's files; made when it is missing.")
    max_bytes: int = Field(
        default=100_000_000, ge=100_000, description="Bytes that the folder may take; the oldest files go first."
    )
    max_age_s: float | None = Field(
        default=None,
        ge=3600,
        description="Seconds after which files go, however few bytes they take; null = by their bytes alone.",
        examples=[2592000],
    )
    stdout: bool = Field(
        default=False,
        description="true = every record is also one JSON line on stdout, for a collector of logs.",
    )


class Server(Block):
    """The controller's own HTTP pages."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on.",
        json_schema_extra=words("a host or IP address"),
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    token_file: PathText | None = Field(
        default=None, description="File with the bearer token that pause and resume need; null = they are refused."
    )
    read_token_file: PathText | None = Field(
        default=None,
        description="File with the bearer token that reading the pages needs (the one of pause and resume will do, "
        "too); null = everybody who reaches them reads. /healthz and /readyz are open always.",
    )
    open_metrics: bool = Field(
        default=False, description="true = /metrics needs no token, for a scraper that can send none."
    )
    plan_token_files: dict[Name, PathText] = Field(
        default={},
        description="Namespace and file with the token that reads /api/v1/plan of that namespace, and nothing else; "
        "needs read_token_file.",
        json_schema_extra=words("a mapping of namespaces to files"),
    )
    hosts: list[HostName] = Field(
        default=[],
        examples=[["leadtime.llm", "leadtime.llm.svc"]],
        description="Names by which the pages may be asked, besides IP addresses and localhost (against DNS "
        "rebinding); `*` = any.",
    )
    cert_file: PathText | None = Field(
        default=None, description="File with a certificate (PEM): the pages are served with TLS; read again on change."
    )
    key_file: PathText | None = Field(
        default=None, description="File with its private key (PEM); null = it is in cert_file, too."
    )
    max_connections: int = Field(
        default=512,
        ge=16,
        le=65535,
        description="Open connections; when all are taken, the one that waits longest for a request makes room.",
    )
    max_connections_per_peer: int = Field(
        default=64, ge=4, le=65535, description="Open connections of one address; another one is closed at once."
    )


class LeaderElection(Block):
    """Several controllers, of which one acts."""

    enabled: bool = Field(
        default=False, description="true = one of several controllers leads by a Lease; needs kubernetes."
    )
    lease_s: float = Field(
        default=15.0, ge=2, le=3600, description="Seconds without a renewal after which another one may lead."
    )
    renew_deadline_s: float = Field(
        default=10.0, ge=1, le=3600, description="Seconds after the last renewal when writes stop."
    )


class _Settings(Block):
    """The settings file of `leadtime run`, but for the sources that register themselves."""

    version: Literal[1] = Field(description="Version of this format.", examples=[1])
    dry_run: bool = Field(
        default=True, description="true = observe, forecast, plan and explain, but change nothing; false = act."
    )
    tick_s: float = Field(default=5.0, ge=0.5, le=300, description="Seconds from one decision to the next.")
    services: list[Service] = Field(
        default=[],
        description="The Ray clusters to look after, besides those that kubernetes finds; without it, at least one.",
        examples=[[{"dashboard": "http://127.0.0.1:8265"}]],
    )
    deployments: list[Deployment] = Field(default=[], description="What each deployment may have and must reach.")
    tenants: Tenants = Field(
        default=Tenants(), description="What annotations may do where no entry of deployments says more."
    )
    node_pools: list[NodePool] = Field(default=[], description="The pools of nodes that GPUs come from.")
    gpu_budget: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description="Most GPUs of a kind, over all deployments; a kind left out has no limit.",
        examples=[{"nvidia-h100-80gb": 32}],
        json_schema_extra=words("a mapping of GPU kinds to whole numbers >= 0"),
    )
    reading: Reading = Field(default=Reading(), description="What reading one service may cost, and where it may lead.")
    policy: PolicyBlock = Field(default=PolicyBlock(), description="Who decides how many replicas are wanted.")
    guards: Guards = Field(default=Guards(), description="Limits that hold whatever the policy wants.")
    state: State = Field(default=State(), description="What survives a restart.")
    journal: Journal = Field(default=Journal(), description="What was seen and decided, for replay and explain.")
    server: Server = Field(default=Server(), description="The controller's own HTTP pages.")
    leader_election: LeaderElection = Field(
        default=LeaderElection(), description="Several controllers, one of which acts."
    )
    kubernetes: Kubernetes | None = Field(
        default=None, description="Find Ray services through the Kubernetes API; null = only those under services."
    )

    def sources(self) -> dict[str, SourceBlock]:
        """The sources beside Ray and Kubernetes that the file has, by their keys."""
        return {key: block for key, block in self if key in SOURCES and block is not None}


SOURCES = classes_in("autoscaler.settings.sources", SourceBlock)  # type: ignore[type-abstract] # only inherited from
"""Each source beside Ray and Kubernetes by its key in the settings, which is its file's name."""

if TYPE_CHECKING:
    Settings = _Settings
else:
    Settings = create_model(
        "Settings",
        __base__=_Settings,
        __module__=__name__,
        __doc__="The settings file of `leadtime run`.",
        **{key: (kind | None, Field(default=None, description=kind.PURPOSE)) for key, kind in SOURCES.items()},
    )


def settings_schema() -> dict[str, Any]:
    """The JSON schema of the settings file, from which words, table and example are made."""
    schema = Settings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "leadtime controller settings",
    }
