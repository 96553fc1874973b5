"""Reads YAML by the core schema of YAML 1.2, where PyYAML reads 1.1: what a person wrote is what is meant.

By YAML 1.1 `1:30` is 90, `012` is 10, `on`, `off`, `yes` and `no` are booleans, `2026-01-31` is a date and `1e8` is
text. Here they are text, 12, text, text and a number: what a setting cannot be is then refused where it stands. Not
for documents whose reader is somebody else (a Serve config is YAML 1.1 to Ray).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_PREFIX = "tag:yaml.org,2002:"
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_CORE: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    ("merge", re.compile(r"^(?:<<)$"), "<"),
)
"""Tag, what it looks like, what it can begin with (\\0: nothing at all). Merge keys are 1.1, and widely used."""


class CoreLoader(yaml.SafeLoader):
    """SafeLoader with the plain scalars of YAML 1.2's core schema."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    for prefix, base in (("0o", 8), ("0x", 16)):
        if text.startswith(prefix):
            return int(text[2:], base)
    return int(text)


CoreLoader.yaml_implicit_resolvers = {}  # SafeLoader's are those of YAML 1.1
for _tag, _pattern, _first in _CORE:
    CoreLoader.add_implicit_resolver(_PREFIX + _tag, _pattern, ["" if c == "\0" else c for c in _first])
CoreLoader.add_constructor(_PREFIX + "int", _construct_int)


class _CoreDumper(yaml.SafeDumper):
    """SafeDumper that quotes text which this loader would take for a number."""


for _tag, _pattern, _first in _CORE:
    _CoreDumper.add_implicit_resolver(_PREFIX + _tag, _pattern, ["" if c == "\0" else c for c in _first])


def dump_yaml(value: Any, width: int = 120) -> str:
    """A document that `load_yaml`, and YAML 1.1 as well, reads as this value."""
    text: str = yaml.dump(value, Dumper=_CoreDumper, sort_keys=False, width=width)
    return text


def load_yaml(text: str) -> Any:
    """The document in `text`. Errors: yaml.YAMLError; ValueError, TypeError for what no value can be made of."""
    return yaml.load(text, Loader=CoreLoader)
