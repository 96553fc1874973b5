"""Files for us alone, results where others write too, packed files of others."""

from __future__ import annotations

import gzip
import os
import sqlite3
import stat
import tracemalloc
from pathlib import Path

import pytest

from autoscaler.common.errors import InputError, TraceError
from autoscaler.common.safe_files import ARCHIVE_LIMIT, archive_limit, create_output, read_maybe_packed, write_output
from autoscaler.runtime.journal_file import JournalWriter
from autoscaler.runtime.store import StateStore
from simulator.workload.traces import read_requests
from tests.cli.helpers import leadtime


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask() -> object:
    """The most open umask, so that a mode is what we asked for."""
    before = os.umask(0)
    yield
    os.umask(before)


# ---------------------------------------------------------------- state and journal


def test_the_state_file_and_its_companions_are_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "state.sqlite"
    store = StateStore(path)
    store.save_controller({"a": b"x"}, ("a",))
    aside = store.copy_aside()
    assert {file.name: oct(mode(file)) for file in path.parent.iterdir()} == {
        file.name: "0o600" for file in path.parent.iterdir()
    }
    assert {path.name, f"{path.name}-wal", aside.name} <= {file.name for file in path.parent.iterdir()}
    assert (mode(path.parent), mode(path.parent.parent)) == (0o700, 0o700)
    store.close()


