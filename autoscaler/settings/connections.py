"""Settings of what the controller looks after: Ray clusters, and the Kubernetes that has them.

Other sources: sources/, one file each.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autoscaler.settings.document.blocks import Block, Name, words
from autoscaler.settings.kinds import PathText, Url

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
    autoscalers: bool = Field(
        default=False,
        description="true = Autoscaler objects of the watched namespaces count, within the limits of these settings.",
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
