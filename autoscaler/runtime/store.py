"""What survives a restart of the controller: its state and the kill switch, in one SQLite file with one writer.

A file that is damaged, or of a newer leadtime (a release was rolled back), is set aside under another name and a new
one is begun, since a controller that does not start helps nobody. Not for history: that is the journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Collection, Mapping
from glob import escape as glob_escape
from pathlib import Path

import msgspec

from autoscaler.common.errors import StateError
from autoscaler.common.safe_files import create_private, ensure_private, make_private_folder, tighten
from autoscaler.core.types import PauseState
from policies.base import DeploymentKey, PolicyError

SCHEMA_VERSION = 2
"""1: the controller's state in one row; 2: in many."""
_ROWS, _LEGACY, _PAUSE, _CLUSTER_SWITCH = "controller/", "controller", "pause", "cluster switch"
_SETTINGS = "settings"
_HEARD_PAUSED = "heard paused"


class _SavedPause(msgspec.Struct):
    everything: bool = False
    deployments: list[str] = []


class _NewerError(Exception):
    """The file is of a newer leadtime."""


class StateStore:
    """Opened at once; safe to call from any thread. `notice` says what was odd about the file, if anything was."""

    def __init__(self, path: Path) -> None:
        """Errors: StateError when the file cannot be used: in use, or not writable."""
        self.path = path
        self.notice = ""
        self._lock = threading.Lock()
        self._written: dict[str, bytes] = {}
        """Digests of the controller's rows as they are in the file."""
        try:
            make_private_folder(path.parent)
            self.notice = self._made_private()
            self._connection = self._open()
        except OSError as error:
            raise StateError(f"state file {path}: {(error.strerror or type(error).__name__).lower()}") from None

    def load_controller(self) -> dict[str, bytes] | None:
        """The rows of the controller's state as they were saved; None when there are none yet. Errors: StateError.

        What an older leadtime saved in one piece has the name "".
        """
        rows = {name.removeprefix(_ROWS): value for name, value in self._rows() if name.startswith(_ROWS)}
        if not rows:
            legacy = self._load(_LEGACY)
            return None if legacy is None else {"": legacy}
        self._written = {name: _digest(value) for name, value in rows.items()}
        return rows

    def changed(self, rows: Mapping[str, bytes]) -> list[str]:
        """Names of the rows that differ from what is in the file."""
        return [name for name, value in rows.items() if self._written.get(name) != _digest(value)]

    def save_controller(self, rows: Mapping[str, bytes], names: Collection[str]) -> None:
        """Write those rows that differ from what is there, drop rows whose name is not among `names`; all or nothing.

        Errors: StateError (a full disk, say); what was saved before stays.
        """
        digests = {name: _digest(value) for name, value in rows.items()}
        changed = [(_ROWS + name, rows[name]) for name, digest in digests.items() if self._written.get(name) != digest]
        gone = [name for name in self._written if name not in names]
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    self._connection.executemany("INSERT OR REPLACE INTO saved (name, value) VALUES (?, ?)", changed)
                    self._connection.executemany("DELETE FROM saved WHERE name = ?", [(_ROWS + n,) for n in gone])
                    self._connection.execute("DELETE FROM saved WHERE name = ?", (_LEGACY,))
                    self._connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise StateError(f"state file {self.path} cannot be written: {error}") from None
        self._written.update(digests)
        for name in gone:
            del self._written[name]

    def copy_aside(self) -> Path:
        """A copy of the file as it is, before something else is written to it. Errors: StateError."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.unreadable-{number}")).exists():
            number += 1
        try:
            create_private(aside).close()
            with self._lock, contextlib.closing(sqlite3.connect(aside)) as copy:
                self._connection.backup(copy)
        except (sqlite3.Error, OSError) as error:
            aside.unlink(missing_ok=True)
            raise StateError(f"state file {self.path} cannot be copied to {aside.name}: {error}") from None
        return aside

    def load_pause(self) -> PauseState:
        """Errors: StateError when it cannot be read: the caller must then treat everything as paused."""
        raw = self._load(_PAUSE)
        try:
            saved = msgspec.json.decode(raw, type=_SavedPause) if raw else _SavedPause()
            return PauseState(saved.everything, frozenset(DeploymentKey.parse(key) for key in saved.deployments))
        except (msgspec.MsgspecError, PolicyError) as error:
            raise StateError(f"state file {self.path}: the saved pause cannot be read: {error}") from None

    def save_pause(self, pause: PauseState) -> None:
        """Errors: StateError."""
        keys = sorted(key.full for key in pause.deployments)
        self._save(_PAUSE, msgspec.json.encode(_SavedPause(pause.everything, keys)))

    def load_cluster_switch(self) -> tuple[bool, tuple[str, ...]] | None:
        """The cluster's kill switch as it was last read: (everything, patterns). Errors: StateError."""
        raw = self._load(_CLUSTER_SWITCH)
        if raw is None:
            return None
        try:
            saved = msgspec.json.decode(raw, type=_SavedPause)
        except msgspec.MsgspecError as error:
            raise StateError(f"state file {self.path}: the saved switch cannot be read: {error}") from None
        return saved.everything, tuple(saved.deployments)

    def save_cluster_switch(self, everything: bool, patterns: tuple[str, ...]) -> None:
        """Errors: StateError."""
        self._save(_CLUSTER_SWITCH, msgspec.json.encode(_SavedPause(everything, list(patterns))))

    def load_heard_paused(self) -> frozenset[str] | None:
        """What a controller last said is paused, as a standby heard it; None: it heard none. Errors: StateError."""
        raw = self._load(_HEARD_PAUSED)
        if raw is None:
            return None
        try:
            return frozenset(msgspec.json.decode(raw, type=list[str]))
        except msgspec.MsgspecError as error:
            raise StateError(f"state file {self.path}: what was heard of pauses cannot be read: {error}") from None

    def save_heard_paused(self, keys: Collection[str]) -> None:
        """Errors: StateError."""
        self._save(_HEARD_PAUSED, msgspec.json.encode(sorted(keys)))

    def settings_since(self, sha256: str) -> str | None:
        """The digest of the settings of the last start, and from now on this one; None: there was none.

        Errors: StateError.
        """
        before = self._load(_SETTINGS)
        if before != sha256.encode():
            self._save(_SETTINGS, sha256.encode())
        return None if before is None else before.decode("ascii", "replace")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # ------------------------------------------------------------ SQLite

    def _open(self) -> sqlite3.Connection:
        try:
            return self._checked()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from None
        except _NewerError as error:
            return self._begun_anew("newer", str(error))
        except sqlite3.DatabaseError as error:
            return self._begun_anew("damaged", f"state file {self.path} is damaged ({error})")

    def _begun_anew(self, kind: str, why: str) -> sqlite3.Connection:
        """What cannot be used is kept under another name: a controller that does not start helps nobody."""
        aside = self._set_aside(kind)
        self.notice = "; ".join(filter(None, (f"{why}: set aside as {aside.name}, begun anew", self.notice)))
        ensure_private(self.path)
        try:
            return self._checked()
        except (sqlite3.Error, _NewerError) as second:
            raise self._unusable(second) from None

    def _made_private(self) -> str:
        """Nobody else may read it: not the file, which SQLite's companions take their mode from, nor old ones."""
        others = [self.path.with_name(self.path.name + suffix) for suffix in ("-wal", "-shm")]
        others += self.path.parent.glob(f"{glob_escape(self.path.name)}.*-*")
        return "; ".join(filter(None, (ensure_private(self.path), *map(tighten, others))))

    def _checked(self) -> sqlite3.Connection:
        """A connection that holds the write lock for good (one writer), on a schema of our version."""
        connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
            self._prepare_schema(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_schema(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise _NewerError(
                f"state file {self.path} has schema version {version}, newer than this leadtime's {SCHEMA_VERSION}"
            )
        connection.execute("CREATE TABLE IF NOT EXISTS saved (name TEXT PRIMARY KEY, value BLOB NOT NULL)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _set_aside(self, kind: str) -> Path:
        """Rename the file and SQLite's companions to the first free name."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{kind}-{number}")).exists():
            number += 1
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        return aside

    def _unusable(self, error: Exception) -> StateError:
        if "locked" in str(error):
            return StateError(f"state file {self.path} is in use by another leadtime: one controller, one state file")
        return StateError(f"state file {self.path} cannot be used: {error}")

    def _rows(self) -> list[tuple[str, bytes]]:
        try:
            with self._lock:
                return [(str(n), _blob(v)) for n, v in self._connection.execute("SELECT name, value FROM saved")]
        except sqlite3.Error as error:
            raise StateError(f"state file {self.path} cannot be read: {error}") from None

    def _load(self, name: str) -> bytes | None:
        try:
            with self._lock:
                row = self._connection.execute("SELECT value FROM saved WHERE name = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            raise StateError(f"state file {self.path} cannot be read: {error}") from None
        return None if row is None else _blob(row[0])

    def _save(self, name: str, value: bytes) -> None:
        try:
            with self._lock:
                self._connection.execute("INSERT OR REPLACE INTO saved (name, value) VALUES (?, ?)", (name, value))
        except sqlite3.Error as error:
            raise StateError(f"state file {self.path} cannot be written: {error}") from None


def _blob(value: object) -> bytes:
    """A column holds what it was given, whatever its type says: somebody's editor may have written text."""
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
