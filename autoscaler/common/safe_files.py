"""Files that only we may read, files that are put into a folder of somebody's choice, and packed files of others.

- State and journal hold names and traffic of every tenant: mode 0600, in folders of mode 0700 where we make them.
- `--out DIR` may lie where others write too: no symbolic link there leads us to another file.
- A .gz of a few kilobytes can become gigabytes: it is read up to a limit.
"""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path
from typing import BinaryIO

from autoscaler.common.errors import InputError, TraceError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
ARCHIVE_LIMIT = "LEADTIME_MAX_ARCHIVE_BYTES"
"""The environment variable with the limit on what a packed file may become."""
MOST_ARCHIVE_BYTES = 2 << 30
_PIECE_BYTES = 1 << 20


# ---------------------------------------------------------------- for us alone


def make_private_folder(folder: Path) -> None:
    """The folder and the missing ones above it, for us alone; one that is there stays as it is. Errors: OSError."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_private_folder(folder.parent)
    folder.mkdir(PRIVATE_FOLDER, exist_ok=True)


def create_private(path: Path) -> BinaryIO:
    """A new empty file for us alone, unbuffered; whatever has its name goes. Errors: OSError."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE), "wb", 0)


def ensure_private(path: Path) -> str:
    """The file, made where it is missing, with nobody else's rights on it; why that cannot be ("" when it is so).

    Errors: OSError when it can neither be made nor opened.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
    return tighten(path)


def tighten(path: Path) -> str:
    """Take others' rights on a file that may have been made by an older leadtime; why that cannot be, or ""."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(PRIVATE_FILE)
    except FileNotFoundError:
        return ""
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return f"{path}: others may read it, and its mode cannot be changed: {reason}"
    return ""


# ---------------------------------------------------------------- where others may write too


def make_output_folder(folder: Path) -> None:
    """A folder to write results into. Errors: InputError when it is a symbolic link; OSError."""
    if folder.is_symlink():
        raise InputError(f"{folder}: is a symbolic link; allowed: the folder itself")
    folder.mkdir(parents=True, exist_ok=True)


def check_no_link(path: Path) -> None:
    """Errors: InputError where a file is to be written and a symbolic link lies."""
    if path.is_symlink():
        raise InputError(f"{path}: is a symbolic link, which is not followed; allowed: a file, or nothing yet")


def create_output(path: Path) -> BinaryIO:
    """A new file of results under this name: what has the name is replaced, never written through.

    A pipe or a device is written to as it is. Errors: InputError when a symbolic link has the name; OSError.
    """
    check_no_link(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_NOFOLLOW), "wb")
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb")


def write_output(path: Path, data: str | bytes) -> None:
    """As `create_output`, with this content (text as UTF-8)."""
    with create_output(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


# ---------------------------------------------------------------- packed


def read_maybe_packed(path: Path) -> bytes:
    """The file's bytes, unpacked where it is a .gz by its name or its first bytes.

    Errors: TraceError when it becomes longer than the limit; OSError, EOFError, zlib.error as gzip's.
    """
    with path.open("rb") as file:
        packed = path.suffix == ".gz" or file.read(2) == b"\x1f\x8b"
        file.seek(0)
        return _unpacked(path, file) if packed else file.read()


def _unpacked(path: Path, file: BinaryIO) -> bytes:
    most = archive_limit()
    pieces, size = [], 0
    with gzip.GzipFile(fileobj=file) as unpacked:
        while piece := unpacked.read(_PIECE_BYTES):
            size += len(piece)
            if size > most:
                raise TraceError(
                    f"{path}: unpacks to more than {most} bytes; allowed: at most that, or more with "
                    f"{ARCHIVE_LIMIT}=BYTES in the environment"
                )
            pieces.append(piece)
    return b"".join(pieces)


def archive_limit() -> int:
    """How many bytes a packed file may become. Errors: InputError when the variable is no such number."""
    text = os.environ.get(ARCHIVE_LIMIT, "")
    if not text:
        return MOST_ARCHIVE_BYTES
    if not text.isascii() or not text.isdigit() or not int(text[:18]):
        raise InputError(f"{ARCHIVE_LIMIT}: {text!r}; allowed: a whole number of bytes > 0")
    return int(text[:18])
