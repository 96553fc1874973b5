"""The controller's settings: their names, types, bounds and meaning, each documented where it is declared.

`load_config` reads a settings file and gives plain dataclasses. The reference table, the JSON schema and the words of
every error come from the declarations here. Not for deciding anything, and not for reading secrets: only the paths
of their files pass through here. pydantic is used here and nowhere else in the controller.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic import model_validator as _model_validator
from pydantic_core import PydanticCustomError

from autoscaler.config_checks import PATTERN_WORDS, check_files, check_settings
from autoscaler.config_convert import Config, to_config
from autoscaler.config_errors import ALLOWED, config_error, problem_of
from autoscaler.config_yaml import SettingsFile, read_settings_file
from autoscaler.model import GuardSettings, PoolSettings
from autoscaler.prewarm import Provisioner, Way
from policies.base import LONGEST_ITL_S, LONGEST_TTFT_S, Slo
from policies.durations import Duration

# ---------------------------------------------------------------- kinds of values


def _duration(value: Any) -> Duration:
    """A number of seconds, or `{median, p99}`. Errors: PydanticCustomError."""
    numbers = list(value.values()) if isinstance(value, dict) else [value]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    try:
        if isinstance(value, Duration):
            return value
        if plain and isinstance(value, dict) and set(value) == {"median", "p99"} and value["median"] > 0:
            return Duration.from_median_p99(value["median"], value["p99"])
        if plain and not isinstance(value, dict):
            return Duration(float(value))
    except (ValueError, OverflowError):
        pass
    context = {"shown": ", ".join(f"{k}: {v}" for k, v in value.items())} if isinstance(value, dict) and plain else {}
    raise PydanticCustomError("duration", "not a duration", context)


def _spread(duration: Duration) -> Any:
    if duration.sigma == 0:
        return duration.median_s
    return {"median": duration.median_s, "p99": float(round(duration.quantile(0.99)))}


_DURATION_WORDS = "seconds >= 0, or {median: .., p99: ..} with 0 < median <= p99"
DurationS = Annotated[
    Duration,
    PlainValidator(_duration),
    PlainSerializer(_spread),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {
                    "type": "object",
                    "properties": {"median": {"type": "number"}, "p99": {"type": "number"}},
                    "required": ["median", "p99"],
                    "additionalProperties": False,
                },
            ],
            ALLOWED: _DURATION_WORDS,
        }
    ),
]


def _words(text: str) -> dict[str, Any]:
    return {ALLOWED: text}


def _an_address(text: str) -> str:
    """What the pattern cannot see: a port beyond 65535, half an IPv6 address."""
    try:
        _ = urlsplit(text).port
    except ValueError as error:
        raise PydanticCustomError("address", "no address") from error
    return text


Name = Annotated[
    str, Field(pattern=r"^[^/\s*]+$", max_length=253, json_schema_extra=_words("a name without '/', '*' or spaces"))
]
PathText = Annotated[str, Field(min_length=1, json_schema_extra=_words("a path"))]
Url = Annotated[
    str,
    Field(
        pattern=r"^https?://[^/@\s?#]+[^@\s?#]*$",
        json_schema_extra=_words("http://HOST:PORT or https://HOST:PORT, without user, password or query"),
    ),
    AfterValidator(_an_address),
]
_MATCHER = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"([^"\\]|\\.)*"'
_MATCHERS = rf"^({_MATCHER}(, *{_MATCHER})*)?$"
_POOL = PoolSettings("")


def _prior(duration: Duration, what: str) -> Any:
    text = f"Prior, until enough was measured: seconds {what}."
    return Field(default=duration, description=text, json_schema_extra={"default": _spread(duration)})


# ---------------------------------------------------------------- the blocks of the file


class _Block(BaseModel):
    """A mapping of the file: unknown keys are errors; a key left empty (null) means its default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @_model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None or not cls._has_default(k)}

    @classmethod
    def _has_default(cls, key: Any) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and not field.is_required() and not _nullable(field.annotation)