def test_a_state_file_of_an_older_leadtime_is_closed_to_others_at_start(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    sqlite3.connect(path).close()
    old = [path, tmp_path / "state.sqlite.damaged-1", tmp_path / "state.sqlite.unreadable-2"]
    for file in old:
        file.touch()
        file.chmod(0o644)
    store = StateStore(path)
    assert [mode(file) for file in old] == [0o600] * 3
    assert store.notice == ""
    store.close()


def test_a_state_file_begun_anew_after_damage_is_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    store = StateStore(path)
    assert "damaged" in store.notice
    assert [mode(file) for file in sorted(tmp_path.glob("*"))] == [0o600] * len(list(tmp_path.glob("*")))
    store.close()


def test_a_mode_that_cannot_be_changed_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.sqlite"
    path.touch(0o644)

    def refused(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    store = StateStore(path)
    assert store.notice == f"{path}: others may read it, and its mode cannot be changed: operation not permitted"
    store.close()


def test_journal_files_are_for_us_alone_rotated_and_old_ones_too(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "journal"
    folder.mkdir(parents=True)
    old = folder / "journal-20200101T000000Z-001.jsonl"
    old.write_text("{}\n")
    old.chmod(0o664)
    writer = JournalWriter(folder)
    for tick in range(2):
        writer.begin(1_700_000_000.0 + tick, b'{"kind": "checkpoint"}\n')
        writer.append(b'{"kind": "tick"}\n')
    assert [mode(file) for file in folder.iterdir()] == [0o600] * 3
    fresh = tmp_path / "fresh" / "journal"
    JournalWriter(fresh).begin(1_700_000_000.0, b"{}\n")
    assert (mode(fresh), mode(fresh.parent)) == (0o700, 0o700)


def test_a_journal_is_not_written_through_a_link_that_was_laid_for_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "journal-partial").symlink_to(victim)
    writer = JournalWriter(folder)
    writer.begin(1_700_000_000.0, b"{}\n")
    assert (writer.problem, victim.read_text()) == ("", "mine")


# ---------------------------------------------------------------- results


SIMULATE = ("simulate", "preset:quickstart", "--set", "duration_s=60", "--policy", "static", "--out")


def test_results_are_not_written_through_a_link_in_the_folder(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "timeline.csv").symlink_to(victim)
    ran = leadtime(*SIMULATE, str(out))
    assert ran.code == 2
    assert ran.err.strip() == (
        f"{out / 'timeline.csv'}: is a symbolic link, which is not followed; allowed: a file, or nothing yet"
    )
    (out / "timeline.csv").unlink()
    (out / "timeline.csv.part").symlink_to(victim)
    assert leadtime(*SIMULATE, str(out)).code == 2
    assert victim.read_text() == "mine"


def test_a_folder_for_results_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there")
    ran = leadtime(*SIMULATE, str(tmp_path / "out"))
    assert (ran.code, ran.err.strip()) == (2, f"{tmp_path / 'out'}: is a symbolic link; allowed: the folder itself")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("command", ["fidelity", "forecast", "compare", "tune", "demo"])
def test_every_command_with_a_folder_for_results_refuses_a_link(tmp_path: Path, command: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there")
    (tmp_path / "rates.csv").write_text("timestamp_s,rps\n" + "".join(f"{60 * i},1\n" for i in range(2000)))
    (tmp_path / "requests.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,mean_itl_s,status\n0,100,10,0.1,0.5,0.04,ok\n"
    )
    words = {
        "fidelity": ["--profile", "llama-3.1-8b/h100/tp1", "--requests", str(tmp_path / "requests.csv")],
        "forecast": [str(tmp_path / "rates.csv"), "--forecaster", "last"],
        "compare": ["preset:quickstart", "--policies", "static"],
        "tune": ["preset:quickstart", "--policy", "static", "--trials", "1"],
        "demo": [],
    }[command]
    ran = leadtime(command, *words, "--out", str(tmp_path / "out"))
    assert (ran.code, "is a symbolic link" in ran.err) == (2, True), ran
    assert list((tmp_path / "there").iterdir()) == []


def test_a_file_of_results_replaces_and_never_writes_through(tmp_path: Path) -> None:
    kept, name = tmp_path / "kept", tmp_path / "name"
    kept.write_text("mine")
    os.link(kept, name)  # a second name of the same file
    write_output(name, "ours")
    assert (kept.read_text(), name.read_text()) == ("mine", "ours")
    name.unlink()
    name.symlink_to(kept)
    with pytest.raises(InputError, match="is a symbolic link"):
        create_output(name)
    write_output(Path(os.devnull), "a device stays one")
    assert Path(os.devnull).is_char_device()


def test_a_name_like_a_formula_is_text_in_every_csv(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        """\
version: 1
name: formula
duration_s: 60
deployments:
  - name: "=cmd|' C calc'!A0/llm"
    profile: llama-3.1-8b/h100/tp1
    node_pools: [h100]
    replicas: {min: 1, max: 1, initial: 1}
    slo: {ttft_s: 2.0, itl_s: 0.05, target_fraction: 0.9}
    workload: {synthetic: {bin_s: 60, duration_s: 60, base_rps: 2}, prompt_tokens: {median: 100, p99: 200},
               output_tokens: {median: 10, p99: 20}}
node_pools:
  - {name: h100, gpus_per_node: 8, nodes: {min: 1, max: 1, initial: 1}}
""",
        encoding="utf-8",
    )
    ran = leadtime("simulate", str(scenario), "--policy", "static", "--out", str(tmp_path / "out"), "--requests")
    assert ran.code == 0, ran.err
    timeline = (tmp_path / "out" / "timeline.csv").read_text().splitlines()
    requests = gzip.decompress((tmp_path / "out" / "requests.csv.gz").read_bytes()).decode().splitlines()
    assert timeline[1].split(",")[1] == "'=cmd|' C calc'!A0/llm"
    assert requests[1].split(",")[1] == "'=cmd|' C calc'!A0/llm"
    assert float(timeline[1].split(",")[0]) >= 0  # a number stays one


# ---------------------------------------------------------------- packed files


def bomb(path: Path, megabytes: int) -> Path:
    """A .gz a thousandth of what it becomes."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"timestamp_s,prompt_tokens,output_tokens\n")
        for _ in range(megabytes):
            file.write(b"0" * (1 << 20))
    return path


def test_a_packed_trace_is_read_up_to_a_limit_that_the_error_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bomb(tmp_path / "t.csv.gz", 200)
    monkeypatch.setenv(ARCHIVE_LIMIT, "3000000")
    tracemalloc.start()
    with pytest.raises(TraceError) as refused:
        read_requests(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(refused.value) == (
        f"{path}: unpacks to more than 3000000 bytes; allowed: at most that, or more with "
        "LEADTIME_MAX_ARCHIVE_BYTES=BYTES in the environment"
    )
    assert most < 12e6


@pytest.mark.parametrize("words", [("trace", "convert", "--format", "azure"), ("trace", "describe")])
def test_every_reader_of_packed_files_keeps_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    path = bomb(tmp_path / "t.csv.gz", 4)
    monkeypatch.setenv(ARCHIVE_LIMIT, "1000000")
    ran = leadtime(*words, str(path), *([str(tmp_path / "out.csv")] if "convert" in words else []))
    assert (ran.code, "unpacks to more than 1000000 bytes" in ran.err) == (2, True), ran


def test_what_fits_is_read_whole_and_plain_files_have_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"timestamp_s,prompt_tokens,output_tokens\n" + b"1,2,3\n" * 1000
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "t.csv").write_bytes(text)
    monkeypatch.setenv(ARCHIVE_LIMIT, str(len(text)))
    assert read_maybe_packed(tmp_path / "t.csv.gz") == text
    monkeypatch.setenv(ARCHIVE_LIMIT, "1")
    assert read_maybe_packed(tmp_path / "t.csv") == text


@pytest.mark.parametrize("wrong", ["0", "2GB", "-1", "1e9"])
def test_a_limit_that_is_no_number_of_bytes_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ARCHIVE_LIMIT, wrong)
    with pytest.raises(InputError, match=f"LEADTIME_MAX_ARCHIVE_BYTES: '{wrong}'; allowed: a whole number of bytes"):
        archive_limit()
