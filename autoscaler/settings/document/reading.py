"""Reads a settings file: its data, the line of every key, its hash. Not for what the settings mean.

Refuses what YAML would quietly accept: a key written twice (the last one would win) and a file that is no mapping.
Plain words and numbers are read as YAML 1.2 has them (policies/yaml_core.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoscaler.common.errors import ConfigError
from policies.yaml_core import CoreLoader

Loc = tuple[str | int, ...]
"""Where a value is: keys and list positions from the top, e.g. ("deployments", 0, "replicas", "max")."""

_MERGE_TAG = "tag:yaml.org,2002:merge"
_MAX_DEPTH = 50
"""Settings nest five deep. Python's own limit, which others move, is no bound for a parser."""
_MAX_VALUES = 200_000
"""Aliases of aliases make billions of values out of a file of some lines."""


class _BoundedLoader(CoreLoader):
    """CoreLoader that stops at too deep a nesting before it has read what is inside."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self._path, self._depth = path, 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Errors: ConfigError for what is nested too deeply."""
        if self._depth > _MAX_DEPTH:
            line = self.get_mark().line + 1
            raise ConfigError(f"{self._path}:{line}: nested too deeply; allowed: {_MAX_DEPTH} levels")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file as read. `lines`: the line (1-based) on which a key or list entry begins."""

    path: Path
    data: Mapping[Any, Any]
    lines: Mapping[Loc, int]
    sha256: str

    def where(self, loc: Loc) -> str:
        """`FILE:LINE` of a value, or of the nearest thing around it that is in the file."""
        for end in range(len(loc), 0, -1):
            if loc[:end] in self.lines:
                return f"{self.path}:{self.lines[loc[:end]]}"
        return str(self.path)


def read_settings_file(path: Path, when_missing: str = "") -> SettingsFile:
    """`when_missing` ends the message for a file that is not there.

    Errors: ConfigError, one line, for a file that is missing, unreadable, not YAML, empty or no mapping.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{when_missing}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); allowed: a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    lines: dict[Loc, int] = {}
    try:
        loader = _BoundedLoader(text, path)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{path}: empty; allowed: settings, beginning with version: 1")
        _walk(node, (), (), lines, path)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_error(path, error)) from None
    except (ValueError, TypeError) as error:  # the loader's own, on an unhashable key
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: no settings in it; allowed: a mapping, beginning with version: 1")
    return SettingsFile(path, data, lines, hashlib.sha256(raw).hexdigest())


def _walk(node: yaml.Node, loc: Loc, above: tuple[int, ...], lines: dict[Loc, int], path: Path) -> None:
    """Note the line of everything under `node`; `above` are the nodes around it, to notice one that holds itself."""
    if id(node) in above:
        raise ConfigError(
            f"{path}:{node.start_mark.line + 1}: {dotted(loc)}: an alias to itself; allowed: plain values"
        )
    if len(above) >= _MAX_DEPTH:
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: nested too deeply; allowed: {_MAX_DEPTH} levels")
    if len(lines) > _MAX_VALUES:
        raise ConfigError(f"{path}: more than {_MAX_VALUES} values, aliases counted where they are used")
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            lines.setdefault((*loc, i), child.start_mark.line + 1)
            _walk(child, (*loc, i), above, lines, path)
    elif isinstance(node, yaml.MappingNode):
        own: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE_TAG:
                continue  # keys that come from an anchor have their line where the anchor is used: that of the mapping
            name = str(key.value)
            here = (*loc, name)
            if name in own:
                raise ConfigError(
                    f"{path}:{line}: {dotted(here)}: written twice (also in line {own[name]}); allowed: once"
                )
            own[name] = line
            lines.setdefault(here, line)
            _walk(child, here, above, lines, path)


def _yaml_error(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = str(path) if mark is None else f"{path}:{mark.line + 1}"
    return f"{where}: not valid YAML: {' '.join(str(problem).split())}"


def dotted(loc: Loc) -> str:
    """`deployments[0].replicas.max` for ("deployments", 0, "replicas", "max")."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