def _nullable(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


class Service(_Block):
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


class Replicas(_Block):
    """Bounds of a deployment's replicas."""

    min: int = Field(default=1, ge=0, description="Fewest replicas; 0 lets it scale to zero.")
    max: int = Field(ge=1, description="Most replicas.", examples=[8])


class SloBlock(_Block):
    """What users were promised."""

    ttft_s: float | None = Field(
        default=Slo().ttft_s,
        gt=0,
        le=LONGEST_TTFT_S,
        description="Seconds to the first token; null = no promise.",
        json_schema_extra=_words(f"seconds above 0 and up to {LONGEST_TTFT_S:g} (2000 ms are written 2), or null"),
    )
    itl_s: float | None = Field(
        default=Slo().itl_s,
        gt=0,
        le=LONGEST_ITL_S,
        description="Mean seconds between output tokens of a request; null = no promise.",
        json_schema_extra=_words(f"seconds above 0 and up to {LONGEST_ITL_S:g} (50 ms are written 0.05), or null"),
    )
    target_fraction: float = Field(
        default=Slo().target_fraction, ge=0.5, lt=1, description="Share of requests that must meet both (0.99 = 99 %)."
    )


class FollowsBlock(_Block):
    """Keeps a CPU-only deployment (an ingress) in proportion to another one."""

    deployment: str = Field(
        description="The deployment to follow.", json_schema_extra=_words(PATTERN_WORDS), examples=["chat/llm"]
    )
    ratio: float = Field(default=1.0, gt=0, description="Replicas of this one per replica of the other (rounded up).")
    min: int = Field(default=1, ge=1, description="Fewest replicas of this one.")


class StartupBlock(_Block):
    """What to expect of a cold start until enough of them were measured."""

    load_s: DurationS | None = Field(
        default=None,
        description="Seconds to load the weights; null = the profile's, else {median: 60, p99: 192}.",
    )
    init_s: DurationS | None = Field(
        default=None,
        description="Seconds from weights loaded to RUNNING; null = the profile's, else {median: 30, p99: 60}.",
    )


class Deployment(_Block):
    """One rule of the fleet: it holds for every deployment whose key matches; the first match wins."""

    match: str = Field(
        description="Deployments that this entry is for; first match wins, and what matches none is only observed.",
        json_schema_extra=_words(PATTERN_WORDS),
        examples=["chat/LLMServer:*"],
    )
    profile: str | None = Field(
        default=None,
        min_length=1,
        description="Engine profile: a preset's name or a path; null = capacity is learned from what is observed.",
        examples=["llama-3.1-8b/h100/tp1"],
        json_schema_extra=_words("a preset (`leadtime profiles` lists them) or the path of a profile, or null"),
    )
    node_pools: list[Name] = Field(
        default=[],
        description="Pools (names from node_pools) that its replicas can run on, in order of preference.",
        examples=[["h100"]],
    )
    replicas: Replicas = Field(description="Bounds of its replicas.")
    slo: SloBlock = Field(default=SloBlock(), description="What its users were promised.")
    weight: float = Field(default=1.0, gt=0, description="Its share of a scarce GPU budget, relative to others.")
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="Class for a scarce GPU budget: a higher one is served first."
    )
    guaranteed_gpus: int = Field(default=0, ge=0, description="GPUs of the budget that are its own when it needs them.")
    gpus_per_replica: int | None = Field(
        default=None, ge=1, description="GPUs of one replica; null = the profile's, else what Serve says, else 1."
    )
    follows: FollowsBlock | None = Field(
        default=None, description="For a CPU-only ingress: keep it in proportion to another deployment."
    )
    startup: StartupBlock = Field(default=StartupBlock(), description="Priors of its cold start.")


class GkeBlock(_Block):
    """A node pool as Google's API addresses it."""

    project: Name = Field(description="Project.", examples=["my-project"])
    location: Name = Field(description="Region or zone of the cluster.", examples=["us-central1"])
    cluster: Name = Field(description="The cluster.", examples=["serving"])
    node_pool: Name | None = Field(default=None, description="The node pool; null = named as the pool.")
    autoscaled: bool = Field(
        default=True,
        description="true = the cluster autoscaler works on it, and its least size is raised; false = its size is set.",
    )


