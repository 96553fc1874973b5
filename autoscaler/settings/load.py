"""Reads a settings file, checks it, and gives the plain dataclasses of model.py. Not for deciding anything."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from autoscaler.common.errors import ConfigError
from autoscaler.settings.checks import check_settings
from autoscaler.settings.convert import to_config
from autoscaler.settings.document.problems import config_error, problem_of
from autoscaler.settings.document.reading import SettingsFile, read_settings_file
from autoscaler.settings.document.which import mistaken_for_settings
from autoscaler.settings.files import check_files
from autoscaler.settings.model import Config
from autoscaler.settings.settings import Settings, settings_schema


def load_config(path: Path, look_at_files: bool = True) -> Config:
    """Read, check and convert a settings file; relative paths in it are relative to its folder.

    `look_at_files` False leaves out whether the files it names (tokens, certificates) can be read: for a check on
    another machine than the one it will run on. Errors: ConfigError, one line naming file, line, key, value, allowed.
    """
    file = read_settings_file(path, "; `leadtime config example` prints one to begin with")
    settings = parse_settings(file)
    problems = check_settings(settings, file)
    if look_at_files:
        problems += check_files(settings, file)
    if problems:
        raise config_error(file, problems)
    return to_config(settings, file)


def parse_settings(file: SettingsFile) -> Settings:
    """Types, bounds and names only. Errors: ConfigError."""
    try:
        return Settings.model_validate(dict(file.data))
    except ValidationError as error:
        if (mistaken := mistaken_for_settings(file)) is not None:
            raise ConfigError(mistaken) from None
        schema = settings_schema()
        raise config_error(file, [problem_of(dict(e), schema) for e in error.errors()]) from None
