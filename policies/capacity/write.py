"""An engine profile as YAML text that `load_profile` reads back to the same numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from policies.base.durations import Duration
from policies.capacity.profile import EngineProfile

_DIGITS = 6


def profile_yaml(profile: EngineProfile) -> str:
    """The profile as a file: keys in the order of the documentation, numbers with six significant digits."""
    import yaml

    law = profile.step
    step: dict[str, Any] = {"form": law.form, "host_s": _short(profile.host_s), "a_s": _short(law.a_s)}
    for name in ("b_s", "c_s", "d_s", "e_s", "h_s"):
        if (value := getattr(law, name)) > 0:
            step[name] = _short(value)
    if law.knots:
        step["knots"] = [[_short(tokens), _short(seconds)] for tokens, seconds in law.knots]
    data: dict[str, Any] = {
        "version": 1,
        "name": profile.name,
        "gpus": profile.gpus,
        "gpu": profile.gpu,
        "step": step,
        "api_s": _short(profile.api_s),
        "limits": asdict(profile.limits),
        "scheduling": asdict(profile.scheduling),
        "startup": {"load_s": _duration(profile.load_s), "init_s": _duration(profile.init_s)},
        "price_usd_per_gpu_hour": profile.price_usd_per_gpu_hour,
        "fit": dict(profile.fit),
    }
    return yaml.dump(data, Dumper=_dumper(), sort_keys=False, default_flow_style=None, width=118)


def _dumper() -> Any:
    import yaml

    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return NoAliases


def _duration(duration: Duration) -> Any:
    if duration.sigma == 0:
        return _short(duration.median_s)
    return {"median": _short(duration.median_s), "p99": _short(duration.quantile(0.99))}


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
