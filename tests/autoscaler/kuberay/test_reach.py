"""What an object may name, and what comes of names that would lead out of its namespace: one service is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoscaler.clients.addresses import AllowList
from autoscaler.clients.ray_dashboard import NoAnswer
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.clients.resolving import AddressRefused
from autoscaler.common.errors import ConfigError
from autoscaler.common.secret_files import read_secret
from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.kuberay.reach import Reach
from autoscaler.kuberay.tokens import Tokens
from tests.autoscaler.kuberay.test_fleet import LLM, World, fleet_of, inventories
from tests.autoscaler.sources.test_kuberay import found
from tests.fakes.kubernetes import objects

CANARY = "canary-4711"


def named(**spec: Any) -> dict[str, Any]:
    """A RayService whose Ray cluster spec has these fields, and whose status names no Service."""
    status = objects.service_status()
    del status["activeServiceStatus"]["rayClusterStatus"]
    return objects.ray_service(cluster=objects.cluster_spec(**spec), status=status)


def head_service(name: str) -> dict[str, Any]:
    return {"headGroupSpec": {"headService": {"metadata": {"name": name}}, "rayStartParams": {}}}


def secret(name: str) -> dict[str, Any]:
    return {"authOptions": {"mode": "token", "secretName": name}}


WRONG: dict[str, dict[str, Any]] = {
    "user": head_service("u@x"),
    "host and port": head_service("evil.example.com:80/x?"),
    "path": head_service("a/b"),
    "fragment": head_service("evil.example.com#"),
    "dots": head_service("head.other"),
    "line break": head_service("a\nb"),
    "secret of others": secret("../other/chat-llm-ray-token"),
    "absolute secret": secret("/etc/passwd"),
    "secret up": secret(".."),
    "secret with NUL": secret("a\0b"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_name_that_leads_elsewhere_refuses_that_service_only(wrong: dict[str, Any]) -> None:
    world = World()
    good = objects.ray_service("good", status=objects.service_status("good-1"))
    async with fleet_of(world, "good-1") as fleet:
        world.show(named(**wrong), good)
        for _ in range(2):  # and again: nothing of it stays
            assert {key.service for key in await inventories(fleet, world)} == {"good"}
            reading = await fleet.inventories.read(world.now_s)
            assert reading.why.startswith("1 of 2 Ray clusters cannot be read: llm/chat-llm-abcde: ")
            assert "is no name of a" in reading.why
            assert "\n" not in reading.why


async def test_what_is_wrong_with_an_object_that_was_mended_is_forgotten() -> None:
    world = World()
    async with fleet_of(world, "chat-llm-abcde") as fleet:
        world.show(named(**head_service("u@x")))
        assert not (await fleet.inventories.read(1.0)).up
        world.show(objects.ray_service(status=objects.service_status()))
        assert LLM in await inventories(fleet, world)


# ---------------------------------------------------------------- tokens


def mounted(folder: Path, namespace: str, name: str, token: str) -> Path:
    """As a kubelet mounts a Secret: the file is a link through ..data into a folder with a date."""
    place = folder / namespace / name
    (place / "..2026_01_01").mkdir(parents=True)
    (place / "..2026_01_01" / "auth_token").write_text(token)
    (place / "..data").symlink_to("..2026_01_01")
    (place / "auth_token").symlink_to("..data/auth_token")
    return place / "auth_token"


def test_a_secret_as_kubernetes_mounts_it_is_read(tmp_path: Path) -> None:
    assert read_secret(mounted(tmp_path, "llm", "chat", "s3cret"), tmp_path) == "s3cret"


def test_all_secrets_of_a_namespace_in_one_mount_are_read(tmp_path: Path) -> None:
    (tmp_path / "llm" / "..2026" / "chat").mkdir(parents=True)
    (tmp_path / "llm" / "..2026" / "chat" / "auth_token").write_text("s3cret")
    (tmp_path / "llm" / "..data").symlink_to("..2026")
    (tmp_path / "llm" / "chat").symlink_to("..data/chat")
    assert read_secret(Tokens(tmp_path).file("llm", "chat") or Path(), tmp_path) == "s3cret"


def test_a_file_that_is_too_long_for_a_token_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than 8192 bytes") as caught:
        read_secret(mounted(tmp_path, "llm", "chat", CANARY + "x" * 8192), tmp_path)
    assert CANARY not in str(caught.value)


def _file_elsewhere(folder: Path, outside: Path) -> None:
    (folder / "llm" / "chat").mkdir(parents=True)
    (folder / "llm" / "chat" / "auth_token").symlink_to(outside)


def _folder_elsewhere(folder: Path, outside: Path) -> None:
    (folder / "llm").mkdir()
    (folder / "llm" / "chat").symlink_to(outside.parent)


def _another_namespace(folder: Path, outside: Path) -> None:
    mounted(folder, "other", "chat", CANARY)
    (folder / "llm").symlink_to("other")


def _another_secret(folder: Path, outside: Path) -> None:
    mounted(folder, "llm", "theirs", CANARY)
    (folder / "llm" / "chat").symlink_to("theirs")


@pytest.mark.parametrize("trick", [_file_elsewhere, _folder_elsewhere, _another_namespace, _another_secret])
def test_no_link_leads_to_the_token_of_another_name(trick: Callable[[Path, Path], None], tmp_path: Path) -> None:
    folder, outside = tmp_path / "tokens", tmp_path / "outside" / "auth_token"
    folder.mkdir()
    outside.parent.mkdir()
    outside.write_text(CANARY)
    trick(folder, outside)
    file = Tokens(folder).file("llm", "chat")
    assert file is not None
    assert os.path.exists(file)
    with pytest.raises(ConfigError, match="leads to another place") as caught:
        read_secret(file, folder)
    assert CANARY not in str(caught.value)


# ---------------------------------------------------------------- addresses


async def refused(real: str, addresses: list[str], allow: tuple[str, ...] = ()) -> str:
    """What reading the service comes to where its head Service's name stands for these addresses."""

    async def resolve(host: str, port: int) -> tuple[str, list[str]]:
        assert (host, port) == ("chat-llm-abcde-head-svc.llm.svc", 8265)
        return real, addresses

    (service,) = found(named(), patterns=["*/*/*/*"])
    assert service.active is not None
    reach = Reach(limits=ReadingLimits(AllowList.of(allow)), resolve=resolve, timeout_s=5.0)
    client = reach.client(service, service.active)
    try:
        with pytest.raises(NoAnswer) as caught:
            await client.get("/")
    finally:
        await client.close()
    return str(caught.value) if isinstance(caught.value, AddressRefused) else "connected"


