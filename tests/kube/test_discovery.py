"""Discovery, pools and the cluster's kill switch against the fake API server, with no more rights than they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from autoscaler.core.types import DeploymentSettings, PauseState, PoolRefusal, PoolSettings
from autoscaler.sources.kubernetes.cache import WatchTimes
from autoscaler.sources.kubernetes.discovery import KubernetesDiscovery, KubernetesPools
from autoscaler.sources.kubernetes.pause import AnnotationPauseSource, KubernetesPauseSource, set_paused
from autoscaler.sources.readings import Paused, Pools
from policies.base import DeploymentKey
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.kube.helpers import client_of, until

USER = "system:serviceaccount:leadtime:leadtime"
QUICK = WatchTimes(lasts_s=1, silence_s=5, backoff_s=0.05, longest_backoff_s=0.1, denied_backoff_s=0.1)
LLM = DeploymentKey("llm", "chat-llm", "chat", "LLMServer:llama-70b")
SWITCH = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "control", "namespace": "leadtime"}}


def role(name: str, namespace: str, *rules: tuple[str, str, str], names: tuple[str, ...] = ()) -> dict[str, Any]:
    only = {"resourceNames": list(names)} if names else {}
    listed = [{"apiGroups": [g], "resources": [r], "verbs": verbs.split(), **only} for g, r, verbs in rules]
    return {"kind": "Role", "metadata": {"name": name, "namespace": namespace}, "rules": listed}


ROLES = (
    role(
        "leadtime",
        "llm",
        ("ray.io", "rayservices", "list watch"),
        ("ray.io", "rayclusters", "list watch"),
        ("", "pods", "list watch"),
        ("events.k8s.io", "events", "list watch"),
    ),
    role("leadtime-control", "leadtime", ("", "configmaps", "get patch"), names=("control",)),
    {
        "kind": "ClusterRole",
        "metadata": {"name": "leadtime-nodes"},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}],
    },
)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    rbac = Rbac.from_documents(ROLES, subject=USER)
    with FakeApi(crds=KUBERAY, rbac=rbac, tokens={"t": USER}, namespaces=("llm", "leadtime", "other")) as server:
        yield server


@asynccontextmanager
async def running(api: FakeApi, *settings: DeploymentSettings) -> AsyncIterator[KubernetesDiscovery]:
    client = client_of(api, "t")
    made = KubernetesDiscovery(client, ["llm"], now_s=asyncio.get_running_loop().time, settings=settings, times=QUICK)
    task = asyncio.ensure_future(made.run())
    await until(lambda: made.status()[0])
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


def enabled(**annotations: str) -> dict[str, str]:
    return {
        "leadtime.dev/enabled": "true",
        **{f"leadtime.dev/{k.replace('_', '-')}": v for k, v in annotations.items()},
    }


async def test_services_are_found_changed_upgraded_and_forgotten(api: FakeApi) -> None:
    service = objects.ray_service(annotations=enabled(max_replicas="8"), status=objects.service_status())
    async with running(api) as discovery:
        assert discovery.services() == ()
        api.add(objects.ray_cluster())
        api.add(service)
        await until(lambda: bool(discovery.services() and discovery.services()[0].active))
        (found,) = discovery.services()
        assert (found.phase, found.opted_in) == ("steady", True)
        assert LLM in discovery.known_keys()
        assert [(e.match, e.max_replicas) for e in discovery.deployment_settings()] == [("llm/chat-llm/*/*", 8)]
        assert [step.kind for step in discovery.changes()] == ["appeared"]

        api.set_status(service, objects.service_status("chat-llm-abcde", "chat-llm-fghij"))
        await until(lambda: discovery.services()[0].phase == "upgrading")
        api.set_status(service, objects.service_status("chat-llm-fghij"))
        await until(lambda: discovery.services()[0].phase == "steady")
        assert [step.kind for step in discovery.changes()] == ["switched"]

        api.remove(service)
        await until(lambda: discovery.services() == ())
        assert [step.kind for step in discovery.changes()] == ["gone"]


async def test_the_version_of_a_service_is_known_while_the_watch_follows(api: FakeApi) -> None:
    service = objects.ray_service(annotations=enabled(max_replicas="8"))
    async with running(api) as discovery:
        assert discovery.service_version("llm", "chat-llm") is None
        api.add(service)
        first = api.read(service)["metadata"]["resourceVersion"]
        await until(lambda: discovery.service_version("llm", "chat-llm") == first)
        api.change(service, {"metadata": {"annotations": {"a": "b"}}})
        second = api.read(service)["metadata"]["resourceVersion"]
        await until(lambda: discovery.service_version("llm", "chat-llm") == second != first)
        api.cut_watches()
        api.traffic.hooks.append(when(fault=Fault(status=503)))
        await until(lambda: discovery.service_version("llm", "chat-llm") is None)


async def test_the_view_survives_cuts_compaction_and_an_api_that_is_away(api: FakeApi) -> None:
    api.add(objects.ray_service(status=objects.service_status()))
    async with running(api) as discovery:
        api.cut_watches()
        api.compact()
        api.traffic.hooks.append(when(fault=Fault(status=503)))
        await until(lambda: not discovery.status()[0])
        assert [s.name for s in discovery.services()] == ["chat-llm"]

        api.add(objects.ray_service("second"))
        api.compact()
        api.traffic.hooks.clear()
        await until(lambda: [s.name for s in discovery.services()] == ["chat-llm", "second"])
        await until(lambda: discovery.status()[0])


async def test_a_watch_is_resumed_and_not_listed_again(api: FakeApi) -> None:
    api.add(objects.ray_service())
    async with running(api) as discovery:
        await until(lambda: len(api.traffic.of("watch", "rayservices")) >= 3)
        api.add(objects.ray_service("second"))
        await until(lambda: len(discovery.services()) == 2)

    assert len(api.traffic.of("list", "rayservices")) == 1


async def test_only_the_watched_namespaces_are_asked_for(api: FakeApi) -> None:
    api.add(objects.ray_service(namespace="other"))
    async with running(api) as discovery:
        assert discovery.services() == ()

    assert {r.namespace for r in api.requests} == {"llm"}
    assert {r.status for r in api.requests if r.status is not None} == {200}


async def test_wrong_annotations_are_told_and_the_last_right_ones_stay(api: FakeApi) -> None:
    service = objects.ray_service(annotations=enabled(max_replicas="8"))
    api.add(service)
    async with running(api) as discovery:
        assert discovery.problems() == ()
        api.change(service, {"metadata": {"annotations": {"leadtime.dev/max-replicas": "many"}}})
        await until(lambda: bool(discovery.problems()))
        ((about, words),) = discovery.problems()
        assert about.name == "chat-llm"
        assert words == "leadtime.dev/max-replicas: 'many'; allowed: a whole number from 1 to 100000"
        assert [e.max_replicas for e in discovery.deployment_settings()] == [8]


async def test_an_opt_in_without_any_limits_is_told(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=enabled()))
    async with running(api) as discovery:
        assert ["only observed" in words for _, words in discovery.problems()] == [True]
    async with running(api, DeploymentSettings("chat/*", max_replicas=4)) as discovery:
        assert discovery.problems() == ()


async def test_a_kind_that_is_not_installed_is_a_reason_and_comes_back(api: FakeApi) -> None:
    api.traffic.hooks.append(when("list", "rayservices", fault=Fault(status=404)))
    client = client_of(api, "t")
    discovery = KubernetesDiscovery(client, ["llm"], now_s=asyncio.get_running_loop().time, times=QUICK)
    task = asyncio.ensure_future(discovery.run())
    await until(lambda: "404" in discovery.status()[2])
    assert not discovery.synced
    api.traffic.hooks.clear()
    await until(lambda: discovery.status()[0])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_pools_are_read_from_nodes_and_pods(api: FakeApi) -> None:
    api.add(objects.node())
    api.add(objects.pod())
    client = client_of(api, "t")
    pools = KubernetesPools(client, ["llm"], [PoolSettings("h100")], now_s=asyncio.get_running_loop().time, times=QUICK)
    assert not (await pools.read(0.0)).up
    task = asyncio.ensure_future(pools.run())
    await until(lambda: pools._nodes.synced and all(cache.synced for cache in pools._pods) and not pools._nodes.why)
    reading = await pools.read(0.0)
    assert isinstance(reading.data, Pools)
    (node,) = reading.data.pools[0].nodes
    assert (node.name, node.state, node.gpus_used, node.workers) == ("h100-1", "ready", 8, 1)

    api.remove(objects.node())
    for _ in range(100):
        reading = await pools.read(0.0)
        if not reading.data.pools[0].nodes:
            break
        await asyncio.sleep(0.05)
    assert reading.data.pools[0].nodes == ()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_a_refusal_that_is_told_each_tick_is_kept_once(api: FakeApi) -> None:
    api.add(objects.node())
    client = client_of(api, "t")
    pools = KubernetesPools(client, ["llm"], [PoolSettings("h100")], now_s=asyncio.get_running_loop().time, times=QUICK)
    task = asyncio.ensure_future(pools.run())
    await until(lambda: pools._nodes.synced and all(cache.synced for cache in pools._pods))
    for tick in range(100):
        pools.receive("h100", PoolRefusal(5.0 * tick, "other", "", f"wait for one, for {5 * tick} s"))
    pools.receive("h100", PoolRefusal(5000.0, "quota", "", "no quota"))
    reading = await pools.read(0.0)
    assert isinstance(reading.data, Pools)
    told = [(one.at_s, one.kind) for one in reading.data.pools[0].refusals]
    assert told == [(495.0, "other"), (5000.0, "quota")]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


# ---------------------------------------------------------------- the kill switch


@pytest.fixture
async def switch(api: FakeApi) -> AsyncIterator[KubernetesPauseSource]:
    client = client_of(api, "t")
    yield KubernetesPauseSource(client, "leadtime", "control", keys=lambda: [LLM])
    await client.close()


async def pause(source: Any) -> PauseState:
    reading = await source.read(1.0)
    assert isinstance(reading.data, Paused)
    return reading.data.pause


@pytest.mark.parametrize(
    ("data", "everything", "deployment"),
    [
        ({}, False, False),
        ({"paused": "false"}, False, False),
        ({"paused": "True"}, True, True),
        ({"paused": "yes"}, True, True),
        ({"deployments": "chat/LLMServer:*\n# a comment\n"}, False, True),
        ({"deployments": "llm/other/*/*"}, False, False),
        ({"deployments": "nonsense"}, True, True),
    ],
)
async def test_the_switch_is_read(
    api: FakeApi, switch: KubernetesPauseSource, data: dict[str, str], everything: bool, deployment: bool
) -> None:
    api.add({**SWITCH, "data": data})

    state = await pause(switch)

    assert (state.everything, state.covers(LLM)) == (everything, deployment)


async def test_a_switch_that_nobody_made_is_not_pulled(switch: KubernetesPauseSource) -> None:
    assert await pause(switch) == PauseState()


async def test_a_switch_that_was_never_read_counts_as_pulled_and_one_that_cannot_be_read_now_stays(
    api: FakeApi, switch: KubernetesPauseSource
) -> None:
    away = when("get", "configmaps", fault=Fault(status=503))
    api.traffic.hooks.append(away)
    assert (await pause(switch)).everything
    api.traffic.hooks.clear()
    assert not (await pause(switch)).everything
    api.traffic.hooks.append(away)
    reading = await switch.read(2.0)
    assert (reading.up, reading.data) == (False, None)
    assert "the last value holds" in reading.why


async def test_the_switch_is_pulled_for_all_and_released(api: FakeApi, switch: KubernetesPauseSource) -> None:
    api.add({**SWITCH, "data": {"other": "kept"}})
    client = client_of(api, "t")
    await set_paused(client, "leadtime", "control", LLM.full, True)
    await set_paused(client, "leadtime", "control", None, True)
    assert (await pause(switch)).everything
    assert api.read(SWITCH)["data"] == {"other": "kept", "paused": "true", "deployments": LLM.full}
    await set_paused(client, "leadtime", "control", None, False)
    assert await pause(switch) == PauseState()
    await client.close()


async def test_two_who_pull_it_at_once_both_count(api: FakeApi, switch: KubernetesPauseSource) -> None:
    api.add({**SWITCH, "data": {}})
    client = client_of(api, "t")
    await asyncio.gather(*(set_paused(client, "leadtime", "control", f"chat/{name}", True) for name in "abc"))
    await client.close()

    assert sorted(api.read(SWITCH)["data"]["deployments"].split()) == ["chat/a", "chat/b", "chat/c"]


async def test_a_service_is_paused_by_annotation(api: FakeApi) -> None:
    api.add(objects.ray_service(annotations=enabled(paused="true", max_replicas="8"), status=objects.service_status()))
    async with running(api) as discovery:
        await until(lambda: bool(discovery.known_keys()))
        source = AnnotationPauseSource(discovery.paused_services, discovery.known_keys)
        state = await pause(source)

    assert (state.everything, state.covers(LLM)) == (False, True)


async def test_every_right_that_was_given_is_used_and_no_other_was_asked_for(api: FakeApi) -> None:
    api.add({**SWITCH, "data": {}})
    client = client_of(api, "t")
    pools = KubernetesPools(client, ["llm"], [], now_s=asyncio.get_running_loop().time, times=QUICK)
    task = asyncio.ensure_future(pools.run())
    async with running(api):
        await set_paused(client, "leadtime", "control", None, True)
        await until(lambda: len(api.traffic.of("watch")) >= 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()

    assert api.rbac is not None
    assert api.rbac.unused(USER) == []
    assert not [r for r in api.requests if r.status == 403]
