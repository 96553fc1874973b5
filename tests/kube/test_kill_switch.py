"""The kill switch tells the truth: what was paused stays paused until somebody says otherwise, on every pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autoscaler.core.audit import Audit
from autoscaler.core.pause import NotPulled, PauseSwitch
from autoscaler.core.types import PauseState
from autoscaler.kubernetes.resources import ClusterApi
from autoscaler.runtime.store import StateStore
from autoscaler.settings import load_config
from autoscaler.sources.kubernetes.discovery import KubernetesDiscovery
from autoscaler.sources.kubernetes.pause import ConfigMapSwitch, KubernetesPauseSource
from autoscaler.sources.readings import Paused
from autoscaler.wiring.standby import StandbySettings, build_standby
from policies.base import DeploymentKey
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.kube.helpers import client_of, kubeconfig, until
from tests.kube.test_discovery import role

USER = "system:serviceaccount:leadtime:leadtime"
LLM = DeploymentKey("llm", "chat-llm", "chat", "llm")
OTHER = DeploymentKey("llm", "chat-llm", "chat", "other")
SWITCH = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lt-pause", "namespace": "leadtime"}}


@dataclass
class Release:
    """The pods of a release: each has a source that reads the switch, and a switch of its own to pull."""

    api: FakeApi
    folder: Path
    clients: list[ClusterApi] = field(default_factory=list)

    def pod(self, name: str = "0") -> tuple[KubernetesPauseSource, PauseSwitch, StateStore]:
        store = StateStore(self.folder / f"{name}.sqlite")
        client = client_of(self.api, "t")
        self.clients.append(client)
        source = KubernetesPauseSource(client, "leadtime", "lt-pause", lambda: [LLM, OTHER], memory=store)
        return source, PauseSwitch(store, ConfigMapSwitch(client, "leadtime", "lt")), store

    def put(self, data: dict[str, str] | None) -> None:
        """The ConfigMap as somebody made it anew."""
        self.api.add(SWITCH if data is None else {**SWITCH, "data": data})


@pytest.fixture
def verbs() -> str:
    return "get patch"


@pytest.fixture
def api(verbs: str) -> Iterator[FakeApi]:
    rbac = Rbac.from_documents(
        [role("switch", "leadtime", ("", "configmaps", verbs), names=("lt-pause",))], subject=USER
    )
    with FakeApi(crds=KUBERAY, rbac=rbac, tokens={"t": USER}, namespaces=("leadtime",)) as server:
        yield server


@pytest.fixture
async def release(api: FakeApi, tmp_path: Path) -> AsyncIterator[Release]:
    made = Release(api, tmp_path)
    yield made
    for client in made.clients:
        await client.close()


async def paused(source: KubernetesPauseSource) -> tuple[bool, bool]:
    """(everything, LLM)."""
    reading = await source.read(1.0)
    assert isinstance(reading.data, Paused)
    return reading.data.pause.everything, reading.data.pause.covers(LLM)


# ---------------------------------------------------------------- what is gone is not taken back

GONE: list[Callable[[Release], Any]] = [
    lambda r: r.api.remove(SWITCH),
    lambda r: (r.api.remove(SWITCH), r.put(None)),
    lambda r: (r.api.remove(SWITCH), r.put({"other": "x"})),
    lambda r: (r.api.remove(SWITCH), r.put({"paused": ""})),
]


@pytest.mark.parametrize("go", GONE)
@pytest.mark.parametrize("data", [{"paused": "true"}, {"deployments": LLM.full}, {"paused": "yes"}])
async def test_a_switch_that_is_deleted_or_made_anew_without_a_word_stays_pulled_also_over_a_restart(
    release: Release, go: Callable[[Release], Any], data: dict[str, str]
) -> None:
    release.put(data)
    source, _, store = release.pod()
    before = await paused(source)
    assert before[1]
    go(release)

    assert await paused(source) == before
    store.close()
    again, _, _ = release.pod()
    assert await paused(again) == before


async def _paused_at_a_standby(folder: Path) -> bool:
    """Of a standby that starts now, at its first tick; then it ends."""
    settings = StandbySettings("http://127.0.0.1:9", 5.0, port=0)
    runtime = build_standby(load_config(folder / "leadtime.yaml"), settings)
    running = asyncio.create_task(runtime.run())
    await until(lambda: runtime.telemetry.plan is not None)
    runtime.stop()
    await running
    return runtime.telemetry.pause.everything


@pytest.mark.parametrize("go", GONE)
async def test_a_standby_that_is_restarted_while_the_switch_is_gone_remembers_it(
    release: Release, go: Callable[[Release], Any]
) -> None:
    config = kubeconfig(release.folder / "kubeconfig", release.api.url, "t")
    (release.folder / "leadtime.yaml").write_text(f"""\
