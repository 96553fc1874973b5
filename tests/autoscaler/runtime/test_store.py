"""What survives a restart, and what happens to a state file that is damaged, newer, locked or on a full disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.common.errors import StateError
from autoscaler.core.types import PauseState
from autoscaler.runtime.store import SCHEMA_VERSION, StateStore
from policies.base import DeploymentKey

KEY = DeploymentKey("prod", "east", "chat", "LLMServer:qwen")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "leadtime.sqlite"


def reopened(store: StateStore) -> StateStore:
    store.close()
    return StateStore(store.path)


def save(store: StateStore, value: bytes) -> None:
    """One row."""
    store.save_controller({"row": value}, {"row"})


def test_a_new_file_holds_nothing_and_pauses_nothing(path: Path) -> None:
    store = StateStore(path)
    assert (store.load_controller(), store.load_pause(), store.notice) == (None, PauseState(), "")


def test_state_and_pause_survive_a_restart(path: Path) -> None:
    store = StateStore(path)
    save(store, b"\x00first")
    save(store, b"\x00second")
    store.save_pause(PauseState(True, frozenset({KEY})))
    again = reopened(store)
    assert again.load_controller() == {"row": b"\x00second"}
    assert again.load_pause() == PauseState(True, frozenset({KEY}))


def test_rows_that_an_editor_wrote_as_text_are_read(path: Path) -> None:
    store = StateStore(path)
    save(store, b"{}")
    store.close()
    with sqlite3.connect(path) as editor:
        editor.execute("UPDATE saved SET value = '{\"a\": 1}'")
        editor.execute("INSERT INTO saved VALUES ('controller/none', ''), ('pause', '{\"everything\": true}')")
    editor.close()
    again = StateStore(path)
    assert again.load_controller() == {"row": b'{"a": 1}', "none": b""}
    assert again.load_pause() == PauseState(True)


def test_what_was_written_survives_a_kill(path: Path) -> None:
    store = StateStore(path)
    save(store, b"kept")
    copied = path.parent / "copy.sqlite"  # as the disk holds it while the writer still runs
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            copied.with_name(copied.name + suffix).write_bytes(source.read_bytes())
    assert StateStore(copied).load_controller() == {"row": b"kept"}
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this was never a database, whatever its name says" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8000),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096 + path.read_bytes()[8192:]),
    ],
    ids=["not a database", "overwritten", "cut off", "one page overwritten"],
)
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path, damage: Callable[[Path], object]) -> None:
    store = StateStore(path)
    save(store, b"x" * 50_000)
    store.close()
    damage(path)
    damaged = path.read_bytes()
    again = StateStore(path)
    assert again.load_controller() is None
    assert "damaged" in again.notice
    assert "leadtime.sqlite.damaged-1" in again.notice
    assert "\n" not in again.notice
    assert (path.parent / "leadtime.sqlite.damaged-1").read_bytes() == damaged
    save(again, b"new")
    assert reopened(again).load_controller() == {"row": b"new"}


def test_a_second_damaged_file_does_not_replace_the_first(path: Path) -> None:
    path.parent.mkdir()
    for number in (1, 2):
        path.write_bytes(b"no database %d" % number * 100)
        StateStore(path).close()
    assert len(list(path.parent.glob("*.damaged-*"))) == 2


def test_a_file_of_a_newer_leadtime_is_set_aside_whole_and_a_new_one_is_begun(path: Path) -> None:
    first = StateStore(path)
    save(first, b"of the newer one")
    first.close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    store = StateStore(path)
    assert "newer than this leadtime's" in store.notice
    assert store.load_controller() is None
    store.close()
    aside = path.with_name(f"{path.name}.newer-1")
    with sqlite3.connect(aside) as kept:
        assert kept.execute("SELECT value FROM saved").fetchall() == [(b"of the newer one",)]


def test_a_second_writer_is_refused(path: Path) -> None:
    store = StateStore(path)
    with pytest.raises(StateError, match="in use by another leadtime"):
        StateStore(path)
    save(store, b"still ours")
    assert reopened(store).load_controller() == {"row": b"still ours"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError) as caught:
        StateStore(tmp_path / "file" / "leadtime.sqlite")
    assert str(tmp_path / "file" / "leadtime.sqlite") in str(caught.value)
    with pytest.raises(StateError):
        StateStore(tmp_path)  # a folder


def test_a_full_disk_is_an_error_and_keeps_what_was_saved(path: Path) -> None:
    store = StateStore(path)
    save(store, b"small")
    store._connection.execute("PRAGMA max_page_count = 10")  # SQLite's own way to say that the disk is full
    with pytest.raises(StateError, match="full"):
        save(store, b"x" * 1_000_000)
    assert store.load_controller() == {"row": b"small"}


def test_a_pause_that_cannot_be_read_is_an_error_and_not_no_pause(path: Path) -> None:
    store = StateStore(path)
    store._save("pause", b'{"deployments": ["no/key/at"]}')
    with pytest.raises(StateError, match="pause"):
        store.load_pause()


names = st.text(st.characters(blacklist_characters="/", blacklist_categories=("Cs",)), min_size=1, max_size=10)


@given(st.booleans(), st.frozensets(st.builds(DeploymentKey, names, names, names, names), max_size=4))
def test_any_pause_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, everything: bool, keys: frozenset[DeploymentKey]
) -> None:
    store = StateStore(tmp_path_factory.mktemp("state") / "s.sqlite")
    store.save_pause(PauseState(everything, keys))
    assert reopened(store).load_pause() == PauseState(everything, keys)
