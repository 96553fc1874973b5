"""`leadtime pause --cluster`: the switch that all pods of a release read, pulled with the user's own rights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.helpers import Ran, leadtime
from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.kube.helpers import kubeconfig

SWITCH = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lt-pause", "namespace": "leadtime"}}
Command = Callable[..., Ran]


@pytest.fixture
def command(api: FakeApi, tmp_path: Path) -> Command:
    config = kubeconfig(tmp_path / "config", api.url, "t")
    return lambda *words: leadtime(*words, "--cluster", "leadtime/lt", "--kubeconfig", str(config))


def test_everything_and_single_keys_are_paused_and_resumed_for_all_pods(api: FakeApi, command: Command) -> None:
    api.add(SWITCH)
    assert command("pause", "chat/LLMServer:*").out == "paused: chat/LLMServer:*\n"
    assert command("pause").out == "paused: everything\n"
    assert api.read(SWITCH)["data"] == {"paused": "true", "deployments": "chat/LLMServer:*"}
    assert command("resume").out == "paused: nothing\n"
    assert api.read(SWITCH)["data"]["paused"] == "false"


def test_a_switch_that_is_not_there_is_one_line_and_exit_1(command: Command) -> None:
    ran = command("pause")
    assert (ran.code, ran.out) == (1, "")
    assert "leadtime/lt-pause" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_without_the_right_nothing_is_said_to_be_paused(tmp_path: Path) -> None:
    with FakeApi(crds=KUBERAY, rbac=Rbac(), tokens={"t": "somebody"}, namespaces=("leadtime",)) as api:
        api.add(SWITCH)
        config = kubeconfig(tmp_path / "config", api.url, "t")
        ran = leadtime("pause", "--cluster", "leadtime/lt", "--kubeconfig", str(config))
    assert (ran.code, ran.out) == (1, "")
    assert "forbidden" in ran.err.lower()


@pytest.mark.parametrize("where", ["leadtime", "a/b/c", "/x"])
def test_a_release_is_named_by_namespace_and_name(where: str) -> None:
    ran = leadtime("pause", "--cluster", where)
    assert ran.code == 2
    assert ran.err.startswith(f"--cluster: {where!r}; allowed: NAMESPACE/NAME")
