"""`leadtime explain` says what a journal's decisions were, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.helpers import leadtime
from tests.cli.journals import records, write_journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """One replica for four ticks, three after; paused in the eighth."""
    return write_journal(tmp_path / "journal.jsonl", [1] * 4 + [3] * 6, paused=[7])


def test_only_changes_are_told_each_in_one_sentence(journal: Path) -> None:
    ran = leadtime("explain", str(journal))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "2026-09-21T14:13:20Z  chat/llm: 1 → 3: 3 replicas, always (dry run: not applied)",
        "2026-09-21T14:13:55Z  chat/llm: left alone: paused by a person",
        "2026-09-21T14:14:00Z  chat/llm: stays at 3: 3 replicas, always",
        "3 changes in 10 decisions; --all shows them all, --at T tells everything of a moment",
    ]


def test_a_node_that_was_taken_away_is_told_where_it_happened(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    gone = "node spot-3 of pool spot was taken away with replicas on it"
    tick = {**json.loads(lines[3]), "learned": ["chat/llm: a replica was RUNNING 23.0 s after it was asked for", gone]}
    journal.write_bytes(b"".join([*lines[:3], json.dumps(tick).encode() + b"\n", *lines[4:]]))
    assert leadtime("explain", str(journal)).out.splitlines()[1] == f"2026-09-21T14:13:30Z  {gone}"
    assert gone not in leadtime("explain", str(journal), "--deployment", "chat/llm").out


def test_every_tick_can_be_told(journal: Path) -> None:
    assert len(leadtime("explain", str(journal), "--all").out.splitlines()) == 10


def test_a_moment_is_told_with_what_was_seen_argued_guarded_and_written(journal: Path) -> None:
    ran = leadtime("explain", str(journal), "--at", "2026-09-21T14:13:57Z")
    assert ran.code == 0
    assert ran.out.startswith("tick 8 at 2026-09-21T14:13:55Z\n")
    for part in (
        "chat/llm: left alone: paused by a person",
        "seen:       2 requests/s of ? + ? tokens; 2 waiting, 3 ongoing",
        "argument:   static wants 3: 3 replicas, always",
        "guard:      paused: 3 → left alone: paused by a person",
        "written:    withheld: dry run",
    ):
        assert part in ran.out


def test_a_time_without_a_zone_and_seconds_mean_the_same(journal: Path) -> None:
    by_name = leadtime("explain", str(journal), "--at", "2026-09-21T14:13:57").out
    assert leadtime("explain", str(journal), "--at", "1790000037").out == by_name


def test_a_deployment_can_be_chosen_by_key_or_pattern(journal: Path) -> None:
    everything = leadtime("explain", str(journal)).out
    assert leadtime("explain", str(journal), "--deployment", "chat/llm").out == everything
    assert leadtime("explain", str(journal), "--deployment", "chat/*").out == everything


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--deployment", "chat/lm"), "--deployment: 'chat/lm'; allowed: chat/llm; did you mean 'chat/llm'?"),
        (("--at", "5"), "--at: 5; {journal}: its first decision is at 2026-09-21T14:13:20Z"),
        (
            ("--at", "noon"),
            "--at: 'noon'; allowed: seconds (since 1970, or since a scenario's start) or a time like "
            "2026-01-31T12:00:05Z",
        ),
    ],
)
def test_what_is_not_in_the_journal_is_bad_input(journal: Path, words: tuple[str, ...], says: str) -> None:
    ran = leadtime("explain", str(journal), *words)
    assert (ran.code, ran.out, ran.err) == (2, "", says.format(journal=journal) + "\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "{path}: empty; a journal begins with a checkpoint"),
        (b"hello\n", "{path}: no journal (line 1: not JSON); allowed: the JSON Lines that"),
        (b"[1]\n", "{path}: no journal (line 1: kind None; allowed: checkpoint, tick, audit); allowed: the JSON Lines"),
        (
            b'{"kind": "checkpoint", "version": 2, "code_version": "9.1"}\n{"kind": "tick", "news": 1}\n',
            "{path}: a journal of version 2 (written by leadtime 9.1); this leadtime reads version 1: use the leadtime",
        ),
        (b'{"kind": "checkpoint"}\n', "{path}: a journal of version None; this leadtime reads version 1"),
        (
            b'{"kind": "checkpoint", "version": 1}\n{"kind": "tick"}\n',
            "{path}: a tick has another shape than this version writes: KeyError('plan')",
        ),
    ],
)
def test_what_is_no_journal_is_bad_input(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(content)
    ran = leadtime("explain", str(path))
    assert ran.code == 2
    assert ran.err.startswith(says.format(path=path))
    assert ran.err.count("\n") == 1


def test_a_journal_without_a_deployment_says_where_to_look(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(records([])[0])
    assert leadtime("explain", str(path)).out == (
        "0 ticks, and no deployment in any of them; --at T tells which sources were down\n"
    )


def test_a_missing_journal_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    assert leadtime("explain", "none").err == "none: no such file or directory\n"
    said = leadtime("explain", str(tmp_path)).err
    assert said.startswith(f"{tmp_path}: no journal files (journal-*.jsonl) in that folder; allowed: the JSON Lines")


def test_a_line_that_a_killed_writer_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    lines = records([1, 1, 3])
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:50])
    assert "in 2 decisions" in leadtime("explain", str(path)).out
