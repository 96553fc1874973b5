"""Tokens and passwords in files: no name leads to another file, and what was read is blanked in every output."""

from __future__ import annotations

import stat
from pathlib import Path

from autoscaler.common.errors import ConfigError
from autoscaler.common.redaction import remember

_LONGEST_TOKEN = 8 * 1024


def read_secret(file: Path, folder: Path | None = None) -> str:
    """The one line that a token file holds. Errors: ConfigError naming the file, never its content.

    `folder`: the part of the path below it comes from a tenant; links inside of it are followed only as Kubernetes
    makes them (`..data`), so that no name leads to another name's file.
    """
    try:
        if folder is not None and not _is_own(file, folder):
            raise ConfigError(f"token_file {file}: it leads to another place; allowed: a file of a mounted Secret")
        if not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():  # reading a pipe would stop every tick
            raise ConfigError(f"token_file {file}: a pipe or device; allowed: a file")
        if file.stat().st_size > _LONGEST_TOKEN:
            raise ConfigError(f"token_file {file}: longer than {_LONGEST_TOKEN} bytes; allowed: one line with a token")
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token_file {file}: {problem(error)}") from None
    if not token or not token.isascii() or any(not character.isprintable() for character in token):
        raise ConfigError(f"token_file {file}: expected one line with a token")
    remember(token)
    return token


def _is_own(file: Path, folder: Path) -> bool:
    """Whether `file`, all links followed, is still the one under `folder` that its name says. Errors: OSError."""
    root = folder.resolve(strict=True)
    real = file.resolve(strict=True)
    if not real.is_relative_to(root):
        return False
    kept = [part for part in real.relative_to(root).parts if not part.startswith("..")]
    return kept == list(file.relative_to(folder).parts)


def problem(error: Exception) -> str:
    """What went wrong with a file, without repeating its name or content."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
