"""`leadtime replay` steps today's code through what was recorded, and shows what came out differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoscaler.core import journal as journal_records
from tests.cli.helpers import Ran, leadtime
from tests.cli.journals import CONFIG, records, write_journal

OTHER = """\
version: 1
services: [{dashboard: "http://127.0.0.1:8265"}]
deployments: [{match: chat/llm, replicas: {max: 2}}]
policy: {name: static, options: {replicas: 3}}
"""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return write_journal(tmp_path / "journal.jsonl", [1] * 4 + [3] * 6, paused=[7])


def test_todays_code_decides_as_recorded_with_the_settings_of_the_checkpoint(journal: Path) -> None:
    ran = leadtime("replay", str(journal), "--strict")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"{journal}: 10 ticks, recorded by 0.1.0, replayed by 0.1.0, the recorded settings",
        "all 10 ticks come out as recorded",
    ]


def test_a_checkpoint_gives_the_settings_back() -> None:
    record = json.loads(records([])[0])
    assert journal_records.decode_settings(record) == CONFIG


def test_other_settings_show_what_they_would_have_done(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER, encoding="utf-8")
    ran = leadtime("replay", str(journal), "--config", str(tmp_path / "other.yaml"))
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].endswith("other settings")
    assert lines[1].startswith("tick 1, 2026-09-21T14:13:20Z, chat/llm: recorded 3, today 2: 1 → 2: replicas.max is 2;")
    # A settings file is for a live cluster, where every guard holds: a lower maximum is gone to in one write.
    assert "3 → 2: the level was 3, above the most it may be (2)" in ran.out
    assert lines[-1] == "9 of 10 ticks differ: 9 in a decision, 0 only in figures or reasons"


def test_strict_fails_when_anything_differs(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER, encoding="utf-8")
    assert leadtime("replay", str(journal), "--config", str(tmp_path / "other.yaml"), "--strict").code == 1


def edited(path: Path, tick: int, **changes: Any) -> Ran:
    """Strict replay as JSON after changing one recorded tick."""
    lines = path.read_bytes().splitlines()
    record = json.loads(lines[tick]) | changes
    lines[tick] = json.dumps(record).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    return leadtime("replay", str(path), "--strict", "--json")


def test_a_recorded_decision_that_is_not_todays_is_found(journal: Path) -> None:
    plan = json.loads(journal.read_bytes().splitlines()[2])["plan"]
    ran = edited(journal, 2, plan={**plan, "deployments": {"chat/llm": 5}})
    report = json.loads(ran.out)
    assert (ran.code, ran.err) == (1, "")
    assert (report["version"], report["ticks"], report["differing_ticks"], report["differing_decisions"]) == (
        1,
        10,
        1,
        1,
    )
    assert report["differences"] == [
        {
            "tick": 2,
            "now_s": 1_790_000_005.0,
            "where": f"{journal}: line 3",
            "path": "plan.deployments.chat/llm",
            "recorded": 5,
            "today": 3,
        }
    ]


def test_a_figure_that_is_not_todays_is_found_and_is_no_decision(journal: Path) -> None:
    report = json.loads(edited(journal, 2, learned=["something"]).out)
    assert (report["differing_ticks"], report["differing_decisions"]) == (1, 0)
    assert report["differences"][0]["path"] == "learned"


def test_wall_time_and_what_was_applied_do_not_count(journal: Path) -> None:
    assert edited(journal, 2, wall={"step_s": 9.9}, applied={}).code == 0


def test_a_journal_goes_on_in_the_next_file_of_its_folder(tmp_path: Path) -> None:
    write_journal(tmp_path / "journal-1.jsonl", [1, 1, 3])
    write_journal(tmp_path / "journal-2.jsonl", [3, 3])
    ran = leadtime("replay", str(tmp_path), "--strict")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "all 5 ticks come out as recorded")


def test_settings_of_another_machine_can_be_replayed(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER + "server: {token_file: /nowhere/token}\n", encoding="utf-8")
    assert leadtime("replay", str(journal), "--config", str(tmp_path / "other.yaml")).code == 0


SCENARIO = """\
version: 1
name: small
deployments:
  - {name: chat/llm, profile: llama-3.1-8b/h100/tp1, node_pool: h100, replicas: {max: 4}, workload: {rates: r.csv}}
