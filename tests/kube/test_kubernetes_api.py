"""The client against the fake API server: what goes over the wire, what errors become, deadlines, watches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration
from kubernetes.config import incluster_config, kube_config

from autoscaler.common.errors import (
    ActuatorError,
    ConfigError,
    Conflict,
    Forbidden,
    LeadtimeError,
    NotFound,
    Rejected,
    Unavailable,
)
from autoscaler.kubernetes.api import KubernetesApi, connect
from autoscaler.kubernetes.resources import (
    CONFIG_MAPS,
    LEASES,
    PODS,
    RAY_SERVICES,
    Expired,
    PatchOperation,
    Throttled,
    WatchEvent,
    list_all,
)
from tests.fakes.kubernetes import objects
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.kube.helpers import client_of, kubeconfig, until

BOTH_SERVERS = True


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[KubernetesApi]:
    made = client_of(api)
    yield made
    await made.close()


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "llm"}, "data": data}


# ---------------------------------------------------------------- calls


async def test_objects_are_created_read_replaced_patched_and_deleted(api: FakeApi, client: KubernetesApi) -> None:
    made = await client.create(CONFIG_MAPS, "llm", config_map(x="1"))
    assert (await client.get(CONFIG_MAPS, "llm", "a"))["data"] == {"x": "1"}
    replaced = await client.replace(CONFIG_MAPS, "llm", "a", {**made, "data": {"x": "2"}})
    assert replaced["data"] == {"x": "2"}
    patched = await client.patch(CONFIG_MAPS, "llm", "a", [PatchOperation("add", "/data/y", "3")])
    assert patched["data"] == {"x": "2", "y": "3"}
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, "llm", "a", uid="another")
    await client.delete(CONFIG_MAPS, "llm", "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "llm", "a")


@pytest.mark.fake_only
async def test_a_patch_of_a_custom_resource_is_a_json_patch_on_the_wire(api: FakeApi, client: KubernetesApi) -> None:
    api.add(objects.ray_service())
    path = "/spec/rayClusterConfig/workerGroupSpecs/0/replicas"

    await client.patch(RAY_SERVICES, "llm", "chat-llm", [PatchOperation("replace", path, 3)])

    (sent,) = api.traffic.of("patch")
    assert sent.content_type == "application/json-patch+json"
    assert sent.body == [{"op": "replace", "path": path, "value": 3}]
    assert sent.headers["User-Agent"].startswith("leadtime/")


@pytest.mark.fake_only
async def test_a_list_comes_in_pages_and_is_begun_again_when_they_expire(api: FakeApi, client: KubernetesApi) -> None:
    for i in range(7):
        api.add(config_map(f"c{i}"))

    pages = [page async for page in client.pages(CONFIG_MAPS, "llm", page_size=3)]
    assert [len(page.items) for page in pages] == [3, 3, 1]

    def compact_before_the_second_page(request: Any) -> Fault | None:
        if request.query.get("continue") and not compacted:
            compacted.append(True)
            api.change(config_map("c0"), {"data": {"n": str(len(api.requests))}})
            api.compact()
        return None

    compacted: list[bool] = []
    api.traffic.hooks.append(compact_before_the_second_page)
    with pytest.raises(Expired):
        [page async for page in client.pages(CONFIG_MAPS, "llm", page_size=3)]
    compacted.clear()
    for i in range(250):
        api.add(config_map(f"d{i}"))
    assert len((await list_all(client, CONFIG_MAPS, "llm")).items) == 257
    assert compacted


async def test_selectors_reach_the_server(api: FakeApi, client: KubernetesApi) -> None:
    api.add(objects.pod("p1"))
    api.add(objects.pod("p2", on="other", labels={"a": "b"}))

    async def found(**selectors: str) -> list[str]:
        return [p["metadata"]["name"] for p in (await list_all(client, PODS, "llm", **selectors)).items]

    assert await found(labels="a=b") == ["p2"]
    assert await found(fields="spec.nodeName=h100-1") == ["p1"]
    assert await found() == ["p1", "p2"]


@pytest.mark.fake_only
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=401), Forbidden),
        (Fault(status=403), Forbidden),
        (Fault(status=404), NotFound),
        (Fault(status=409), Conflict),
        (Fault(status=410), Expired),
        (Fault(status=415), Rejected),
        (Fault(status=422), Rejected),
        (Fault(status=429), Throttled),
        (Fault(status=500), Unavailable),
        (Fault(status=503, text="upstream connect error token=abc"), Unavailable),
        (Fault(status=302, text="elsewhere"), Unavailable),
        (Fault(status=200, text="<html>login</html>"), Unavailable),
        (Fault(drop=True), Unavailable),
    ],
)
async def test_every_failure_has_its_error(
    api: FakeApi, client: KubernetesApi, fault: Fault, error: type[LeadtimeError]
) -> None:
    api.traffic.hooks.append(lambda request: fault)

    with pytest.raises(error) as caught:
        await client.get(CONFIG_MAPS, "llm", "a")

    assert type(caught.value) is error
    assert str(caught.value).startswith("kubernetes: get configmaps llm/a: ")
    assert "token=abc" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fake_only
async def test_a_throttled_call_says_when_to_come_back(api: FakeApi, client: KubernetesApi) -> None:
    api.traffic.hooks.append(when(fault=Fault(status=429, retry_after_s=7)))

    with pytest.raises(Throttled) as caught:
        await client.get(CONFIG_MAPS, "llm", "a")

    assert caught.value.retry_after_s == 7


@pytest.mark.fake_only
async def test_nothing_is_repeated_by_itself(api: FakeApi, client: KubernetesApi) -> None:
    api.traffic.hooks.append(when(fault=Fault(drop=True)))

    for call in (client.get(CONFIG_MAPS, "llm", "a"), client.replace(CONFIG_MAPS, "llm", "a", config_map())):
        with pytest.raises(Unavailable):
            await call

    assert [r.method for r in api.requests] == ["GET", "PUT"]


@pytest.mark.fake_only
async def test_a_server_that_never_answers_costs_the_deadline(api: FakeApi, client: KubernetesApi) -> None:
    api.traffic.hooks.append(when(fault=Fault(hang=True)))
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
            await client.get(CONFIG_MAPS, "llm", "a", timeout_s=0.3)


@pytest.mark.fake_only
async def test_a_call_that_waited_too_long_for_a_thread_is_never_sent(api: FakeApi) -> None:
    client = client_of(api, threads=1)
    api.traffic.hooks.append(when("get", "configmaps", fault=Fault(delay_s=2.0)))

    slow = asyncio.ensure_future(client.get(CONFIG_MAPS, "llm", "a", timeout_s=60))
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable):
        await client.create(CONFIG_MAPS, "llm", config_map("late"), timeout_s=0.2)
    with pytest.raises(NotFound):
        await slow
    with pytest.raises(NotFound):  # the one thread is free again, and went past the late call
        await client.get(CONFIG_MAPS, "llm", "a", timeout_s=60)

    assert api.traffic.writes() == []
    await client.close()


@pytest.mark.fake_only
async def test_a_refused_connection_is_unavailable_and_a_closed_client_too(api: FakeApi) -> None:
    nobody = KubernetesApi(Configuration(host="http://127.0.0.1:1"))
    with pytest.raises(Unavailable):
        await nobody.get(PODS, "llm", "a")
    await nobody.close()
    with pytest.raises(Unavailable):
        await nobody.get(PODS, "llm", "a")


async def test_connections_are_kept_and_used_again(api: FakeApi, client: KubernetesApi) -> None:
    manager = client._client.rest_client.pool_manager
    for _ in range(5):
        with pytest.raises(NotFound):
            await client.get(CONFIG_MAPS, "llm", "a")

    (address,) = manager.pools.keys()
    assert manager.pools[address].num_connections == 1


# ---------------------------------------------------------------- who we are


async def test_a_missing_right_is_forbidden_and_names_what_is_missing() -> None:
    rbac = Rbac.from_documents([], subject="u")
    with FakeApi(rbac=rbac, tokens={"secret-token": "system:serviceaccount:leadtime:leadtime"}) as api:
        client = client_of(api, token="secret-token")
        with pytest.raises(Forbidden) as caught:
            await client.get(CONFIG_MAPS, "llm", "a")
        wrong = client_of(api, token="wrong-token")
        with pytest.raises(Forbidden) as unknown:
            await wrong.get(CONFIG_MAPS, "llm", "a")
        await client.close()
        await wrong.close()

    assert 'cannot get resource "configmaps"' in str(caught.value)
    assert "token" not in str(caught.value) + str(unknown.value)


async def test_a_kubeconfig_gives_address_and_token(tmp_path: Path) -> None:
    with FakeApi(tokens={"t1": "me"}, namespaces=("llm",)) as api:
        client = connect(kubeconfig(tmp_path / "config", api.url, "t1"))
        with pytest.raises(NotFound):
            await client.get(CONFIG_MAPS, "llm", "a")
        await client.close()

        assert api.requests[-1].user == "me"


def test_a_kubeconfig_that_cannot_be_used_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for file, context in ((tmp_path / "none", None), (kubeconfig(tmp_path / "config", "http://x", "t"), "other")):
        with pytest.raises(ConfigError) as caught:
            connect(file, context)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_access_it_is_said_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no usable access from your kubeconfig"):
        connect()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no usable access from the pod's service account"):
        connect()


async def test_in_a_pod_the_service_account_is_used_and_its_token_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    from kubernetes.config import incluster_config as loader

    from tests.fakes.kubernetes.tls import loopback_certificate

    authority, tls = loopback_certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setattr(loader, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(loader, "SERVICE_CERT_FILENAME", str(authority))
    with FakeApi(tokens={"first": "pod", "second": "pod"}, namespaces=("llm",), tls=tls) as api:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        client = connect()
        for text in ("first", "second"):
            token.write_text(text)
            let_a_minute_pass(client)
            with pytest.raises(NotFound):
                await client.get(CONFIG_MAPS, "llm", "a")
            assert api.requests[-1].headers["Authorization"] == f"bearer {text}"
        await client.close()


def let_a_minute_pass(client: KubernetesApi) -> None:
    """The official loader reads the token file again when a minute is over."""
    cells = client._configuration.refresh_api_key_hook.__closure__
    loader = next(cell.cell_contents for cell in cells if hasattr(cell.cell_contents, "token_expires_at"))
    loader.token_expires_at = loader.token_expires_at.replace(year=2000)


# ---------------------------------------------------------------- watches


async def test_a_watch_tells_what_happens_after_a_version_and_ends_in_time(api: FakeApi, client: KubernetesApi) -> None:
    version = (await list_all(client, CONFIG_MAPS, "llm")).resource_version
    api.add(config_map("a", x="1"))
    api.change(config_map("a"), {"data": {"x": "2"}})
    api.remove(config_map("a"))

    events = [e async for batch in client.watch(CONFIG_MAPS, "llm", version, lasts_s=1) for e in batch]

    assert [e.type for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert [int(e.resource_version) for e in events] == sorted(int(e.resource_version) for e in events)


async def test_events_of_a_watch_arrive_while_it_is_open(api: FakeApi, client: KubernetesApi) -> None:
    seen: list[WatchEvent] = []
    batches: list[int] = []

    async def follow() -> None:
        async for batch in client.watch(LEASES, "llm", "", lasts_s=30):
            batches.append(len(batch))
            seen.extend(event for event in batch if event.type != "BOOKMARK")
            if len(seen) >= 2:
                return

    task = asyncio.ensure_future(follow())
    for name in ("a", "b"):
        meta = {"name": name, "namespace": "llm"}
        api.add({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": {}})
    await asyncio.wait_for(task, 60)

    assert [e.object["metadata"]["name"] for e in seen] == ["a", "b"]
    assert batches[0] == 0  # the watch stands


@pytest.mark.fake_only
@pytest.mark.parametrize("as_status", [False, True])
async def test_a_watch_from_a_forgotten_version_is_expired(
    api: FakeApi, client: KubernetesApi, as_status: bool
) -> None:
    api.add(config_map("a"))
    api.compact()
    api.expired_as_status = as_status

    with pytest.raises(Expired):
        [b async for b in client.watch(CONFIG_MAPS, "llm", "1", lasts_s=1)]


@pytest.mark.fake_only
async def test_a_watch_that_is_cut_or_silent_is_unavailable(api: FakeApi, client: KubernetesApi) -> None:
    api.add(config_map("a"))
    api.traffic.hooks.append(when("watch", times=1, fault=Fault(cut_after_events=1)))
    with pytest.raises(Unavailable):
        [b async for b in client.watch(CONFIG_MAPS, "llm", "", lasts_s=1)]
    with pytest.raises(Unavailable):
        [b async for b in client.watch(CONFIG_MAPS, "llm", "", lasts_s=30, silence_s=0.3)]


@pytest.mark.fake_only
async def test_cancelling_a_watch_frees_its_thread_and_its_connection(api: FakeApi, client: KubernetesApi) -> None:
    async def follow() -> None:
        async for _ in client.watch(CONFIG_MAPS, "llm", "", lasts_s=600, silence_s=600):
            pass

    tasks = [asyncio.ensure_future(follow()) for _ in range(3)]
    await until(lambda: api.open_watches == 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    await until(lambda: api.open_watches == 0)
    await until(lambda: not [t for t in threading.enumerate() if t.name.startswith("watch-")])


def test_errors_of_reading_are_no_exceptions_of_others() -> None:
    assert issubclass(Throttled, ActuatorError)
    assert issubclass(Expired, LeadtimeError)
