"""`leadtime doctor`: each thing that can be wrong is one line with its mend; exit 1 when something fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.core.types import ControllerConfig, DeploymentInventory, DeploymentSettings
from autoscaler.diagnosis.cluster import kubernetes_findings, rights
from autoscaler.diagnosis.finding import Finding
from autoscaler.diagnosis.ray_service import metric_findings, path_findings, service_findings
from autoscaler.diagnosis.supported import RAY
from autoscaler.diagnosis.versions import of_version
from autoscaler.settings import load_config
from autoscaler.settings.model import Config
from autoscaler.sources.exposition import parse
from autoscaler.sources.join import NodePage
from autoscaler.sources.names import NAMES
from policies.base import DeploymentKey
from tests.cli.helpers import leadtime
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.operator import DoubleOperator
from tests.kube.helpers import client_of
from tests.kube.test_shell import USER, roles

TOKEN = "t0ken-0f-the-dashboard"
CORE = ControllerConfig(deployments=(DeploymentSettings("chat/llm", max_replicas=4),), dry_run=False)
SETTINGS = """\
version: 1
dry_run: false
kubernetes: {watch_namespaces: [llm], name: lt, namespace: leadtime, nodes: true, tokens: secrets}
leader_election: {enabled: true}
deployments: [{match: "chat/LLMServer:*", replicas: {max: 4}}]
"""


@pytest.fixture
async def dashboard() -> AsyncIterator[FakeDashboard]:
    app = FakeApplication({"llm": FakeDeployment(), "extra": FakeDeployment()})
    async with FakeDashboard({"chat": app}).serve() as fake:
        yield fake


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "lt.yaml").write_text(SETTINGS)
    secret = tmp_path / "secrets" / "llm" / "chat-llm-ray-token"
    secret.mkdir(parents=True)
    (secret / "auth_token").write_text(TOKEN)
    return load_config(tmp_path / "lt.yaml")


async def of(dashboard: FakeDashboard, config: ControllerConfig = CORE, token_file: Path | None = None) -> list[str]:
    found = await service_findings(config, "default", "local", DashboardClient(dashboard.url, token_file))
    return [str(finding).replace(dashboard.url, "URL") for finding in found]


# ---------------------------------------------------------------- a Ray service


async def test_a_dashboard_that_wants_a_token_is_told_with_the_mend(dashboard: FakeDashboard, tmp_path: Path) -> None:
    dashboard.token = TOKEN
    assert await of(dashboard) == ["fail  default/local dashboard: URL: answered 401: it wants a token: set token_file"]
    (tmp_path / "token").write_text(TOKEN)
    lines = await of(dashboard, token_file=tmp_path / "token")
    assert lines[1] == "ok    default/local dashboard: URL answers with the token: 2 deployments"
    assert TOKEN not in "".join(lines)


async def test_a_deployment_that_may_not_be_scaled_fails_with_the_mend(dashboard: FakeDashboard) -> None:
    assert (await of(dashboard))[2] == "ok    chat/llm: may be scaled; target 1, 1 running"
    dashboard.applications["chat"].external = False
    line = (await of(dashboard))[2]
    assert line.startswith("fail  chat/llm: external_scaler_enabled is false; set `external_scaler_enabled: true`")
    dashboard.applications["chat"].external = True
    dashboard.of("chat", "llm").autoscaled = True
    assert (await of(dashboard))[2].startswith("fail  chat/llm: Serve's own autoscaler works on it; give the")
    assert (await of(dashboard, replace(CORE, dry_run=True)))[2].startswith("warn  chat/llm: Serve's own autoscaler")


async def test_gangs_are_named_with_what_the_bounds_come_to(dashboard: FakeDashboard) -> None:
    dashboard.of("chat", "llm").gang_size = 4
    entry = DeploymentSettings("chat/llm", min_replicas=1, max_replicas=11)
    lines = await of(dashboard, ControllerConfig(deployments=(entry,)))
    assert lines[2] == "ok    chat/llm: gangs of 4 replicas: between 4 and 8"
    lines = await of(dashboard, ControllerConfig(deployments=(replace(entry, max_replicas=3),)))
    assert lines[2].startswith("fail  chat/llm: replicas.max 3 is less than one gang of 4 replicas: its level stays")


async def test_settings_that_match_nothing_name_what_is_there(dashboard: FakeDashboard) -> None:
    lines = await of(dashboard, ControllerConfig(deployments=(DeploymentSettings("chat/lm"),)))
    assert lines[2] == (
        "warn  default/local deployments: no settings match any of them; deployments[].match must match one of: "
        "chat/extra, chat/llm"
    )


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("2.57.0", "ok    a: Ray 2.57.0"),
        ("2.60.1", "ok    a: Ray 2.60.1"),
        ("2.56.1", f"fail  a: Ray 2.56.1; 2.57 or newer is needed: {RAY.why}"),
        ("2.52.0", f"fail  a: Ray 2.52.0; 2.57 or newer is needed: the external scaler, and {RAY.why}"),
        ("3.0.0", "warn  a: Ray 3.0.0; newer than any that was tried (tried: 2.57 to 2.60)"),
        ("nightly", "warn  a: Ray nightly; not understood (tried: 2.57 to 2.60)"),
    ],
)
def test_a_version_has_its_place_in_the_table(version: str, line: str) -> None:
    assert str(of_version("a", "Ray", version)) == line


def test_metric_names_that_are_missing_are_named_and_other_spellings_count() -> None:
    text = (
        b'ray_serve_num_router_requests_total{application="a"} 1\n'
        b'ray_serve_num_ongoing_requests_at_replicas{application="a"} 1\n'
        b"ray_vllm:num_requests_running 1\nray_vllm_gpu_cache_usage_perc 0.5\n"
    )
    serve, vllm = metric_findings("s", {"n": NodePage(0.0, tuple(parse(text, NAMES)))})
    assert (serve.level, vllm.level) == ("warn", "warn")
    assert serve.words == "Serve's metrics: 2 of 3 on 1 pages; missing: ray_serve_deployment_queued_queries"
    assert vllm.words.startswith("vLLM's metrics: 2 of 8 on 1 pages; missing: ray_vllm_num_requests_waiting, ")


def test_the_path_of_the_requests_is_named_for_each_deployment_that_is_looked_after() -> None:
    keys = {name: DeploymentKey("default", "local", "a", name) for name in ("own", "engine", "router")}
    inventories = {key: DeploymentInventory(0.0, 1, ()) for key in keys.values()}
    inventories[keys["own"]] = replace(inventories[keys["own"]], is_ingress=True)
    behind = NodePage(0.0, tuple(parse(b"ray_serve_haproxy_process_count 1\n", NAMES)))
    plain = [one.words for one in path_findings(["a/own"], inventories, {})]
    assert plain == ["requests come by Serve's Python proxy or by handles: handles count them"]
    words = {one.subject: one.words for one in path_findings(["*/*/*/*"], inventories, {"n": behind})}
    assert words[str(keys["own"])].startswith("requests come straight from HAProxy")
    assert words[str(keys["engine"])].startswith("requests come by HAProxy and an ingress before it")
    inventories[keys["router"]] = replace(inventories[keys["router"]], chooses_for="own")
    found = {one.subject: one for one in path_findings(["*/*/*/*"], inventories, {"n": behind})}
    assert "with direct streaming" in found[str(keys["own"])].words
    assert found[str(keys["router"])].level == "warn"


# ---------------------------------------------------------------- Kubernetes


def cluster(rbac: Rbac) -> FakeApi:
    return FakeApi(crds=KUBERAY, rbac=rbac, tokens={"t": USER}, namespaces=("llm", "leadtime"))


async def test_each_missing_right_is_a_line(config: Config) -> None:
    granted = [r for r in roles(acts=False) if r["metadata"]["name"] not in ("lease", "nodes")]
    assert config.kubernetes is not None
    with cluster(Rbac.from_documents(granted, subject=USER)) as api:
        found = await kubernetes_findings(config, config.kubernetes, client_of(api, "t"))
    assert [str(finding) for finding in found] == [
        "warn  kubernetes rights: may not create events.events.k8s.io in namespace llm; it is needed to write Events",
        "warn  kubernetes rights: may not patch events.events.k8s.io in namespace llm; it is needed to write Events",
        *(
            f"warn  kubernetes rights: may not {verb} events.events.k8s.io in namespace leadtime; it is needed to "
            "write Events of the pod itself"
            for verb in ("create", "patch")
        ),
        "warn  kubernetes rights: may not list nodes in the whole cluster; it is needed to see what node pools have",
        "warn  kubernetes rights: may not watch nodes in the whole cluster; it is needed to see what node pools have",
        *(
            f"fail  kubernetes rights: may not {verb} leases.coordination.k8s.io lt in namespace leadtime; it is "
            "needed to elect a leader"
            for verb in ("get", "update")
        ),
    ]


async def test_what_discovery_finds_is_looked_at_too(config: Config, tmp_path: Path) -> None:
    assert config.kubernetes is not None
    wanted = {(r.verb, r.resource.plural) for r in rights(config, config.kubernetes)}
    assert ("patch", "events") in wanted
    service = objects.ray_service(annotations={"leadtime.dev/enabled": "true"})
    wrong = objects.ray_service("other", annotations={"leadtime.dev/max-replica": "3"})
    with cluster(Rbac.from_documents(roles(acts=True), subject=USER)) as api:
        async with DoubleOperator(api, service, tmp_path / "addresses", TOKEN) as operator:
            api.add(wrong)
            operator.now_active.plane.arrived = 3.0
            found = await kubernetes_findings(
                config, config.kubernetes, client_of(api, "t"), lambda c: operator.clusters[c.name].dashboard.url
            )
    lines = [(finding.level, finding.subject) for finding in found]
    assert ("ok", "kubernetes discovery") in lines
    assert ("ok", "llm/chat-llm dashboard") in lines
    assert ("ok", "llm/chat-llm/chat/LLMServer:llama-70b") in lines
    assert Finding("ok", "llm/chat-llm metrics", "Serve's metrics: 3 of 3 on 1 pages") in found
    problem = next(f.words for f in found if f.subject == "llm/other")
    assert problem == "leadtime.dev/max-replica: no such annotation; did you mean 'max-replicas'?"
    assert not any(finding.level == "fail" for finding in found)


async def test_a_lease_that_is_gone_and_cannot_be_made_fails_with_the_mend(config: Config) -> None:
    assert config.kubernetes is not None
    granted = [r for r in roles(acts=True) if r["metadata"]["name"] != "lease-create"]
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "lt", "namespace": "leadtime"},
    }
    with cluster(Rbac.from_documents(granted, subject=USER)) as api:
        gone = await kubernetes_findings(config, config.kubernetes, client_of(api, "t"))
        api.add({**lease, "spec": {"holderIdentity": "lt-0"}})
        there = await kubernetes_findings(config, config.kubernetes, client_of(api, "t"))
    words = "Lease leadtime/lt is gone and this account may not make one, so nobody can lead and nothing is written"
    mend = "the chart makes it again (helm upgrade, with the values that it has)"
    assert Finding("fail", "leader election", words, mend) in gone
    assert Finding("ok", "leader election", "Lease leadtime/lt: lt-0 leads") in there


async def test_an_api_that_does_not_answer_fails_in_one_line(config: Config) -> None:
    assert config.kubernetes is not None
    with cluster(Rbac()) as api:
        (found,) = await kubernetes_findings(config, config.kubernetes, client_of(api, "wrong"))
    assert (found.level, found.subject) == ("fail", "kubernetes")


# ---------------------------------------------------------------- the command


def test_without_settings_it_says_what_is_installed() -> None:
    ran = leadtime("doctor")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ok    leadtime: ")


def test_it_exits_with_1_when_something_fails(tmp_path: Path) -> None:
    (tmp_path / "lt.yaml").write_text('version: 1\nservices: [{dashboard: "http://127.0.0.1:9"}]\n')
    ran = leadtime("doctor", "--config", str(tmp_path / "lt.yaml"))
    assert ran.code == 1
    assert "fail  default/local dashboard: http://127.0.0.1:9: " in ran.out
