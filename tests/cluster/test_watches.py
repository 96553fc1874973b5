"""leadtime's view of a cluster through what a real API server and etcd do to its watches: nothing is lost in the end.

The product's own cache and client, as an account without special rights, by way of a relay. The server sends GOAWAY to
2 % of the requests of HTTP/2, the most that it allows.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from autoscaler.common.errors import Unavailable
from autoscaler.kubernetes.api import KubernetesApi, connect
from autoscaler.kubernetes.resources import CONFIG_MAPS, Object, Throttled
from autoscaler.sources.kubernetes.cache import ObjectCache, WatchTimes
from tests.cluster import parts
from tests.cluster.api import ROOT_CA, ApiError, RealApi
from tests.cluster.control_plane import PATIENCE_S, mortal
from tests.cluster.network import Relay
from tests.kube.helpers import until

pytestmark = pytest.mark.cluster
SPACE = "watches"
_PARTS = (("certificate", "crt"), ("key", "key"))
VIEWER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "default-views", "namespace": SPACE},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": SPACE}],
}
USER = f"system:serviceaccount:{SPACE}:default"
AWAY_S = 60.0
TIMES = WatchTimes(lasts_s=60.0, silence_s=5.0, backoff_s=0.2, longest_backoff_s=1.0)


def config_map(name: str, value: str = "") -> dict[str, Any]:
    meta = {"name": name, "namespace": SPACE, "labels": {"of": "test"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": value}}


class Watched:
    """A cache of the namespace's ConfigMaps, and what is really there."""

    def __init__(self, api: RealApi, client: KubernetesApi, relay: Relay, times: WatchTimes = TIMES) -> None:
        self.api, self.client, self.relay = api, client, relay
        self.cache: ObjectCache[str] = ObjectCache(
            client, CONFIG_MAPS, SPACE, _value, now_s=time.monotonic, labels="of=test", times=times
        )

    def there(self) -> dict[str, str]:
        found = self.api.all("v1", "ConfigMap", SPACE)
        return {o["metadata"]["name"]: _value(o) for o in found if o["metadata"].get("labels")}

    def seen(self) -> dict[str, str]:
        return {name: value for (_, name), value in self.cache.items.items()}

    def current(self) -> bool:
        return not self.cache.why and self.seen() == self.there()

    async def becomes_current(self) -> None:
        await until(self.current, PATIENCE_S, 0.1)


def _value(obj: Object) -> str:
    return str(obj["data"]["value"])


@pytest.fixture
async def watched(cluster: RealApi, tmp_path: Path) -> AsyncIterator[Watched]:
    cluster.fresh([SPACE])
    if not cluster.there(VIEWER["apiVersion"], VIEWER["kind"], SPACE, "default-views"):
        cluster.add(VIEWER)
    with Relay(cluster.plane.port) as relay:
        token = cluster.token(SPACE, "default")
        access = cluster.plane.kubeconfig(tmp_path / "access", {"token": token}, f"https://127.0.0.1:{relay.port}")
        client = connect(access)
        made = Watched(cluster, client, relay)
        cluster.add(config_map("a", "1"))
        running = asyncio.ensure_future(made.cache.run())
        await made.becomes_current()
        yield made
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.close()


async def test_what_happened_while_it_was_cut_off_is_seen_when_it_is_back(watched: Watched) -> None:
    watched.relay.silence()
    watched.api.change(config_map("a"), {"data": {"value": "2"}})
    watched.api.add(config_map("b", "1"))
    watched.api.remove(config_map("a"))
    watched.relay.heal()

    await watched.becomes_current()
    assert watched.seen() == {"b": "1"}
    assert watched.cache.lists == 1, "the watch went on from where it was"


async def test_a_version_that_is_forgotten_meanwhile_is_a_410_and_a_new_list(watched: Watched) -> None:
    watched.relay.silence()
    watched.api.add(config_map("b", "1"))
    watched.api.remove(config_map("a"))
    watched.api.compact()
    watched.relay.heal()

    await watched.becomes_current()
    assert watched.seen() == {"b": "1"}
    assert watched.cache.lists == 2


LEVEL = {
    "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
    "kind": "PriorityLevelConfiguration",
    "metadata": {"name": "no-seat"},
    "spec": {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}},
        },
    },
}  # fmt: skip
"""Without seats, and with a queue for one request.

Without a queue it would let one request after the other through: a request that asks for more seats than there are at
all is admitted whenever no other one runs.
"""
FLOW = {
    "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
    "kind": "FlowSchema",
    "metadata": {"name": "no-seat"},
    "spec": {
        "matchingPrecedence": 2,
        "priorityLevelConfiguration": {"name": "no-seat"},
        "rules": [
            {
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "default", "namespace": SPACE}}],
                "resourceRules": [
                    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
                ],
            }
        ],
    },
}


