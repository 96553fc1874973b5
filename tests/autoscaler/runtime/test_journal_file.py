"""The journal on disk: bounded, replayable from each file's first line, and never in the controller's way."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.common.errors import JournalError
from autoscaler.runtime.journal_file import JournalWriter, journal_files, read_journal


def line(kind: str, number: int, padding: int = 0) -> bytes:
    return json.dumps({"kind": kind, "tick": number, "padding": "x" * padding}).encode() + b"\n"


def write(writer: JournalWriter, ticks: range, padding: int = 0, checkpoint: int = 0) -> None:
    for tick in ticks:
        if writer.due:
            writer.begin(1_700_000_000.0 + tick, line("checkpoint", tick, checkpoint))
        writer.append(line("tick", tick, padding))


def ticks_of(folder: Path) -> list[int]:
    return [record.data["tick"] for record in read_journal(folder) if record.data["kind"] == "tick"]


def test_a_file_begins_with_a_checkpoint_and_every_tick_is_on_disk_at_once(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "made" / "journal")
    write(writer, range(3))
    (file,) = journal_files(tmp_path / "made" / "journal")
    assert [json.loads(text)["kind"] for text in file.read_text().splitlines()] == [
        "checkpoint",
        "tick",
        "tick",
        "tick",
    ]
    assert writer.problem == ""


def test_it_rotates_before_it_grows_too_long_and_each_file_begins_with_a_checkpoint(tmp_path: Path) -> None:
    write(JournalWriter(tmp_path, max_bytes=80_000), range(50), padding=1000)
    files = journal_files(tmp_path)
    assert len(files) > 4
    for file in files:
        first, second, *_ = read_journal(file)
        assert (first.data["kind"], first.data["tick"]) == ("checkpoint", second.data["tick"])
    assert ticks_of(tmp_path) == list(range(50))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=60), st.integers(0, 20_000))
def test_the_folder_never_takes_more_than_it_may_and_the_newest_ticks_are_kept(
    tmp_path_factory: pytest.TempPathFactory, paddings: list[int], checkpoint: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    writer = JournalWriter(folder, max_bytes=100_000)
    for tick, padding in enumerate(paddings):
        write(writer, range(tick, tick + 1), padding, checkpoint)
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 100_000
        assert writer.problem == ""
    kept = ticks_of(folder)
    assert kept == list(range(len(paddings)))[-len(kept) :]


def test_a_restart_begins_a_new_file_and_counts_the_old_ones(tmp_path: Path) -> None:
    first = JournalWriter(tmp_path, max_bytes=20_000)
    write(first, range(4), padding=3000)
    first.close()
    second = JournalWriter(tmp_path, max_bytes=20_000)
    write(second, range(10, 14), padding=3000)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 20_000
    assert ticks_of(tmp_path)[-4:] == [10, 11, 12, 13]


def test_a_folder_that_cannot_be_made_is_one_clear_problem_and_no_exception(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = JournalWriter(tmp_path / "file" / "journal")
    write(writer, range(3))
    assert str(tmp_path / "file" / "journal") in writer.problem
    assert "go on without" in writer.problem
    assert "\n" not in writer.problem


def test_a_full_disk_leaves_whole_lines_and_a_new_file_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = False
    real = JournalWriter._write_all

    def write_all(self: JournalWriter, text: bytes) -> None:
        if full:
            assert self._file is not None
            self._file.write(text[: len(text) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, text)

    monkeypatch.setattr(JournalWriter, "_write_all", write_all)
    writer = JournalWriter(tmp_path)
    write(writer, range(2))
    full = True
    write(writer, range(2, 5))
    assert "no space left" in writer.problem
    assert [file.name for file in tmp_path.iterdir()] == [journal_files(tmp_path)[0].name]  # no half-written leftovers
    assert journal_files(tmp_path)[0].read_bytes().endswith(b"\n")
    full = False
    write(writer, range(5, 7))
    assert writer.problem == ""
    assert ticks_of(tmp_path) == [0, 1, 5, 6]
    assert len(journal_files(tmp_path)) == 2


def test_a_checkpoint_that_would_fill_the_folder_is_a_problem(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, max_bytes=1000)
    write(writer, range(1), checkpoint=5000)
    assert "max_bytes" in writer.problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.02, 0.2, 0.33])
def test_checkpoints_however_long_leave_room_for_ticks(tmp_path: Path, share: float) -> None:
    writer = JournalWriter(tmp_path, max_bytes=300_000)
    checkpoint = round(share * 300_000) - 100
    assert checkpoint < writer.checkpoint_bytes
    begun, kept = 0, []
    for tick in range(1000):
        begun += writer.due
        write(writer, range(tick, tick + 1), padding=1000, checkpoint=checkpoint)
        if writer.due:
            kept.append(len(ticks_of(tmp_path)))
    assert writer.problem == ""
    ticks_bytes = 1000 * 1000
    assert begun * checkpoint <= 2.2 * ticks_bytes
    assert min(kept[-5:]) * 1000 >= 0.15 * 300_000


def test_where_nothing_can_be_written_checkpoints_are_asked_for_more_and_more_rarely(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where a folder should be")
    writer = JournalWriter(tmp_path / "journal")
    asked = []
    for tick in range(400):
        if writer.due:
            asked.append(tick)
        write(writer, range(tick, tick + 1))
    assert asked[:4] == [0, 1, 3, 9]
    assert max(b - a for a, b in itertools.pairwise(asked)) <= 60
    (tmp_path / "journal").unlink()
    write(writer, range(400, 461))
    assert writer.problem == ""
    assert ticks_of(tmp_path / "journal")


def test_foreign_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 50_000)
    write(JournalWriter(tmp_path, max_bytes=10_000), range(30), padding=1000)
    assert (tmp_path / "notes.txt").exists()


def test_a_last_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "journal-a.jsonl"
    file.write_bytes(line("checkpoint", 0) + line("tick", 1) + line("tick", 2)[:-7])
    assert ticks_of(tmp_path) == [1]


CHECKPOINT = line("checkpoint", 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (line("tick", 1), "line 1: 'tick' here"),
        (CHECKPOINT[:-5], "line 1: cut off"),
        (CHECKPOINT + b"{nonsense\n", "line 2: not JSON"),
        (CHECKPOINT + b"\xff\xfe\n", "line 2: not JSON"),
        (CHECKPOINT + b"[" * 100_000 + b"\n", "line 2: not JSON"),
        (CHECKPOINT + b"[]\n", "line 2: kind None"),
        (CHECKPOINT + line("tock", 1), "line 2: kind 'tock'; allowed: checkpoint, tick, audit"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "journal-a.jsonl"
    file.write_bytes(content)
    with pytest.raises(JournalError) as caught:
        list(read_journal(file))
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_checkpoint_in_the_middle_is_a_controller_that_restarted(tmp_path: Path) -> None:
    file = tmp_path / "journal-a.jsonl"
    file.write_bytes(CHECKPOINT + line("tick", 1) + CHECKPOINT + line("tick", 2))
    assert [r.data["kind"] for r in read_journal(file)] == ["checkpoint", "tick", "checkpoint", "tick"]


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_missing_journal_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(JournalError, match=str(tmp_path)):
        list(read_journal(tmp_path / name))


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "journal-a.jsonl"
    file.write_bytes(CHECKPOINT + content)
    found: list[Any] = []
    try:
        found += read_journal(file)
    except JournalError as error:
        found.append(str(error))
    assert found
