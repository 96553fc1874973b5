"""Autoscaler objects at the fake API: what they change, what they cannot, and a whole controller that obeys one.

At the real API server, with CEL and helm: tests/cluster/test_autoscalers.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from autoscaler.core.audit import Audit
from autoscaler.core.types import DeploymentSettings, PauseState
from autoscaler.sources.kubernetes.discovery import KubernetesDiscovery
from autoscaler.sources.kubernetes.pause import AnnotationPauseSource
from autoscaler.sources.readings import Paused
from autoscaler.wiring.kubernetes import preset
from charts.generate.crd import definition
from policies.base import DeploymentKey
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.status import ApiError
from tests.fakes.kubernetes.traffic import Fault, when
from tests.fakes.operator import APP, LLM, DoubleOperator
from tests.kube.helpers import client_of, until
from tests.kube.release import check_journals, installed, values
from tests.kube.test_discovery import QUICK

KEY = DeploymentKey("llm", "chat-llm", "chat", "LLMServer:llama-70b")
OTHER = DeploymentKey("llm", "other", "chat", "LLMServer:llama-70b")
ENTRY = DeploymentSettings("llm/*/chat/*", min_replicas=1, max_replicas=8)
SERVICE = objects.ray_service(status=objects.service_status())


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(crds=(*KUBERAY, definition()), namespaces=("llm",)) as server:
        yield server


@asynccontextmanager
async def running(
    api: FakeApi, *settings: DeploymentSettings, audit: Audit | None = None
) -> AsyncIterator[KubernetesDiscovery]:
    client = client_of(api)
    made = KubernetesDiscovery(
        client, ["llm"], now_s=asyncio.get_running_loop().time, settings=settings,
        times=QUICK, profile_of=preset, audit=audit,
    )  # fmt: skip
    task = asyncio.ensure_future(made.run())
    await until(lambda: made.status()[0])
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


def limits(discovery: KubernetesDiscovery) -> list[tuple[str, int, int]]:
    return [(one.match, one.min_replicas, one.max_replicas) for one in discovery.deployment_settings()]


def said(discovery: KubernetesDiscovery) -> list[tuple[str, str]]:
    return [(view.name, words) for view, words in discovery.autoscaler_problems()]


async def test_an_object_narrows_the_entry_and_its_end_gives_the_entry_back(api: FakeApi) -> None:
    api.add(SERVICE)
    api.add(objects.ray_cluster())
    async with running(api, ENTRY) as discovery:
        assert limits(discovery) == []
        made = api.add(objects.autoscaler(replicas={"min": 2, "max": 5}))
        await until(lambda: limits(discovery) == [("llm/chat-llm/chat/*", 2, 5)])
        assert discovery.services()[0].opted_in

        api.change(made, {"spec": {"replicas": {"max": 9}}})
        await until(lambda: said(discovery) == [("chat", "spec.replicas.max: 9 is above the 8 of 'llm/*/chat/*'")])
        assert limits(discovery) == [("llm/chat-llm/chat/*", 2, 8)]

        api.remove(made)
        await until(lambda: limits(discovery) == [])


async def test_the_narrowest_object_counts_and_the_older_of_two(api: FakeApi) -> None:
    api.add(SERVICE)
    api.add(objects.autoscaler("wide", replicas={"max": 5}))
    api.add(objects.autoscaler("narrow", target={"application": "chat"}, replicas={"max": 3}))
    async with running(api, ENTRY) as discovery:
        await until(lambda: len(limits(discovery)) == 2)
        assert next(most for match, _, most in limits(discovery) if KEY.matches(match)) == 3
        view = discovery.autoscaler_of(KEY)
        assert view is not None
        assert view.name == "narrow"


async def test_a_version_that_is_wrong_leaves_the_last_one_in_force_but_for_its_pause(api: FakeApi) -> None:
    api.add(SERVICE)
    made = api.add(objects.autoscaler(replicas={"max": 5}))
    async with running(api, ENTRY) as discovery:
        await until(lambda: limits(discovery) == [("llm/chat-llm/chat/*", 1, 5)])
        api.change(made, {"spec": {"profile": "nobody/knows", "replicas": {"max": 2}, "paused": True}})
        await until(lambda: bool(said(discovery)))

        assert limits(discovery) == [("llm/chat-llm/chat/*", 1, 5)]
        assert "spec.profile: 'nobody/knows'" in said(discovery)[0][1]
        pause = AnnotationPauseSource(discovery.paused_services, lambda: {KEY, OTHER}, discovery.paused_patterns)
        assert (await pause.read(1.0)).data == Paused(PauseState(deployments=frozenset({KEY})))


async def test_a_target_that_is_not_there_or_keeps_leadtime_away_is_told(api: FakeApi) -> None:
    api.add(objects.autoscaler("nobody", target={"name": "gone"}, replicas={"max": 5}))
    api.add(objects.autoscaler("away", target={"name": "chat-llm"}, replicas={"max": 5}))
    api.add(objects.ray_service(annotations={"leadtime.dev/enabled": "false"}, status=objects.service_status()))
    async with running(api, ENTRY) as discovery:
        await until(lambda: len(said(discovery)) == 2)

        assert said(discovery) == [
            ("away", 'spec.target: its annotation leadtime.dev/enabled: "false" keeps leadtime away from it'),
            ("nobody", "spec.target: there is no RayService gone in namespace llm"),
        ]
        assert limits(discovery) == []


async def test_while_objects_cannot_be_read_the_last_ones_stay_in_force(api: FakeApi) -> None:
    api.add(SERVICE)
    api.add(objects.autoscaler(replicas={"max": 5}, paused=True))
    async with running(api, ENTRY) as discovery:
        await until(lambda: bool(limits(discovery)))
        api.cut_watches()
        api.traffic.hooks.append(when(resource="autoscalers", fault=Fault(status=503)))
        assert discovery.autoscalers is not None
        await until(lambda: bool(discovery.autoscalers and discovery.autoscalers.why))

        assert limits(discovery) == [("llm/chat-llm/chat/*", 1, 5)]
        assert discovery.paused_patterns() == ("llm/chat-llm/*/*",)


async def test_nobody_is_scaled_before_the_objects_were_seen_once(api: FakeApi) -> None:
    api.add(SERVICE)
    api.traffic.hooks.append(when(resource="autoscalers", fault=Fault(status=403)))
    client = client_of(api)
    made = KubernetesDiscovery(client, ["llm"], now_s=asyncio.get_running_loop().time, times=QUICK, profile_of=preset)
    task = asyncio.ensure_future(made.run())
    await until(lambda: bool(made.services()))
    assert not made.status()[0]
    assert made.status()[2].startswith("Autoscalers: ")
    api.traffic.hooks.clear()
    await until(lambda: made.status()[0])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_a_cluster_without_the_definition_is_no_reason_to_wait() -> None:
    with FakeApi(crds=KUBERAY, namespaces=("llm",)) as bare:
        bare.add(SERVICE)
        async with running(bare, ENTRY) as discovery:
            assert limits(discovery) == []


async def test_who_changed_an_object_is_noted(api: FakeApi) -> None:
    api.add(SERVICE)
    made = api.add(objects.autoscaler(replicas={"max": 5}))
    audit = Audit(lambda: 0.0)
    async with running(api, ENTRY, audit=audit) as discovery:
        await until(lambda: bool(limits(discovery)))
        api.change(made, {"spec": {"replicas": {"max": 4}}})
        await until(lambda: limits(discovery) == [("llm/chat-llm/chat/*", 1, 4)])

    (note,) = [one for one in audit.take() if one["what"] == "autoscaler"]
    assert note["about"] == "Autoscaler/llm/chat"
    assert (note["before"]["replicas"], note["after"]["replicas"]) == ({"max": 5}, {"max": 4})


# ---------------------------------------------------------------- the definition


@pytest.mark.parametrize("spec", [{"target": {}}, {"target": {"name": "a"}, "replicas": {"min": -1}}, {}])
def test_the_definition_refuses_what_needs_no_expression(api: FakeApi, spec: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        api.add({**objects.autoscaler(), "spec": spec})


# ---------------------------------------------------------------- a whole controller


async def test_a_controller_obeys_an_object_and_writes_its_status(tmp_path: Path) -> None:
    """Consent, limits, pause and status by the object alone: the RayService has no annotation."""
    chosen = values(f"{APP}/LLMServer:*", 3)
    chosen |= {"replicas": 1, "config": {**chosen["config"], "kubernetes": {"autoscalers": True}}}
    async with (
        installed(tmp_path, chosen, "t0ken") as release,
        DoubleOperator(release.api, objects.ray_service(), release.addresses, "t0ken") as operator,
    ):
        asked = release.api.add(objects.autoscaler(replicas={"max": 3}))

        def status() -> dict[str, Any]:
            return dict(release.api.read(asked).get("status") or {})

        def condition(kind: str) -> dict[str, Any]:
            return next((one for one in status().get("conditions", ()) if one["type"] == kind), {})

        operator.rate_rps = 60.0
        await release.start("pod-0")
        await until(lambda: operator.now_active.replicas == 3)
        await until(lambda: condition("Acting").get("status") == "True")
        assert (status()["deployments"], condition("Ready")["status"]) == (1, "True")
        assert (status()["desired"], condition("Limited")["message"]) == (3, "replicas.max is 3")

        # another object of the same name, which pauses: a status of its own, at once
        release.api.remove(asked)
        release.api.add(objects.autoscaler(replicas={"max": 6}, paused=True))
        await until(lambda: condition("Paused").get("status") == "True")
        assert (condition("Acting")["reason"], status()["current"]) == ("Paused", 3)
        codes = await release.uninstall()

    assert codes == [0]
    assert release.refused == []
    needed = {("list", "autoscalers"), ("watch", "autoscalers"), ("patch", "autoscalers/status")}
    assert needed & release.unused == set()
    check_journals(release, 3)
    levels = [body["target_num_replicas"] for _, name, body in operator.now_active.dashboard.posts if name == LLM]
    assert levels
    assert max(levels) == 3
