"""Reads engine profiles from YAML: a user's file, or a preset by name.

Presets are shipped in `presets/` and named by their path without the ending (`llama-3.1-8b/h100/tp1`). What the numbers
mean: profile.py; whether an engine can be like that: validation.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from policies.base.durations import Duration
from policies.base.errors import PolicyError
from policies.capacity.profile import EngineProfile, Limits, Scheduling, StepLaw
from policies.capacity.validation import check_times, with_longest

_PRESETS = Path(__file__).parent / "presets"
_LARGEST = 1e9
"""Of every number in a profile, whether seconds, dollars or tokens: what is beyond is a slip, and sums overflow."""


@lru_cache(maxsize=1)
def preset_names() -> tuple[str, ...]:
    """Every shipped preset, sorted."""
    return tuple(sorted(p.relative_to(_PRESETS).with_suffix("").as_posix() for p in _PRESETS.rglob("*.yaml")))


def presets_in_words() -> str:
    """For errors: too many to be listed there."""
    return f"one of the {len(preset_names())} presets that `leadtime profiles` lists, as llama-3.1-8b/h100/tp1"


def load_profile(name_or_path: str, base: Path | None = None) -> EngineProfile:
    """A preset by name, or a YAML file (relative to `base`). Errors: PolicyError naming the file, key and value."""
    preset = _PRESETS / f"{name_or_path}.yaml"
    if name_or_path in preset_names():
        return _read(preset)
    path = (base or Path()) / name_or_path
    if _is_file(path):
        return _read(path)
    near = difflib.get_close_matches(name_or_path, preset_names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise PolicyError(f"engine profile {name_or_path!r}: neither a file nor a preset ({presets_in_words()}){hint}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say
        return False


@lru_cache(maxsize=512)
def _read(path: Path) -> EngineProfile:
    import yaml

    from policies.yaml_core import load_yaml

    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    return parse_profile(data, str(path))


_TOP = (
    "version",
    "name",
    "gpus",
    "gpu",
    "step",
    "api_s",
    "limits",
    "scheduling",
    "startup",
    "price_usd_per_gpu_hour",
    "fit",
)
_STEP = ("form", "host_s", "a_s", "b_s", "c_s", "d_s", "e_s", "h_s", "knots")


def parse_profile(data: Any, source: str) -> EngineProfile:
    """A profile from its YAML as plain data. Errors: PolicyError naming `source`, key, value, what is allowed."""
    top = _mapping(data, source, "the profile", _TOP)
    if top.get("version") != 1:
        raise PolicyError(f"{source}: version: {top.get('version')!r}; this leadtime reads version 1")
    step = _mapping(_required(top, source, "step"), source, "step", _STEP)
    limits = _mapping(top.get("limits", {}), source, "limits", tuple(f.name for f in fields(Limits)))
    scheduling = _mapping(top.get("scheduling", {}), source, "scheduling", tuple(f.name for f in fields(Scheduling)))
    startup = _mapping(top.get("startup", {}), source, "startup", ("load_s", "init_s"))
    for key, value in scheduling.items():
        if not isinstance(value, bool):
            raise PolicyError(f"{source}: scheduling.{key}: {value!r}; allowed: true or false")
    price = top.get("price_usd_per_gpu_hour")
    law = _step_law(step, source)
    host_s = _number(step.get("host_s", 0.0), source, "step.host_s")
    if host_s == 0 and law.step_s(1, 1, 1, 1) == 0:
        raise PolicyError(f"{source}: step: a step takes no time at all; allowed: a_s or another part above 0 seconds")
    api_s = _number(top.get("api_s", 0.0), source, "api_s")
    bounds = Limits(**{k: _integer(v, source, f"limits.{k}") for k, v in limits.items()})
    check_times(law, host_s, api_s, bounds, source)
    return EngineProfile(
        name=str(_required(top, source, "name")),
        gpus=_integer(top.get("gpus", 1), source, "gpus"),
        gpu=str(_required(top, source, "gpu")),
        step=law,
        host_s=host_s,
        api_s=api_s,
        limits=with_longest(bounds, limits, source),
        scheduling=Scheduling(**scheduling),
        load_s=parse_duration(startup.get("load_s", 0.0), source, "startup.load_s"),
        init_s=parse_duration(startup.get("init_s", 0.0), source, "startup.init_s"),
        price_usd_per_gpu_hour=None if price is None else _number(price, source, "price_usd_per_gpu_hour"),
        fit=dict(_mapping(top.get("fit", {}), source, "fit", None)),
    )


def parse_duration(value: Any, source: str, key: str) -> Duration:
    """A bare number (a constant) or `{median, p99}` (a log-normal). Errors: PolicyError."""
    if not isinstance(value, Mapping):
        return Duration(_number(value, source, key))
    _mapping(value, source, key, ("median", "p99"))
    median_s = _number(_required(value, source, "median", key), source, f"{key}.median")
    p99_s = _number(_required(value, source, "p99", key), source, f"{key}.p99")
    if p99_s < median_s or (median_s == 0 and p99_s > 0):
        raise PolicyError(f"{source}: {key}: p99 {p99_s:g} is below the median {median_s:g}, or the median is 0")
    return Duration.from_median_p99(median_s, p99_s)


def _step_law(step: Mapping[str, Any], source: str) -> StepLaw:
    form = step.get("form")
    if form not in ("affine", "table"):
        raise PolicyError(f"{source}: step.form: {form!r}; allowed: affine, table")
    raw_knots = step.get("knots", [])
    if (form == "table") != bool(raw_knots):
        raise PolicyError(f"{source}: step.knots: form 'table' needs at least two knots, form 'affine' takes none")
    if not isinstance(raw_knots, list) or not all(isinstance(k, list) and len(k) == 2 for k in raw_knots):
        raise PolicyError(f"{source}: step.knots: expected a list of [scheduled tokens, seconds]")
    knots = tuple((_number(x, source, "step.knots"), _number(y, source, "step.knots")) for x, y in raw_knots)
    if form == "table" and (len(knots) < 2 or any(b[0] <= a[0] or b[1] < a[1] for a, b in pairwise(knots))):
        raise PolicyError(f"{source}: step.knots: at least two, tokens ascending, seconds not descending")
    numbers = {k: _number(v, source, f"step.{k}") for k, v in step.items() if k not in ("form", "knots", "host_s")}
    if "a_s" not in numbers:
        raise PolicyError(f"{source}: step.a_s is missing (seconds that every step takes)")
    return StepLaw(form=form, knots=knots, **numbers)


def _mapping(value: Any, source: str, key: str, allowed: tuple[str, ...] | None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{source}: {key}: expected a mapping, not {value!r}")
    for name in value:
        if allowed is not None and name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PolicyError(f"{source}: {key}: unknown key {name!r}{hint} (allowed: {', '.join(allowed)})")
    return value


def _required(mapping: Mapping[str, Any], source: str, key: str, inside: str = "") -> Any:
    if mapping.get(key) is None:
        raise PolicyError(f"{source}: {inside + '.' if inside else ''}{key} is missing")
    return mapping[key]


def _number(value: Any, source: str, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise PolicyError(f"{source}: {key}: {value!r}; allowed: a finite number >= 0, at most {_LARGEST:g}")
    return float(value)


def _integer(value: Any, source: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise PolicyError(f"{source}: {key}: {value!r}; allowed: a whole number >= 1, at most {_LARGEST:g}")
    return value
