"""leadtime's view of a cluster through what a real API server and etcd do to its watches: nothing is lost in the end.

The product's own cache and client, as an account without special rights, by way of a relay. GOAWAY is not tried: it
ends connections of HTTP/2, and the client speaks HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from autoscaler.common.errors import Unavailable
from autoscaler.kubernetes.api import KubernetesApi, connect
from autoscaler.kubernetes.resources import CONFIG_MAPS, Object
from autoscaler.sources.kubernetes.cache import ObjectCache, WatchTimes
from tests.cluster.api import ROOT_CA, ApiError, RealApi
from tests.cluster.control_plane import PATIENCE_S
from tests.cluster.network import Relay
from tests.kube.helpers import until

pytestmark = pytest.mark.cluster
SPACE = "watches"
VIEWER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "default-views", "namespace": SPACE},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": SPACE}],
}
USER = f"system:serviceaccount:{SPACE}:default"
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
    await asyncio.sleep(3.0)
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