OWN = "chat-llm-abcde-head-svc.llm.svc.cluster.local"


async def test_an_external_name_service_is_not_followed() -> None:
    other = "victim-head-svc.other.svc.cluster.local"
    assert f"points on to {other}" in await refused(other, ["10.0.0.1"])
    assert "points on to 10.0.0.1" in await refused("10.0.0.1", ["10.0.0.1"])
    assert "link-local" in await refused("metadata.internal", ["169.254.169.254"])
    assert "this machine" in await refused(OWN, ["127.0.0.1"])
    assert "link-local" in await refused(OWN, ["127.0.0.1", "169.254.169.254"], ("127.0.0.1",))


async def test_what_the_settings_allow_is_connected_to() -> None:
    assert await refused("localhost", ["127.0.0.1"], ("127.0.0.1",)) == "connected"
    assert await refused("far.example.com", ["127.0.0.1"], (".example.com",)) == "connected"


async def test_a_fleet_in_kubernetes_takes_addresses_of_pods_of_that_cluster_only() -> None:
    asked: list[tuple[str, str]] = []

    def pods(namespace: str, cluster: str) -> frozenset[str]:
        asked.append((namespace, cluster))
        return frozenset(["10.0.0.7"])

    (service,) = found(named(), patterns=["*/*/*/*"])
    assert service.active is not None
    reach = Reach(pods=pods)
    client = reach.client(service, service.active)
    rules = reach.targets(service, service.active, client)
    assert rules.pods is not None
    assert (rules.pods(), asked, rules.loopback) == (frozenset(["10.0.0.7"]), [("llm", "chat-llm-abcde")], False)
    assert isinstance(KubeRayFleet(World(), reach), KubeRayFleet)
    await client.close()
