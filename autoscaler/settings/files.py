"""The files that the settings name: which they are, and whether they can be used on this machine. Shows paths only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from autoscaler.settings.document.problems import Problem, shown
from autoscaler.settings.document.reading import Loc, SettingsFile
from autoscaler.settings.paths import absolute_path, unset_variable
from autoscaler.settings.settings import Settings


def _paths(settings: Settings) -> Iterator[tuple[Loc, str]]:
    for i, s in enumerate(settings.services):
        for key, text in (("token_file", s.token_file), ("ca_file", s.ca_file)):
            if text is not None:
                yield ("services", i, key), text
    server = settings.server
    for key, text in (
        ("token_file", server.token_file),
        ("read_token_file", server.read_token_file),
        ("cert_file", server.cert_file),
        ("key_file", server.key_file),
    ):
        if text is not None:
            yield ("server", key), text
    for namespace, text in server.plan_token_files.items():
        yield ("server", "plan_token_files", namespace), text
    for source, given in settings.sources().items():
        for key, text in given.files():
            yield (source, key), text
    if settings.kubernetes is not None:
        block = settings.kubernetes
        for key, text in (("tokens", block.tokens), ("kubeconfig", block.kubeconfig)):
            if text is not None:
                yield ("kubernetes", key), text
    yield ("state", "path"), settings.state.path
    yield ("journal", "path"), settings.journal.path


def check_variables(settings: Settings) -> Iterator[Problem]:
    for loc, text in _paths(settings):
        name = unset_variable(text)
        if name is not None:
            yield Problem(loc, f"{shown(loc, text)}; environment variable {name} is not set; allowed: a path")


def check_files(settings: Settings, file: SettingsFile) -> list[Problem]:
    """Whether the files that the settings name can be used on this machine. Shows paths, never contents."""
    problems = []
    for loc, text in _paths(settings):
        wrong = _file_trouble(str(loc[-1]), loc, absolute_path(file, text))
        if wrong is not None:
            problems.append(Problem(loc, f"{shown(loc, text)}; {wrong}"))
    return problems


def _file_trouble(key: str, loc: Loc, path: Path) -> str | None:
    if key == "path":
        if loc[0] == "state":
            return "that is a folder; allowed: the path of a file" if path.is_dir() else None
        return "that is a file; allowed: the path of a folder" if path.is_file() else None
    if key == "tokens":  # may be missing as long as no Secret is mounted
        return "that is a file; allowed: the path of a folder" if path.is_file() else None
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            return "a pipe or device; allowed: a file that can be read again and again"
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "cannot be read") if isinstance(error, OSError) else "not UTF-8 text"
        return f"{reason.lower()}; allowed: a file that can be read"
    if key == "kubeconfig":
        return None
    if key in ("ca_file", "client_cert_file", "cert_file"):
        return None if "BEGIN CERTIFICATE" in content else "no certificate in it; allowed: a PEM file"
    if key in ("client_key_file", "key_file"):
        return None if "PRIVATE KEY" in content else "no private key in it; allowed: a PEM file"
    if key == "password_file":
        lines = content.splitlines()
        return None if len(lines) == 1 and lines[0] else "allowed: a file that holds just the password, in one line"
    words = content.split()
    if len(words) == 1:
        return None
    return f"{'nothing' if not words else 'more than one word'} in it; allowed: a file that holds just the token"
