"""Settings of one node pool, and of how its nodes are started ahead of need."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autoscaler.core.types import PoolSettings
from autoscaler.core.types.pools import CONTROLLER_DEFAULT, Provisioner, Way
from autoscaler.settings.document.blocks import Block, Name, words
from autoscaler.settings.kinds import DurationS, prior

_POOL = PoolSettings("")


class GkeBlock(Block):
    """A node pool as Google's API addresses it."""

    project: Name = Field(description="Project.", examples=["my-project"])
    location: Name = Field(description="Region or zone of the cluster.", examples=["us-central1"])
    cluster: Name = Field(description="The cluster.", examples=["serving"])
    node_pool: Name | None = Field(default=None, description="The node pool; null = named as the pool.")
    autoscaled: bool = Field(
        default=True,
        description="true = the cluster autoscaler works on it, and its least size is raised; false = its size is set.",
    )


class WarmBlock(Block):
    """What a way to pre-warm needs."""

    gpus: int | None = Field(
        default=None, ge=1, le=64, description="GPUs of one placeholder, buffer chunk or worker; null = a whole node's."
    )
    object: Name | None = Field(
        default=None, description="The chart's object that it scales; null = KUBERNETES.NAME-warm-POOL."
    )
    group: Name | None = Field(
        default=None, description="The worker group; null = the one whose node selector leads to this pool."
    )
    service: str | None = Field(
        default=None,
        pattern=r"^[^/\s]+/[^/\s]+$",
        description="The Ray service whose workers are held; null = each that runs on this pool.",
        json_schema_extra=words("NAMESPACE/NAME"),
    )
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="Ray resources of one worker to ask for; empty = its GPUs.",
        examples=[{"GPU": 8}],
        json_schema_extra=words("a mapping of Ray resources to numbers > 0"),
    )
    provisioning_class: Literal[
        "queued-provisioning.gke.io",
        "best-effort-atomic-scale-up.autoscaling.x-k8s.io",
        "check-capacity.autoscaling.x-k8s.io",
    ] = Field(default="queued-provisioning.gke.io", description="Class of the ProvisioningRequest.")
    max_run_s: int | None = Field(
        default=None,
        ge=600,
        description="Seconds until provisioned nodes go; null = queued: seven days, else never.",
    )
    gke: GkeBlock | None = Field(default=None, description="The node pool in Google's API.")


class NodePool(Block):
    """One pool of nodes, all of one kind."""

    name: Name = Field(description="Name that deployments use.", examples=["h100"])
    gpus_per_node: int = Field(default=_POOL.gpus_per_node, ge=1, le=64, description="GPUs of one node.")
    gpu: str = Field(
        default="",
        description="GPU kind, as in profiles and gpu_budget (nvidia-h100-80gb); empty = the profiles' that run on it.",
        json_schema_extra=words("a GPU kind such as nvidia-h100-80gb"),
        examples=["nvidia-h100-80gb"],
    )
    prewarm: Way = Field(
        default=CONTROLLER_DEFAULT, description="How capacity is started ahead of need (docs/prewarm.md)."
    )
    provisioner: Provisioner = Field(
        default="node_pool",
        description="Where its nodes come from: a node pool of that name, GKE's node auto-provisioning, a ComputeClass "
        "of that name, Autopilot.",
    )
    warm: WarmBlock = Field(default=WarmBlock(), description="What its way to pre-warm needs.")
    price_usd_per_hour: float | None = Field(
        default=None, ge=0, description="US dollars per node and hour; null = GPUs x the profile's price, else unknown."
    )
    real_prices_usd_per_hour: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default={},
        description="Prices by real node pool, where a ComputeClass or auto-provisioning chooses it.",
        examples=[{"h100-spot": 30.0}],
        json_schema_extra=words("a mapping of node pools to US dollars per node and hour"),
    )
    min_nodes: int = Field(default=0, ge=0, le=100_000, description="Fewest nodes that the pool is ever asked to hold.")
    max_nodes: int | None = Field(
        default=None, ge=0, le=100_000, description="Most nodes that the pool can have; null = unknown."
    )
    provision_s: DurationS = prior(_POOL.provision_s, "from asking for a node until it is Ready")
    image_pull_s: DurationS = prior(_POOL.image_pull_s, "to pull the image on a new node")
    worker_start_s: DurationS = prior(_POOL.worker_start_s, "from image present until the Ray worker is up")