@contextmanager
def no_seat(api: RealApi) -> Iterator[None]:
    """Priority and fairness refuse what the account asks: it has no seat, and others wait in its queue already."""
    plane, wanted = api.plane, [True]
    headers = {"Authorization": f"Bearer {api.token(SPACE, 'default')}"}
    url = plane.url + CONFIG_MAPS.path(SPACE, ROOT_CA)
    codes: set[int] = set()

    def waits_in_the_queue() -> None:
        while wanted[0]:
            with suppress(urllib3.exceptions.HTTPError):
                codes.add(plane.anonymous.request("GET", url, headers=headers, timeout=70, retries=False).status)

    with ThreadPoolExecutor(3) as asking:
        api.add(LEVEL)
        api.add(FLOW)
        try:
            for _ in range(3):
                asking.submit(waits_in_the_queue)
            plane.until(lambda: 429 in codes, "a request that the full queue refuses")
            yield
        finally:
            wanted[0] = False
            api.remove(FLOW)
            api.remove(LEVEL)


async def test_no_seat_is_a_429_that_passes(watched: Watched) -> None:
    with no_seat(watched.api):
        with pytest.raises(Throttled) as caught:
            await calls(watched.client)
        assert caught.value.retry_after_s is not None

        def turned_away() -> bool:
            if "429" not in watched.cache.why:  # a watch that stands keeps its seat
                watched.relay.break_connections()
            return "429" in watched.cache.why

        await until(turned_away, PATIENCE_S, 1.5)
        watched.api.add(config_map("b", "1"))
        assert watched.seen() == {"a": "1"}, "what was seen last stays"

    await watched.becomes_current()


def through(relay: Relay, api: RealApi, path: Path) -> Path:
    """A kubeconfig of the administrator that goes by the relay."""
    admin = {f"client-{part}": str(api.plane.folder / f"admin.{end}") for part, end in _PARTS}
    return api.plane.kubeconfig(path, admin, f"https://127.0.0.1:{relay.port}")


@contextmanager
def by_http2(api: RealApi, folder: Path) -> Iterator[tuple[str, Relay]]:
    """A URL under which kubectl passes requests on by HTTP/2, and the relay that they go through."""
    with Relay(api.plane.port) as relay:
        access = through(relay, api, folder / "kubectl")
        command = [str(parts.require("kubectl")), f"--kubeconfig={access}", "proxy", "--port=0"]
        with subprocess.Popen(mortal(command), stdout=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdout is not None
            yield "http://" + proxy.stdout.readline().rpartition(" ")[2].strip(), relay
            proxy.terminate()


async def test_goaway_ends_connections_of_kubectl_and_none_of_the_product(cluster: RealApi, tmp_path: Path) -> None:
    """It is for HTTP/2. The product's client speaks HTTP/1.1, of which the server closes nothing."""
    cluster.fresh([SPACE])
    path = CONFIG_MAPS.path(SPACE, ROOT_CA)
    with by_http2(cluster, tmp_path) as (url, relay):

        def another_connection() -> bool:
            assert urllib3.request("GET", url + path, retries=False, timeout=10).status == 200
            return relay.connections > 1

        await until(another_connection, PATIENCE_S, 0.0)

    with Relay(cluster.plane.port) as relay:
        client = connect(through(relay, cluster, tmp_path / "product"))
        for _ in range(300):
            await client.get(CONFIG_MAPS, SPACE, ROOT_CA)
        await client.close()
        assert relay.connections == 1


async def test_a_restart_of_the_api_server_loses_nothing(watched: Watched) -> None:
    plane = watched.api.plane
    plane.kill("kube-apiserver")
    await until(lambda: watched.cache.why != "", PATIENCE_S, 0.05)
    assert watched.seen() == {"a": "1"}, "what was seen last stays"
    plane.start("kube-apiserver")
    watched.api.add(config_map("b", "1"))

    await watched.becomes_current()


async def test_etcd_that_is_away_makes_the_view_older_and_never_smaller(watched: Watched) -> None:
    plane = watched.api.plane
    plane.kill("etcd")
    with pytest.raises(Unavailable):
        await calls(watched.client)
    watched.relay.break_connections()
    await asyncio.sleep(AWAY_S)
    assert watched.seen() == {"a": "1"}
    plane.start("etcd")
    await until(lambda: _answers(watched.api), PATIENCE_S, 0.2)
    watched.api.add(config_map("b", "1"))

    await watched.becomes_current()


async def test_an_etcd_that_was_restored_from_a_backup_is_listed_anew(watched: Watched, tmp_path: Path) -> None:
    """Versions go back: a watch from a version that is not there yet is accepted, and says nothing of what happens."""
    plane = watched.api.plane
    data, backup = plane.folder / "etcd", tmp_path / "backup"
    plane.kill("etcd")
    shutil.copytree(data, backup)
    plane.start("etcd")
    await until(lambda: _answers(watched.api), PATIENCE_S, 0.2)
    for number in range(30):
        watched.api.add(config_map(f"lost-{number}"))
    await watched.becomes_current()
    for program in ("kube-apiserver", "etcd"):
        plane.kill(program)
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    for program in ("etcd", "kube-apiserver"):
        plane.start(program)
    watched.api.add(config_map("b", "1"))

    await watched.becomes_current()
    assert watched.seen() == {"a": "1", "b": "1"}


async def calls(client: KubernetesApi) -> None:
    """Until one is refused. Errors: of that one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await client.get(CONFIG_MAPS, SPACE, ROOT_CA, timeout_s=2.0)


def _answers(api: RealApi) -> bool:
    try:
        api.all("v1", "ConfigMap", SPACE)
    except ApiError:
        return False
    return True