class WarmBlock(_Block):
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
        json_schema_extra=_words("NAMESPACE/NAME"),
    )
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="Ray resources of one worker to ask for; empty = its GPUs.",
        examples=[{"GPU": 8}],
        json_schema_extra=_words("a mapping of Ray resources to numbers > 0"),
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


class NodePool(_Block):
    """One pool of nodes, all of one kind."""

    name: Name = Field(description="Name that deployments use.", examples=["h100"])
    gpus_per_node: int = Field(default=_POOL.gpus_per_node, ge=1, le=64, description="GPUs of one node.")
    gpu: str = Field(
        default="",
        description="GPU kind, as in profiles and gpu_budget (nvidia-h100-80gb); empty = the profiles' that run on it.",
        json_schema_extra=_words("a GPU kind such as nvidia-h100-80gb"),
        examples=["nvidia-h100-80gb"],
    )
    prewarm: Way = Field(default="none", description="How capacity is started ahead of need (docs/prewarm.md).")
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
        json_schema_extra=_words("a mapping of node pools to US dollars per node and hour"),
    )
    min_nodes: int = Field(default=0, ge=0, le=100_000, description="Fewest nodes that the pool is ever asked to hold.")
    max_nodes: int | None = Field(
        default=None, ge=0, le=100_000, description="Most nodes that the pool can have; null = unknown."
    )
    provision_s: DurationS = _prior(_POOL.provision_s, "from asking for a node until it is Ready")
    image_pull_s: DurationS = _prior(_POOL.image_pull_s, "to pull the image on a new node")
    worker_start_s: DurationS = _prior(_POOL.worker_start_s, "from image present until the Ray worker is up")


class PolicyBlock(_Block):
    """Who decides how many replicas are wanted."""

    name: str = Field(
        default="predictive",
        min_length=1,
        description="The policy: a built-in one, one of an installed package, or a class in a file of your own.",
        json_schema_extra=_words("a policy's name, or FILE.py:CLASS"),
    )
    options: dict[str, Any] = Field(
        default={}, description="The policy's own options; `leadtime tune` writes such a block."
    )


class Guards(_Block):
    """Limits that hold whatever the policy wants."""

    stale_after_s: float = Field(
        default=GuardSettings().stale_after_s,
        gt=0,
        le=3600,
        description="Seconds after which metrics or inventory count as unknown: then nothing is scaled down.",
    )
    scale_down_stabilization_s: float = Field(
        default=GuardSettings().scale_down_stabilization_s,
        ge=0,
        le=86400,
        description="Seconds during which every proposal must have allowed a scale-down before it happens.",
    )
    max_step_up: int | None = Field(
        default=GuardSettings().max_step_up, ge=1, description="Most replicas that one tick may add; null = no limit."
    )
    max_step_down: int | None = Field(
        default=GuardSettings().max_step_down,
        ge=1,
        description="Most replicas that one tick may remove; null = no limit.",
    )


class State(_Block):
    """What survives a restart."""

    path: PathText = Field(
        default="./leadtime.sqlite", description="File (SQLite) that keeps what was learned; made when it is missing."
    )


class Journal(_Block):
    """What was seen and decided, tick by tick, for replay and explain."""

    path: PathText = Field(default="./journal", description="Folder of the journal's files; made when it is missing.")
    max_bytes: int = Field(
        default=100_000_000, ge=100_000, description="Bytes that the folder may take; the oldest files go first."
    )


class Prometheus(_Block):
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
        pattern=_MATCHERS,
        description="Label matchers that single out one Ray service; {namespace} and {service} are filled in.",
        examples=['namespace="{namespace}", ray_io_cluster=~"{service}-.*"'],
        json_schema_extra=_words("PromQL label matchers, separated by commas"),
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


