"""Who changed what is in the journal, in its own kind of record, and the journal can leave the pod."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from autoscaler.api.telemetry import new_telemetry
from autoscaler.core import journal
from autoscaler.core.audit import Audit, writer_of
from autoscaler.core.pause import PauseSwitch
from autoscaler.core.types import ControllerConfig
from autoscaler.runtime.journal_file import JournalWriter, journal_files, read_journal
from autoscaler.runtime.journal_stream import JournalStream
from autoscaler.runtime.store import StateStore
from autoscaler.sources.kuberay.objects import parse_ray_service
from autoscaler.sources.kubernetes.pause import KubernetesPauseSource
from autoscaler.wiring.kubernetes import KubernetesSettings, kubernetes_parts
from policies.base import DeploymentKey
from tests.autoscaler.runtime.test_loop import Shell
from tests.cli.helpers import leadtime
from tests.cli.journals import START_S, records
from tests.fakes.kubernetes import objects

LLM = DeploymentKey.parse("chat/llm")


def written(manager: str, at: str, *path: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in reversed(path):
        fields = {f"f:{name}": fields}
    return {"manager": manager, "operation": "Update", "time": at, "fieldsV1": fields}


EARLY, LATE = "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"
ANNOTATION = ("metadata", "annotations", "leadtime.dev/max-replicas")


# ---------------------------------------------------------------- who


def test_the_last_manager_of_a_field_wrote_it() -> None:
    entries = [written("kubectl", LATE, *ANNOTATION), written("argocd", EARLY, *ANNOTATION), written("x", LATE, "spec")]

    assert writer_of({"metadata": {"managedFields": entries}}, *ANNOTATION) == {
        "manager": "kubectl",
        "written_at": LATE,
    }
    assert writer_of({"metadata": {"managedFields": entries}}, "data", "paused") == {}


@pytest.mark.parametrize("odd", [None, 3, [3], [{"fieldsV1": 3}], [{"fieldsV1": {"f:metadata": None}}]])
def test_odd_managed_fields_tell_nobody(odd: object) -> None:
    assert writer_of({"metadata": {"managedFields": odd}}, *ANNOTATION) == {}


def test_who_wrote_annotations_is_read_with_them() -> None:
    obj = objects.ray_service(annotations={"leadtime.dev/max-replicas": "3"})
    obj["metadata"]["managedFields"] = [written("kubectl-annotate", LATE, *ANNOTATION)]

    assert parse_ray_service(obj).annotated_by == {"manager": "kubectl-annotate", "written_at": LATE}


async def test_a_pause_over_http_says_the_peer_and_which_token_and_never_the_token() -> None:
    switch = PauseSwitch(None)
    switch.audit = Audit(lambda: 7.0)
    await switch.pull(LLM, True, {"peer": "10.0.0.9", "token": "server.token_file"})

    assert switch.audit.take() == [
        {
            "kind": "audit",
            "at_s": 7.0,
            "what": "pause",
            "about": LLM.full,
            "who": {"peer": "10.0.0.9", "token": "server.token_file"},
            "before": {"everything": False, "deployments": []},
            "after": {"everything": False, "deployments": ["chat/llm"]},
        }
    ]


class OneConfigMap:
    """A cluster in which there is one ConfigMap."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.entries: list[dict[str, Any]] = []

    async def get(self, *where: Any, **more: Any) -> dict[str, Any]:
        return {"metadata": {"managedFields": self.entries}, "data": self.data}


async def test_a_pause_in_the_cluster_says_who_wrote_it() -> None:
    api, audit = OneConfigMap(), Audit(lambda: 7.0)
    config = ControllerConfig()
    parts = kubernetes_parts(
        KubernetesSettings((), "ours", "lt"), config, new_telemetry(config), api, audit=audit  # type: ignore[arg-type]
    )  # fmt: skip
    [switch] = [source for source in parts.sources if isinstance(source, KubernetesPauseSource)]
    await switch.read(1.0)
    api.data, api.entries = {"paused": "true"}, [written("kubectl-patch", LATE, "data", "paused")]
    await switch.read(2.0)
    await switch.read(3.0)
    [record] = audit.take()

    assert (record["about"], record["who"]["manager"]) == ("ConfigMap ours/lt-pause", "kubectl-patch")
    assert (record["before"]["everything"], record["after"]["everything"]) == (False, True)


