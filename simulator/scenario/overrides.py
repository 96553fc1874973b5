"""`--set KEY=VALUE`: changes to a scenario by dotted keys. Whether the result makes sense is checked elsewhere.

Paths in a scenario file are relative to that file; what was typed at a shell is relative to where it was typed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from autoscaler.common.errors import ScenarioError
from autoscaler.settings.document.reading import Loc, SettingsFile, dotted
from policies.yaml_core import load_yaml


def override(settings: SettingsFile, overrides: Sequence[str]) -> tuple[SettingsFile, dict[Loc, str]]:
    """The settings with KEY=VALUE applied, and where each went. Errors: ScenarioError naming the --set."""
    data: dict[str, Any] = copy.deepcopy(dict(settings.data))
    set_locs: dict[Loc, str] = {}
    for text in overrides:
        key, equals, raw = text.partition("=")
        if not equals or not key.strip():
            raise ScenarioError(f"--set {text!r}: allowed: KEY=VALUE, e.g. deployments.0.replicas.max=4")
        try:
            value = load_yaml(raw)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            raise ScenarioError(f"--set {text!r}: the value is not YAML") from None
        set_locs[_put(data, key.strip(), _from_here(key.rpartition(".")[2].strip(), value), text)] = text
    return replace(settings, data=data), set_locs


_FILES = ("requests", "rates")
_FILE_OR_PRESET = "profile"
_POLICY = "name"


def _from_here(key: str, value: Any) -> Any:
    """The value with relative paths in it made absolute; a profile that is no file here is a preset's name, and a
    policy is a file when it is written FILE.py:CLASS."""
    if isinstance(value, Mapping):
        return {k: _from_here(str(k), v) for k, v in value.items()}
    if isinstance(value, list):
        return [_from_here(key, one) for one in value]
    if not isinstance(value, str) or not value:
        return value
    path = Path.cwd() / Path(value).expanduser()
    is_file = key in _FILES or (key == _FILE_OR_PRESET and path.is_file()) or (key == _POLICY and ".py:" in value)
    return str(path) if is_file else value


def policy_options(overrides: Sequence[str]) -> dict[str, Any]:
    """What was typed as `policy.options.X=...`: meant for the policy that runs, whichever the scenario names."""
    prefix = "policy.options."
    typed = [text.partition("=") for text in overrides]
    return {key.strip()[len(prefix) :]: load_yaml(raw) for key, _, raw in typed if key.strip().startswith(prefix)}


def same_policy(typed: str, named: str) -> bool:
    """Whether a name that was typed is the one in a scenario, where `--set policy.name=FILE.py:CLASS` is absolute."""
    return named in (typed, _from_here(_POLICY, typed))


def refuse_lost_options(overrides: Sequence[str], policy: str, played: Sequence[str]) -> None:
    """Options that were typed for the scenario's `policy`, of which none of the `played` would hear.

    Errors: ScenarioError.
    """
    lost = [] if any(same_policy(one, policy) for one in played) else list(policy_options(overrides))
    if lost:
        named = " or ".join(f"--set policy.name={name}" for name in played[:3])
        raise ScenarioError(
            f"--set policy.options.{lost[0]}: these are options of {policy}, which does not play; allowed: with {named}"
        )


def _put(data: dict[str, Any], key: str, value: Any, text: str) -> Loc:
    """Sets a value by its dotted key; a list's entry is named by its number or by its `name`."""
    parts = [p for p in re.split(r"\.|\[|\]", key) if p]
    if not parts:
        raise ScenarioError(f"--set {text!r}: no key in it; allowed: KEY=VALUE, e.g. deployments.0.replicas.max=4")
    here: Any = data
    loc: list[str | int] = []
    for i, part in enumerate(parts):
        step: str | int = part
        if isinstance(here, list):
            step = _entry(here, part, text)
        elif not isinstance(here, dict):
            raise ScenarioError(f"--set {text!r}: {dotted(tuple(loc))} is {here!r}, which has nothing inside")
        loc.append(step)
        if i == len(parts) - 1:
            here[step] = value
        else:
            if isinstance(here, dict) and here.get(step) is None:
                here[step] = {}
            here = here[step]
    return tuple(loc)


def _entry(entries: list[Any], part: str, text: str) -> int:
    if part.isdecimal() and int(part) < len(entries):
        return int(part)
    names = [str(e.get("name")) if isinstance(e, Mapping) else "" for e in entries]
    if part in names:
        return names.index(part)
    allowed = ", ".join([f"0 to {len(entries) - 1}", *filter(None, names)])
    raise ScenarioError(f"--set {text!r}: no entry {part!r}; allowed: {allowed}")