version: 1
tick_s: 0.5
kubernetes: {{watch_namespaces: [llm], name: lt, namespace: leadtime, kubeconfig: {config}, events: false}}
leader_election: {{enabled: false}}
state: {{path: ./leadtime.sqlite}}
""")
    release.put({"paused": "true"})
    assert await _paused_at_a_standby(release.folder)
    go(release)

    assert await _paused_at_a_standby(release.folder)
    if go is not GONE[0]:
        release.api.remove(SWITCH)
    release.put({"paused": "false"})
    assert not await _paused_at_a_standby(release.folder)


async def test_a_deleted_switch_is_told(release: Release) -> None:
    release.put({"paused": "true"})
    source, _, _ = release.pod()
    await source.read(0.0)
    release.api.remove(SWITCH)

    assert "is gone: the last value holds (paused: everything)" in (await source.read(1.0)).why


async def test_only_a_plain_word_takes_a_pause_back(release: Release) -> None:
    release.put({"paused": "true", "deployments": LLM.full})
    source, _, _ = release.pod()
    assert await paused(source) == (True, True)
    release.api.remove(SWITCH)
    release.put({"paused": "false"})

    assert await paused(source) == (False, False)


async def test_a_saved_switch_that_cannot_be_read_counts_as_pulled(release: Release) -> None:
    store = StateStore(release.folder / "0.sqlite")
    store._save("cluster switch", b"{nonsense")
    store.close()
    release.put(None)
    source, _, _ = release.pod()

    assert await paused(source) == (True, True)


async def test_pausing_one_key_on_an_empty_switch_takes_no_other_pause_back(release: Release) -> None:
    release.put({"paused": "true"})
    source, switch, _ = release.pod()
    await source.read(0.0)
    release.api.remove(SWITCH)
    release.put(None)
    await switch.pull(LLM, True)

    assert await paused(source) == (True, True)


# ---------------------------------------------------------------- pulled over HTTP


async def test_who_pauses_at_a_follower_pauses_the_leader(release: Release) -> None:
    release.put(None)
    _, follower, _ = release.pod("follower")
    leader, _, _ = release.pod("leader")
    assert await follower.pull(None, True) == PauseState(True)
    assert await paused(leader) == (True, True)

    assert await follower.pull(None, False) == PauseState()
    assert await paused(leader) == (False, False)


async def test_two_who_pause_at_two_pods_at_once_both_count(release: Release) -> None:
    release.put(None)
    one, two = release.pod("one")[1], release.pod("two")[1]
    leader, _, _ = release.pod("leader")
    await asyncio.gather(one.pull(LLM, True), two.pull(OTHER, True))
    reading = await leader.read(1.0)

    assert isinstance(reading.data, Paused)
    assert reading.data.pause.deployments == {LLM, OTHER}


@pytest.mark.parametrize("verbs", ["get"])
async def test_a_pod_that_may_not_write_the_switch_pauses_nothing_and_says_what_to_type(release: Release) -> None:
    release.put(None)
    source, switch, _ = release.pod()
    with pytest.raises(NotPulled) as error:
        await switch.pull(LLM, True)

    assert str(error.value).startswith("nothing is paused: the cluster's switch cannot be written from here (")
    assert str(error.value).endswith(f"; use: leadtime pause {LLM.full} --cluster leadtime/lt")
    assert (switch.state, await paused(source)) == (PauseState(), (False, False))


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=409), Fault(status=404)])
async def test_while_the_api_server_is_away_nothing_is_said_to_be_paused(release: Release, fault: Fault) -> None:
    release.put(None)
    _, switch, _ = release.pod()
    release.api.traffic.hooks.append(when(None, "configmaps", fault=fault))
    with pytest.raises(NotPulled, match="use: leadtime resume --cluster leadtime/lt"):
        await switch.pull(None, False)

    assert switch.pulls == 0


async def test_what_a_pod_had_paused_by_itself_is_resumed_with_the_cluster(release: Release) -> None:
    release.put(None)
    _, switch, _ = release.pod()
    switch.set(LLM, True)
    assert (await switch.pull(OTHER, True)).deployments == {LLM, OTHER}

    assert await switch.pull(None, False) == PauseState()


# ---------------------------------------------------------------- annotations, for the audit


async def test_annotations_that_change_are_noted_with_who_wrote_them() -> None:
    """What was there at the start is no change; a new object and every later word is."""
    audit = Audit(lambda: 7.0)
    rules = [role("services", "llm", ("ray.io", "rayservices", "list watch"), ("ray.io", "rayclusters", "list watch"))]
    rbac = Rbac.from_documents(rules, subject=USER)
    with FakeApi(crds=KUBERAY, rbac=rbac, tokens={"t": USER}, namespaces=("llm",)) as api:
        first = objects.ray_service(annotations={"leadtime.dev/max-replicas": "3"})
        api.add(first)
        client = client_of(api, "t")
        discovery = KubernetesDiscovery(client, ["llm"], now_s=lambda: 0.0, audit=audit)
        task = asyncio.ensure_future(discovery.run())
        await until(lambda: discovery.synced and bool(discovery.services()))
        assert audit.take() == []
        entry = {
            "manager": "kubectl-annotate",
            "operation": "Update",
            "time": "2026-03-01T11:00:00Z",
            "fieldsV1": {"f:metadata": {"f:annotations": {"f:leadtime.dev/max-replicas": {}}}},
        }
        change = {"annotations": {"leadtime.dev/max-replicas": "9"}, "managedFields": [entry]}
        api.change(first, {"metadata": change})
        taken: list[dict[str, Any]] = []

        def noted() -> bool:
            discovery.services()
            taken.extend(audit.take())
            return bool(taken)

        await until(noted)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
    [record] = taken

    assert (record["what"], record["about"]) == ("annotations", "RayService/llm/chat-llm")
    assert (record["before"], record["after"]) == ({"max-replicas": "3"}, {"max-replicas": "9"})
    assert record["who"] == {"manager": "kubectl-annotate", "written_at": "2026-03-01T11:00:00Z"}