node_pools: [{name: h100, nodes: {max: 4}}]
"""


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (SCENARIO.encode(), "line 1: not JSON"),
        (b"\x1f\x8b\x08\x00\nrest\n", "line 1: not JSON"),
        (b'{"version": 1,\n "scenario": "small"}\n', "line 1: not JSON"),
        (b'{"version": 1, "runs": []}\n', "line 1: kind None; allowed: checkpoint, tick, audit"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "explain"])
def test_a_file_that_is_no_journal_is_told_what_one_is(
    tmp_path: Path, command: str, content: bytes, wrong: str
) -> None:
    path = tmp_path / "something"
    path.write_bytes(content)
    ran = leadtime(command, str(path))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"{path}: no journal ({wrong}); allowed: the JSON Lines that a controller writes")
    assert ran.err.count("\n") == 1


def test_a_scenario_in_the_place_of_settings_is_told(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO, encoding="utf-8")
    for words in (("replay", str(journal), "--config"), ("config", "validate")):
        ran = leadtime(*words, str(tmp_path / "small.yaml"))
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"{tmp_path / 'small.yaml'}: a scenario, not the controller's settings; allowed: ")
        assert ran.err.count("\n") == 1


def broken_lines(which: str) -> list[bytes]:
    lines = records([1])
    checkpoint, tick = json.loads(lines[0]), json.loads(lines[1])
    match which:
        case "no checkpoint":
            return lines[1:]
        case "other version":
            checkpoint["version"] = 99
        case "no settings":
            del checkpoint["settings"]
        case "bad state":
            checkpoint["state"] = "!!"
        case "bad tick":
            tick["signals"]["chat/llm"]["inventory"] = 5
        case "no ticks":
            return lines[:1]
    return [json.dumps(checkpoint).encode() + b"\n", json.dumps(tick).encode() + b"\n"]


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("no checkpoint", "{path}: line 1: 'tick' here; a file begins with a checkpoint"),
        (
            "other version",
            "{path}: line 1: a journal begins with a checkpoint of version 1; found kind 'checkpoint', version 99",
        ),
        ("no settings", "{path}: line 1: the checkpoint holds no settings; give them with --config FILE"),
        ("bad state", "{path}: line 1: checkpoint: state cannot be decoded: "),
        ("bad tick", "{path}: line 2: tick 1: inputs cannot be decoded: "),
        ("no ticks", "{path}: no ticks in it"),
    ],
)
def test_a_journal_that_cannot_be_replayed_is_named_with_its_line(tmp_path: Path, which: str, says: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b"".join(broken_lines(which)))
    ran = leadtime("replay", str(path))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(says.format(path=path))
    assert ran.err.count("\n") == 1


# ---------------------------------------------------------------- what a journal may not do


def journal_naming(policy: str, path: Path) -> Path:
    """A good journal whose checkpoint names another policy."""
    lines = records([1, 1, 3])
    checkpoint = json.loads(lines[0])
    checkpoint["settings"] |= {"policy_name": policy, "policy_options": {}}
    path.write_bytes(json.dumps(checkpoint).encode() + b"\n" + b"".join(lines[1:]))
    return path


def test_a_journal_runs_no_code_that_it_names(tmp_path: Path) -> None:
    ran_file = tmp_path / "it ran"
    code = tmp_path / "evil.py"
    code.write_text(f"from pathlib import Path\nPath({str(ran_file)!r}).touch()\nclass Evil: pass\n", encoding="utf-8")
    path = journal_naming(f"{code}:Evil", tmp_path / "journal.jsonl")
    ran = leadtime("replay", str(path))
    assert (ran.code, ran_file.exists()) == (2, False)
    assert ran.err.strip() == (
        f"{path}: line 1: the journal names the policy '{code}:Evil', which is not leadtime's own, so its code was not "
        "run; allowed: --trust-policy, if you trust that file or package, or --config FILE with your own"
    )
    leadtime("explain", str(path))
    assert not ran_file.exists()


def test_a_journal_imports_no_package_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policies import registry

    def loads(group: str) -> None:
        raise AssertionError("entry points were looked at")

    monkeypatch.setattr(registry, "entry_points", loads)
    ran = leadtime("replay", str(journal_naming("somebody_elses", tmp_path / "journal.jsonl")))
    assert (ran.code, "names the policy 'somebody_elses'" in ran.err) == (2, True)


def test_a_policy_by_file_is_run_when_it_is_trusted(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "from policies.base import FleetProposal\nfrom policies.plugin import PolicyPlugin\n\n"
        "class Mine(PolicyPlugin):\n    name = 'mine'\n\n    def new_state(self):\n        return None\n\n"
        "    def propose(self, fleet, state, now_s):\n        return FleetProposal({})\n",
        encoding="utf-8",
    )
    path = journal_naming(f"{code}:Mine", tmp_path / "journal.jsonl")
    ran = leadtime("replay", str(path), "--trust-policy")
    assert ran.code == 0, ran.err
    assert "3 ticks" in ran.out


def test_a_hostile_name_in_a_journal_is_printed_escaped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(records([1, 1, 3])).replace(b"chat/llm", rb"chat/\u001b[2J\u202ellm"))
    for words in (["explain", str(path)], ["explain", str(path), "--at", "1790000010"], ["replay", str(path)]):
        ran = leadtime(*words)
        assert (ran.code, "\x1b" in ran.out, "\u202e" in ran.out) == (0, False, False), ran
    assert "chat/\\x1b[2J\\u202ellm" in leadtime("explain", str(path)).out
    ran = leadtime("explain", str(path), "--deployment", "no\x1b[2Jone")
    assert (ran.code, "\x1b" in ran.err) == (2, False)
