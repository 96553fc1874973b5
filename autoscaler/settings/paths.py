"""Paths in the settings: `~` and `$VARIABLES` filled in, relative to the settings file's folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from autoscaler.settings.document.reading import SettingsFile
from autoscaler.settings.settings import Settings
from policies.capacity import EngineProfile
from policies.capacity.load import load_profile

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def folder(file: SettingsFile) -> Path:
    """The folder that relative paths in the file start from."""
    return file.path.absolute().parent


def read_profile(file: SettingsFile, name_or_path: str) -> EngineProfile:
    """A preset, or a file relative to the settings. Errors: PolicyError."""
    return load_profile(name_or_path, folder(file))


def policy_name(settings: Settings, file: SettingsFile) -> str:
    """The policy's name; of a policy in a file (FILE.py:CLASS) with the file's absolute path."""
    name = settings.policy.name
    return str(absolute_path(file, name)) if ".py:" in name else name


def absolute_path(file: SettingsFile, text: str) -> Path:
    """A path setting: `~` and `$VARIABLES` filled in, relative to the settings file's folder."""
    return path_from(folder(file), text)


def path_from(base: Path, text: str) -> Path:
    """The same, relative to a folder."""
    return base / os.path.expanduser(os.path.expandvars(text))


def optional_path(file: SettingsFile, text: str | None) -> Path | None:
    return None if text is None else absolute_path(file, text)


def unset_variable(text: str) -> str | None:
    """The name of the first environment variable in a path setting that is not set."""
    for match in _VARIABLE.finditer(text):
        name = match.group(1).strip("{}")
        if name not in os.environ:
            return name
    return None