class Mqtt(_Block):
    """An MQTT broker where demand is announced, and plans are published."""

    host: str = Field(
        pattern=r"^[^/@\s]+$", description="The broker.", json_schema_extra=_words("a host or IP address"),
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
        json_schema_extra=_words("a topic without wildcards, such as leadtime or team/leadtime"),
    )
    max_rps_per_deployment: float = Field(
        default=1000.0, gt=0, le=1e6, description="Requests per second that hints may raise a deployment's demand to."
    )
    publish: bool = Field(default=True, description="Publish plans, and whether the controller is there.")
    identifier: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,100}$",
        description="Name of this process at the broker, its own alone; null = from the host's (pod's) name.",
        json_schema_extra=_words("up to 100 printable characters without spaces"),
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds to wait for an answer of the broker.")


class Server(_Block):
    """The controller's own HTTP pages."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on.",
        json_schema_extra=_words("a host or IP address"),
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    token_file: PathText | None = Field(
        default=None, description="File with the bearer token that pause and resume need; null = they are refused."
    )


class LeaderElection(_Block):
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


class Kubernetes(_Block):
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
        description="Folder under which Secrets with tokens of Ray dashboards are mounted, as SECRET/auth_token or "
        "NAMESPACE/SECRET/auth_token.",
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
        json_schema_extra=_words("the name of a context"),
    )
    timeout_s: float = Field(
        default=4.0, gt=0, le=60, description="Seconds after which a read or a write of a Ray dashboard is given up."
    )


class Settings(_Block):
    """The settings file of `leadtime run`."""

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
    node_pools: list[NodePool] = Field(default=[], description="The pools of nodes that GPUs come from.")
    gpu_budget: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={},
        description="Most GPUs of a kind, over all deployments; a kind left out has no limit.",
        examples=[{"nvidia-h100-80gb": 32}],
        json_schema_extra=_words("a mapping of GPU kinds to whole numbers >= 0"),
    )
    policy: PolicyBlock = Field(default=PolicyBlock(), description="Who decides how many replicas are wanted.")
    guards: Guards = Field(default=Guards(), description="Limits that hold whatever the policy wants.")
    state: State = Field(default=State(), description="What survives a restart.")
    journal: Journal = Field(default=Journal(), description="What was seen and decided, for replay and explain.")
    server: Server = Field(default=Server(), description="The controller's own HTTP pages.")
    leader_election: LeaderElection = Field(
        default=LeaderElection(), description="Several controllers, one of which acts."
    )
    prometheus: Prometheus | None = Field(
        default=None, description="Where past traffic, and metrics of nodes out of reach, are read; null = nowhere."
    )
    mqtt: Mqtt | None = Field(
        default=None, description="Broker where demand is announced and plans are published; null = none."
    )
    kubernetes: Kubernetes | None = Field(
        default=None, description="Find Ray services through the Kubernetes API; null = only those under services."
    )


# ---------------------------------------------------------------- reading


def settings_schema() -> dict[str, Any]:
    """The JSON schema of the settings file, from which words, table and example are made."""
    schema = Settings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "leadtime controller settings",
    }


def load_config(path: Path, look_at_files: bool = True) -> Config:
    """Read, check and convert a settings file; relative paths in it are relative to its folder.

    `look_at_files` False leaves out whether the files it names (tokens, certificates) can be read: for a check on
    another machine than the one it will run on. Errors: ConfigError, one line naming file, line, key, value, allowed.
    """
    file = read_settings_file(path, "; `leadtime config example` prints one to begin with")
    settings = parse_settings(file)
    problems = check_settings(settings, file)
    if look_at_files:
        problems += check_files(settings, file)
    if problems:
        raise config_error(file, problems)
    return to_config(settings, file)


def parse_settings(file: SettingsFile) -> Settings:
    """Types, bounds and names only. Errors: ConfigError."""
    try:
        return Settings.model_validate(dict(file.data))
    except ValidationError as error:
        schema = settings_schema()
        raise config_error(file, [problem_of(dict(e), schema) for e in error.errors()]) from None
