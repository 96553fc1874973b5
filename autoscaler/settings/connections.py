"""Settings of what the controller reads from and writes to: Ray clusters, Prometheus, an MQTT broker, Kubernetes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autoscaler.settings.document.blocks import Block, Name, words
from autoscaler.settings.kinds import MATCHERS, PathText, Url

SecretName = Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$", json_schema_extra=words("NAMESPACE/SECRET"))]


class Service(Block):
    """One Ray cluster that runs Serve."""

    name: Name = Field(
        default="local", description="Name of the service in deployment keys: the RayService's name, or any name."
    )
    namespace: Name = Field(default="default", description="Namespace in deployment keys.")
    dashboard: Url = Field(
        description="Address of the Ray dashboard, which serves Serve's REST API.", examples=["http://127.0.0.1:8265"]
    )
    token_file: PathText | None = Field(
        default=None,
        description="File with the dashboard's bearer token (Ray's RAY_AUTH_MODE=token); read again when it changes.",
    )
    ca_file: PathText | None = Field(
        default=None,
        description="File with the certificates (PEM) to trust for an https dashboard instead of the system's.",
    )
    metrics: Literal["auto"] = Field(
        default="auto",
        description="Where metrics come from: auto = the metrics pages of the nodes that the dashboard lists.",
    )
    timeout_s: float = Field(
        default=4.0, gt=0, le=60, description="Seconds after which a read or a write of this service is given up."
    )
    act: Literal["external", "policy"] = Field(
        default="external",
        description="How replicas are set: external = posted to Serve's external-scaler API; policy = nothing is "
        "posted, and leadtime_serve_policy in Serve's autoscaling_config follows the published plan.",
    )
    nodes: bool = Field(
        default=False,
        description="true = nodes of node_pools are those that this Ray cluster lists (a Ray without Kubernetes).",
    )


class Prometheus(Block):
    """A Prometheus server that scrapes the Ray nodes."""

    url: Url = Field(description="Its address, with the path before /api/v1.", examples=["http://prometheus:9090"])
    token_file: PathText | None = Field(
        default=None, description="File with its bearer token; read again at each request."
    )
    ca_file: PathText | None = Field(
        default=None, description="File with the certificates (PEM) to trust for https instead of the system's."
    )
    match: str = Field(
        default="",
        pattern=MATCHERS,
        description="Label matchers that single out one Ray service; {namespace} and {service} are filled in.",
        examples=['namespace="{namespace}", ray_io_cluster=~"{service}-.*"'],
        json_schema_extra=words("PromQL label matchers, separated by commas"),
    )
    history_s: float = Field(
        default=7 * 86400.0,
        ge=0,
        le=35 * 86400,
        description="Seconds of past traffic that the forecaster is shown at start; 0 = none.",
    )
    signals: bool = Field(
        default=False,
        description="true = also take metrics from it where the pages of the Ray nodes cannot be read.",
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds after which a query is given up.")


class Mqtt(Block):
    """An MQTT broker where demand is announced, and plans are published."""

    host: str = Field(
        pattern=r"^[^/@\s]+$", description="The broker.", json_schema_extra=words("a host or IP address"),
        examples=["mqtt.example.com"],
    )  # fmt: skip
    port: int | None = Field(default=None, ge=1, le=65535, description="Its port; null = 8883 with TLS, else 1883.")
    tls: bool = Field(default=True, description="false = unencrypted, the password too.")
    ca_file: PathText | None = Field(
        default=None, description="File with the certificates (PEM) to trust instead of the system's."
    )
    client_cert_file: PathText | None = Field(
        default=None,
        description="File with a certificate (PEM) that says who this is, for a broker that asks for one; read again "
        "at each connection.",
    )
    client_key_file: PathText | None = Field(
        default=None, description="File with its private key (PEM); null = it is in client_cert_file too."
    )
    username: str | None = Field(default=None, min_length=1, description="User to log in as; null = nobody.")
    password_file: PathText | None = Field(
        default=None, description="File with the user's password; read again at each connection."
    )
    prefix: str = Field(
        default="leadtime",
        pattern=r"^[^/#+\s]+(/[^/#+\s]+)*$",
        max_length=200,
        description="What every topic begins with.",
        json_schema_extra=words("a topic without wildcards, such as leadtime or team/leadtime"),
    )
    max_rps_per_deployment: float = Field(
        default=1000.0, gt=0, le=1e6, description="Requests per second that hints may raise a deployment's demand to."
    )
    publish: bool = Field(default=True, description="Publish plans, and whether the controller is there.")
    identifier: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,100}$",
        description="Name at the broker of a controller that runs alone, and of the session that the broker "
        "keeps for it, not with leader_election; null = in Kubernetes the release names the session, else none is.",
        json_schema_extra=words("up to 100 printable characters without spaces"),
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds to wait for an answer of the broker.")


class Kubernetes(Block):
    """Ray services found through the Kubernetes API, and what else a controller has of a cluster."""

    watch_namespaces: list[Name] = Field(
        default=[],
        description="Namespaces whose RayServices and RayClusters it may look after; empty = all of them.",
        examples=[["llm"]],
    )
    name: Name = Field(default="leadtime", description="Of its Lease; the kill switch is the ConfigMap NAME-pause.")
    namespace: Name | None = Field(
        default=None,
        description="Where its Lease and kill switch are; null = the pod's own namespace, outside of a pod `default`.",
    )
    tokens: PathText | None = Field(
        default=None,
        description="Folder under which Secrets with tokens of Ray dashboards are mounted, as "
        "NAMESPACE/SECRET/auth_token.",
    )
    token_files: dict[SecretName, PathText] = Field(
        default={},
        description="Files with tokens of Ray dashboards that are elsewhere, by NAMESPACE/SECRET of the Secret that a "
        "RayCluster names.",
        examples=[{"llm/chat-ray-token": "/etc/leadtime/secrets/chat-ray-token/auth_token"}],
        json_schema_extra=words("a mapping of NAMESPACE/SECRET to paths"),
    )
    nodes: bool = Field(
        default=False,
        description="true = also watch nodes and worker pods, to see what each pool has and what arrives.",
    )
    events: bool = Field(default=True, description="Write Events about decisions; never in a dry run.")
    kubeconfig: PathText | None = Field(
        default=None,
        description="File that says how to reach the API; null = as the pod's service account, outside of a pod as "
        "kubectl does.",
    )
    context: str | None = Field(
        default=None,
        min_length=1,
        description="Context of the kubeconfig; null = its current one.",
        json_schema_extra=words("the name of a context"),
    )
    timeout_s: float = Field(
        default=4.0, gt=0, le=60, description="Seconds after which a read or a write of a Ray dashboard is given up."
    )