def test_settings_that_differ_from_those_of_the_last_start_are_noticed(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s.sqlite")

    assert [store.settings_since(sha) for sha in ("a", "a", "b", "b")] == [None, "a", "a", "b"]


def test_records_that_nobody_takes_are_bounded_and_their_loss_is_told() -> None:
    audit = Audit(lambda: 0.0)
    for number in range(1003):
        audit.note("settings", "x" * 5000, {}, None, number)
    taken = audit.take()

    assert (len(taken), taken[0]["lost_before"], taken[-1]["after"]) == (1000, 3, 1002)
    assert len(taken[0]["about"]) <= 201
    assert audit.take() == []


# ---------------------------------------------------------------- in the journal


async def test_it_stands_in_the_journal_before_the_tick_that_it_explains(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.runtime._audit = shell.runtime.pause.audit = Audit(shell.clock.now_s)
    await shell.ticks(1)
    await shell.runtime.pause.pull(None, True, {"peer": "10.0.0.9"})
    await shell.ticks(1)

    assert [record["kind"] for record in shell.recorded()] == ["checkpoint", "tick", "audit", "tick"]


async def test_it_waits_for_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.runtime._audit = audit = Audit(shell.clock.now_s)
    (tmp_path / "journal").write_text("in the way")
    audit.note("settings", "f", {}, None, None)
    await shell.ticks(1)
    (tmp_path / "journal").unlink()
    await shell.ticks(3)

    assert "audit" in [record["kind"] for record in shell.recorded()]


def test_explain_shows_it_and_replay_steps_over_it(tmp_path: Path) -> None:
    checkpoint, first, *rest = records([1, 3])
    audit = Audit(lambda: START_S + 1)
    audit.note("pause", "everything", {"peer": "10.0.0.9"}, None, {"everything": True, "by": "\x1b[2J"})
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b"".join([checkpoint, first, *map(journal.encode, audit.take()), *rest]))
    told = leadtime("explain", str(file))

    assert "pause of everything changed by peer 10.0.0.9: null -> " in told.out
    assert "\x1b" not in told.out
    assert leadtime("explain", str(file), "--at", str(START_S + 2)).code == 0
    assert leadtime("replay", str(file), "--strict").code == 0


# ---------------------------------------------------------------- how long it is kept


def test_files_go_by_their_age_and_a_new_one_begins_before_lines_are_old(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, max_age_s=8000.0)
    tick = b'{"kind":"tick"}\n'
    for at_s in range(0, 20_000, 500):
        if writer.due:
            writer.begin(float(at_s), b'{"kind":"checkpoint"}\n')
        writer.append(tick, float(at_s))
        os.utime(journal_files(tmp_path)[-1], (at_s, at_s))
    oldest = min(file.stat().st_mtime for file in journal_files(tmp_path))

    assert len(journal_files(tmp_path)) > 4
    assert oldest >= 20_000 - 8000 - 2 * 1000
    assert all(sum(1 for _ in read_journal(file)) <= 4 for file in journal_files(tmp_path))


# ---------------------------------------------------------------- out of the pod


async def test_every_record_leaves_as_one_json_line_and_the_memory_does_not(tmp_path: Path) -> None:
    shell, out = Shell(tmp_path), io.BytesIO()
    shell.runtime._audit = audit = Audit(shell.clock.now_s)
    shell.runtime._stream = stream = JournalStream(out)
    audit.note("settings", "f", {}, None, None)
    await shell.ticks(2)
    stream.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    assert [line["kind"] for line in lines] == ["checkpoint", "audit", "tick", "tick"]
    assert lines[0]["state"] is None
    assert lines[1:] == shell.recorded()[1:]


def test_a_reader_that_stands_still_holds_nothing_up_and_is_told() -> None:
    goes_on = threading.Event()

    class Still(io.BytesIO):
        def write(self, data: Any) -> int:
            goes_on.wait(60)
            return super().write(data)

    out = Still()
    stream = JournalStream(out, lines=2)
    for _ in range(10):
        stream.put(b"{}\n")
    assert stream.left_out >= 7
    assert "stands still" in stream.problem
    goes_on.set()
    stream.close()


def test_a_reader_that_is_gone_is_told_once_and_raises_nothing() -> None:
    class Gone(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError("broken pipe")

    stream = JournalStream(Gone())
    stream.put(b"{}\n")
    stream.close()
    stream.put(b"{}\n")

    assert stream.problem == "journal.stdout: broken pipe: nothing is written there any more"
