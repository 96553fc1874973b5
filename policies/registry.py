"""Policies by name: built-in ones, those of other packages (entry points), and single files. Imported when asked for.

A policy class takes its options as the only argument and has them declared in `Options`, a frozen dataclass.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from hashlib import blake2b
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from policies.base import ForecastSpec, HandleWindow, Policy, PolicyError
from policies.options import nearest, parse_options
from policies.plugin import PolicyPlugin

ENTRY_POINTS = "leadtime.policies"

_BUILT_IN = {
    "predictive": "policies.predictive:PredictivePolicy",
    "static": "policies.references.static:StaticPolicy",
    "hpa_ongoing": "policies.baselines.hpa:HpaOngoing",
    "hpa_queue": "policies.baselines.hpa:HpaQueue",
    "hpa_kv": "policies.baselines.hpa:HpaKv",
    "ray_serve": "policies.baselines.ray_serve:RayServePolicy",
    "knative": "policies.baselines.knative:KnativePolicy",
    "keda": "policies.baselines.keda:KedaPolicy",
    "apa": "policies.baselines.apa:ApaPolicy",
    "wva": "policies.baselines.wva:WvaPolicy",
    "dynamo_v1": "policies.baselines.dynamo_v1:DynamoV1Policy",
    "dynamo_v2": "policies.baselines.dynamo_v2:DynamoV2Policy",
    "dynamo_easy": "policies.baselines.dynamo_easy:DynamoEasyPolicy",
    "phpa": "policies.baselines.phpa:PhpaPolicy",
    "target_tracking": "policies.baselines.target_tracking:TargetTrackingPolicy",
    "schedule": "policies.baselines.schedule:SchedulePolicy",
    "static_mean": "policies.references.static:StaticMeanPolicy",
    "oracle": "policies.references.oracle:OraclePolicy",
    "oracle_lead": "policies.references.oracle:OracleLeadPolicy",
    "hindsight": "policies.references.hindsight:HindsightPolicy",
}


def policy_names() -> tuple[str, ...]:
    """Every policy that can be named without a path, built-in ones first."""
    return (*_BUILT_IN, *sorted(name for name in _plugins() if name not in _BUILT_IN))


def is_built_in(name: str) -> bool:
    """Whether the policy is leadtime's own: naming it runs no code of a file or of another package."""
    return name in _BUILT_IN


def options_of(name: str) -> type[Any] | None:
    """The dataclass that declares a policy's options; None where it takes none. Errors: PolicyError as below."""
    declared: type[Any] | None = getattr(_class_of(name, None), "Options", None)
    return declared


def create_policy(name: str, options: Mapping[str, Any], base: Path | None = None) -> Policy:
    """The policy `name`, or the class of a file as `path/to/file.py:ClassName` (relative to `base`).

    Errors: PolicyError naming the policy or the option, its value, what is allowed and the nearest name.
    """
    kind = _class_of(name, base)
    where = f"policy {name}"
    declared = getattr(kind, "Options", None)
    if declared is None and options:
        raise PolicyError(f"{where}: it takes no options (its class declares no Options), not {sorted(options)}")
    if declared is not None and not (isinstance(declared, type) and is_dataclass(declared)):
        raise PolicyError(f"{where}: its Options is {declared!r}; allowed: a dataclass")
    arguments = () if declared is None else (parse_options(declared, options, where),)
    try:
        policy = kind(*arguments)
    except PolicyError:
        raise
    except Exception as error:  # a plug-in may fail in any way
        raise PolicyError(f"{where}: it cannot be made: {type(error).__name__}: {error}") from error
    _check(policy, where)
    return cast(Policy, policy)


def _check(policy: Any, where: str) -> None:
    """What the controller takes for granted of a policy. Errors: PolicyError naming the attribute."""

    def wrong(attribute: str, allowed: str) -> PolicyError:
        value = getattr(policy, attribute, _MISSING)
        found = "is missing" if value is _MISSING else f"{value!r}"
        return PolicyError(f"{where}: {attribute}: {found}; allowed: {allowed}")

    for method in ("new_state", "propose", "prepare", "warm_start", "forget"):
        if not callable(getattr(policy, method, None)):
            raise wrong(method, "a method (inherit policies.plugin.PolicyPlugin)")
    if getattr(type(policy), "propose", None) is PolicyPlugin.propose:
        raise PolicyError(f"{where}: propose: is missing; allowed: a method propose(self, fleet, state, now_s)")
    if not isinstance(getattr(policy, "name", None), str) or not policy.name:
        raise wrong("name", "a name")
    period_s = getattr(policy, "period_s", _MISSING)
    if period_s is not None and (isinstance(period_s, bool) or not isinstance(period_s, int | float) or period_s <= 0):
        raise wrong("period_s", "seconds > 0, or None")
    if getattr(policy, "guards", _MISSING) not in ("full", "bounds"):
        raise wrong("guards", "full, bounds")
    for flag in ("clairvoyant", "reads_metrics", "wants_backtest", "needs_history"):
        if not isinstance(getattr(policy, flag, _MISSING), bool):
            raise wrong(flag, "True or False")
    if not isinstance(getattr(policy, "handle_window", _MISSING), HandleWindow):
        raise wrong("handle_window", "a HandleWindow")
    if not isinstance(getattr(policy, "telemetry", _MISSING), str | None):
        raise wrong("telemetry", "a telemetry profile's name, or None")
    if not isinstance(getattr(policy, "forecast", _MISSING), ForecastSpec | None):
        raise wrong("forecast", "a ForecastSpec, or None")
    if not hasattr(policy, "options"):
        raise wrong("options", "what the constructor was given")


_MISSING = object()


def _class_of(name: str, base: Path | None) -> Any:
    if ".py:" in name:
        return _from_file(name, base)
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    plugins = _plugins()
    if name not in plugins:
        names = policy_names()
        raise PolicyError(
            f"policy {name!r}: unknown{nearest(name, names)} (allowed: {', '.join(names)}, FILE.py:CLASS)"
        )
    try:
        return plugins[name].load()
    except Exception as error:  # a plug-in may fail in any way
        raise PolicyError(f"policy {name!r}: its package cannot be loaded: {error}") from error


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _from_file(name: str, base: Path | None) -> Any:
    file, _, attribute = name.rpartition(":")
    path = (base or Path()) / file
    if not path.is_file():
        raise PolicyError(f"policy {name!r}: no such file: {path}")
    path = path.resolve()
    own = blake2b(str(path).encode(), digest_size=4).hexdigest()
    spec = importlib.util.spec_from_file_location(f"leadtime_policy_{path.stem}_{own}", path)
    if spec is None or spec.loader is None:
        raise PolicyError(f"policy {name!r}: {path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses with postponed annotations look there for what they name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's file may fail in any way, and a script may end with sys.exit()
        del sys.modules[spec.name]
        raise PolicyError(f"policy {name!r}: {path} cannot be imported: {error}") from error
    classes = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
    if attribute not in classes:
        raise PolicyError(f"policy {name!r}: no class {attribute!r}{nearest(attribute, classes)} in {path}")
    return getattr(module, attribute)
