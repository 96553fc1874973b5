"""Keys of a scenario's deployments and node pools."""

from __future__ import annotations

from pydantic import Field

from autoscaler.core.scheduled_load import MOST_RECURRING
from autoscaler.core.types.pools import SCENARIO_DEFAULT, Way
from autoscaler.settings.document.blocks import Block, Name, RecurringLoadBlock, SloBlock, words
from policies.base.durations import Duration
from simulator.scenario.kinds import MAX_NODES, DurationS, Fraction
from simulator.scenario.traffic import HintBlock, HistoryBlock, WorkloadBlock


class ReplicasBlock(Block):
    """Bounds of a deployment's replicas, and how many run at time 0."""

    min: int = Field(default=1, ge=0, description="Fewest replicas.")
    max: int = Field(ge=1, description="Most replicas.")
    initial: int | None = Field(default=None, ge=0, description="Replicas RUNNING at time 0; null = min (in gangs).")


class StartupBlock(Block):
    """A replica's own part of a cold start."""

    load_s: DurationS | None = Field(default=None, description="Loading the weights; null = the profile's.")
    init_s: DurationS | None = Field(default=None, description="From loaded weights to RUNNING; null = the profile's.")


class DeploymentBlock(Block):
    """One deployment."""

    name: str = Field(
        description="Its key.", json_schema_extra=words("APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT")
    )
    profile: str = Field(min_length=1, description="Engine profile: a preset, or a path relative to the scenario file.")
    node_pool: Name | None = Field(default=None, description="The one pool it can run on.")
    node_pools: list[Name] = Field(default=[], description="The pools it can run on, in order of preference.")
    replicas: ReplicasBlock = Field(description="Bounds of its replicas.")
    slo: SloBlock = Field(default=SloBlock(), description="What its users were promised.")
    gang_size: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Replicas that Serve starts and stops together; levels are multiples of it.",
    )
    weight: float = Field(default=1.0, gt=0, description="Share of a scarce budget.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Class for a scarce budget: higher is first.")
    guaranteed_gpus: int = Field(default=0, ge=0, description="GPUs of the budget that are its own.")
    max_ongoing_requests: int = Field(default=256, ge=1, description="Requests that a replica takes at once.")
    request_timeout_s: float = Field(default=600.0, gt=0, description="After this a request is given up.")
    graceful_shutdown_timeout_s: float = Field(default=120.0, ge=0, description="The longest a replica drains.")
    startup: StartupBlock = Field(default=StartupBlock(), description="Overrides the profile's start-up times.")
    workload: WorkloadBlock = Field(description="Its traffic.")
    history: HistoryBlock | None = Field(default=None, description="Its traffic before time 0.")
    hints: list[HintBlock] = Field(default=[], description="Announcements of planned demand.")
    schedule: list[RecurringLoadBlock] = Field(
        default=[],
        max_length=MOST_RECURRING,
        description="Announcements that recur by a calendar, as in the settings. Time 0 is that of a trace that counts "
        "from 1970, else a Monday, 0:00 UTC.",
    )

    @property
    def pools(self) -> tuple[str, ...]:
        return (self.node_pool,) if self.node_pool is not None else tuple(self.node_pools)


class NodesBlock(Block):
    """How many nodes a pool has."""

    min: int = Field(default=0, ge=0, le=MAX_NODES, description="Fewest nodes.")
    max: int = Field(ge=1, le=MAX_NODES, description="Most nodes.")
    initial: int | None = Field(
        default=None, ge=0, le=MAX_NODES, description="Ready at time 0; null = what the initial replicas need."
    )
    reserved: int = Field(default=0, ge=0, le=MAX_NODES, description="Nodes that are billed always.")


class WorkerBlock(Block):
    """The Ray worker pod."""

    gpus: int | None = Field(default=None, ge=1, description="GPUs of a worker; null = all of a node.")
    start_s: DurationS = Field(
        default=Duration.from_median_p99(20.0, 60.0), description="From image present to worker up."
    )
    idle_timeout_s: float = Field(
        default=60.0, ge=0, description="Seconds without a replica after which it is removed."
    )
    autoscaler_period_s: float = Field(default=5.0, gt=0, description="How often Ray's autoscaler looks.")


class StockoutBlock(Block):
    """A time in which requests for nodes are refused."""

    start_s: float = Field(ge=0, description="From.")
    end_s: float = Field(ge=0, description="To.")
    fraction: Fraction = Field(default=1.0, description="Share of the requests that are refused.")


class NodePoolBlock(Block):
    """A pool of nodes, all of one kind."""

    name: Name = Field(description="Its name.")
    gpus_per_node: int = Field(default=8, ge=1, le=64, description="GPUs of a node.")
    nodes: NodesBlock = Field(description="How many nodes.")
    provision_s: DurationS = Field(
        default=Duration.from_median_p99(150.0, 420.0), description="From asked for to Ready."
    )
    image_pull_s: DurationS = Field(
        default=Duration.from_median_p99(40.0, 120.0), description="For the first worker of an image on a node."
    )
    worker: WorkerBlock = Field(default=WorkerBlock(), description="The Ray worker pod.")
    prewarm: Way = Field(
        default=SCENARIO_DEFAULT, description="How nodes are started ahead of need (a controller's default is none)."
    )
    price_usd_per_hour: float | None = Field(
        default=None, ge=0, le=1e9, description="Of a node; null = GPUs times the profile's price."
    )
    spot: bool = Field(default=False, description="Can be taken away (preemption_per_node_hour).")
    preemption_per_node_hour: float = Field(default=0.0, ge=0, description="How often a spot node is taken away.")
    scale_down_after_s: float = Field(
        default=600.0, ge=0, description="Seconds a node stands empty before it is deleted."
    )
    stockouts: list[StockoutBlock] = Field(default=[], description="Times of no stock.")
