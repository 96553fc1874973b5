"""From a fitted step law to an engine profile: what was fitted, how well, from what range, and what is only assumed.

Also `--engine` and `--select` words into values. Not for fitting (fit.py, requests.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from autoscaler.common.errors import InputError
from policies.base.durations import Duration
from policies.capacity import StepLaw
from policies.capacity.profile import EngineProfile, Limits, Scheduling
from policies.capacity.validation import with_longest
from policies.options import nearest
from simulator.engine.layout import check_profile
from simulator.experiments.calibration.batches import fit_batches
from simulator.experiments.calibration.endpoint import covered
from simulator.experiments.calibration.fit import StepFit, Steps
from simulator.experiments.calibration.requests import API_S, HOST_S, fit_requests
from simulator.experiments.observed import ClosedBatches, ObservedRequests

_LOAD_S, _INIT_S = Duration.from_median_p99(13.6, 33.2), Duration.from_median_p99(43.0, 60.0)
"""A model under 20 GiB, by start-up logs of vLLM 0.19 on H100: what is assumed where nothing is known."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What a user says of the engine; `said` are the keys that were given."""

    limits: Limits
    scheduling: Scheduling
    said: tuple[str, ...]

    def holding(self, kv_tokens: int) -> Engine:
        """The profile with a measured KV cache. Errors: PolicyError for a longest request that it cannot hold."""
        said = (*self.said, "kv_tokens")
        limits = with_longest(replace(self.limits, kv_tokens=kv_tokens), self.said, "--engine")
        return Engine(limits, self.scheduling, said)


@dataclass(frozen=True, slots=True)
class Identity:
    """Name, GPUs of one replica, kind of GPU, where the numbers come from; `copied`: which of these `--like` gave."""

    name: str
    gpus: int
    gpu: str
    source: str
    copied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A profile with lines for people: errors, values that were neither measured nor given, and where
    it extrapolates.
    """

    profile: EngineProfile
    basis: str
    errors: tuple[str, ...]
    assumed: tuple[str, ...]
    extrapolates: tuple[str, ...]


def parse_words(option: str, text: str) -> dict[str, str]:
    """`a=1,b=2`. Errors: InputError naming the option and the word."""
    words: dict[str, str] = {}
    for word in filter(None, (w.strip() for w in text.split(","))):
        key, mark, value = word.partition("=")
        if not mark or not key.strip() or not value.strip():
            raise InputError(f"{option}: {word!r}; allowed: KEY=VALUE, separated by commas")
        if key.strip() in words:
            raise InputError(f"{option}: {key.strip()}: given twice")
        words[key.strip()] = value.strip()
    return words


def parse_engine(text: str, base: EngineProfile | None = None) -> Engine:
    """`--engine`, over the limits and switches of `base` (or vLLM's defaults).

    Errors: InputError naming the key, PolicyError for a longest request that the KV cache cannot hold.
    """
    words = parse_words("--engine", text)
    limit_names, switch_names = ({f.name for f in fields(kind)} for kind in (Limits, Scheduling))
    limits: dict[str, int] = {}
    switches: dict[str, bool] = {}
    for key, value in words.items():
        if key in limit_names:
            if not value.isdecimal() or int(value) < 1:
                raise InputError(f"--engine: {key}: {value!r}; allowed: a whole number >= 1")
            limits[key] = int(value)
        elif key in switch_names:
            if value.lower() not in ("true", "false"):
                raise InputError(f"--engine: {key}: {value!r}; allowed: true, false")
            switches[key] = value.lower() == "true"
        else:
            known = sorted(limit_names | switch_names)
            raise InputError(f"--engine: unknown key {key!r}{nearest(key, known)} (allowed: {', '.join(known)})")
    bounds = replace(base.limits if base else Limits(), **limits)
    if base is not None or "kv_tokens" in limits:
        bounds = with_longest(bounds, limits, "--engine")
    return Engine(
        bounds,
        replace(base.scheduling if base else Scheduling(), **switches),
        tuple(words),
    )


def calibrated(
    identity: Identity,
    engine: Engine,
    steps: Steps,
    fit: StepFit,
    measured: Sequence[ObservedRequests | ClosedBatches] = (),
    base: EngineProfile | None = None,
) -> Calibrated:
    """The profile. Errors: PolicyError for limits that vLLM would not start with, TraceError from the requests."""
    profile = _draft(identity, engine, fit.law, base)
    assumed: list[str] = ["host_s", "api_s"]
    errors = dict(fit.by_kind)
    if measured:
        found = fit_requests(profile, measured)
        profile = replace(profile, host_s=found.host_s, api_s=found.api_s)
        assumed = list(found.assumed)
        errors["requests"] = found.error_fraction
    seen = _ranges(steps)
    record = {"source": identity.source, "steps": len(steps)} | _record(errors, fit.held_out_fraction, seen)
    record |= _assumed(assumed, identity, engine, base)
    lines = (*_error_lines(errors), f"steps left out of the fit (half, by turns): {100 * fit.held_out_fraction:.1f} %")
    basis = f"{len(steps):,} steps"
    made = replace(profile, fit=record)
    return Calibrated(made, basis, lines, _assumed_lines(made, base), _extrapolations(profile.limits, seen))


def calibrated_from_batches(
    identity: Identity, engine: Engine, measured: ClosedBatches, base: EngineProfile | None = None
) -> Calibrated:
    """The profile by closed batches alone. Errors: LeadtimeError for too few of them, PolicyError for the limits."""
    draft = _draft(identity, engine, StepLaw("affine", a_s=0.01), base)
    found = fit_batches(draft, measured)
    seen = covered(measured, engine.limits)
    count = len(measured.total_s)
    errors = {"requests": found.error_fraction}
    record = {"source": identity.source, "batches": count} | _record(errors, found.held_out_fraction, seen)
    record |= _assumed(["host_s"], identity, engine, base)
    lines = (
        *_error_lines(errors),
        f"batches left out of the fit (half, by turns): {100 * found.held_out_fraction:.1f} %",
    )
    profile = replace(draft, step=found.law, api_s=found.api_s, fit=record)
    basis = f"{count:,} closed batches"
    return Calibrated(profile, basis, lines, _assumed_lines(profile, base), _extrapolations(engine.limits, seen))


def _draft(identity: Identity, engine: Engine, law: StepLaw, base: EngineProfile | None) -> EngineProfile:
    profile = EngineProfile(
        name=identity.name,
        gpus=identity.gpus,
        gpu=identity.gpu,
        step=law,
        host_s=HOST_S,
        api_s=API_S,
        limits=engine.limits,
        scheduling=engine.scheduling,
        load_s=base.load_s if base else _LOAD_S,
        init_s=base.init_s if base else _INIT_S,
        price_usd_per_gpu_hour=base.price_usd_per_gpu_hour if base else None,
    )
    check_profile(profile)
    return profile


def _assumed(
    unmeasured: Sequence[str], identity: Identity, engine: Engine, base: EngineProfile | None
) -> dict[str, Any]:
    """What is neither measured nor said, for the profile's `fit`: `assumed`, and `like` where a profile gave some."""
    limits = [f"limits.{f.name}" for f in fields(Limits) if f.name not in engine.said]
    if base is None:
        return {"assumed": [*unmeasured, *limits, "startup"]}
    switches = [f"scheduling.{f.name}" for f in fields(Scheduling) if f.name not in engine.said]
    price = ["price_usd_per_gpu_hour"] if base.price_usd_per_gpu_hour is not None else []
    return {"assumed": [*unmeasured, *limits, *switches, *identity.copied, "startup", *price], "like": base.name}


def _assumed_lines(profile: EngineProfile, base: EngineProfile | None) -> tuple[str, ...]:
    """What was assumed, and what was taken from the profile of `--like` with the values that it gave."""
    assumed = profile.fit["assumed"]
    given = {} if base is None else dict(_values(profile).items() & _values(base).items())
    own = [name for name in assumed if name not in given]
    copied = [f"{name} {given[name]}" for name in assumed if name in given]
    lines = [f"assumed, not measured: {', '.join(own)}"] if own else []
    if base is not None:
        lines += [f"from {base.name}, not measured here: {', '.join(copied)}"]
    return tuple(lines)


def _values(profile: EngineProfile) -> dict[str, str]:
    """What a profile can be given by another one, in words."""
    values = {f"limits.{f.name}": f"{getattr(profile.limits, f.name)}" for f in fields(Limits)}
    values |= {f"scheduling.{f.name}": str(getattr(profile.scheduling, f.name)).lower() for f in fields(Scheduling)}
    load_s, init_s = profile.load_s.median_s, profile.init_s.median_s
    values["startup"] = f"load_s {load_s:.3g} + init_s {init_s:.3g} at the median"
    if profile.price_usd_per_gpu_hour is not None:
        values["price_usd_per_gpu_hour"] = f"{profile.price_usd_per_gpu_hour:g}"
    return values | {"gpus": str(profile.gpus), "gpu": profile.gpu}


def _record(errors: Mapping[str, float], held_out: float, seen: Mapping[str, list[int]]) -> dict[str, Any]:
    rounded = {kind: _rounded(value) for kind, value in errors.items()}
    return {"error_fraction": rounded, "held_out_error_fraction": _rounded(held_out), "range": dict(seen)}


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _ranges(steps: Steps) -> dict[str, list[int]]:
    """What the steps covered: the least and the most of everything that a step's time depends on."""
    ranges = {}
    for name in ("decodes", "kv_tokens", "prefill_tokens"):
        values = getattr(steps, name)
        some = values[values > 0]
        ranges[name] = [int(some.min()), int(some.max())] if len(some) else [0, 0]
    return ranges


def _error_lines(errors: Mapping[str, float]) -> tuple[str, ...]:
    names = {"requests": "latency of requests"}
    return tuple(
        f"{names.get(kind, f'{kind} steps')}: {100 * value:.1f} % mean error" for kind, value in errors.items()
    )


def _extrapolations(limits: Limits, seen: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Where the engine may go and the data did not."""
    bounds = (
        ("decodes", limits.max_num_seqs, "decoding sequences"),
        ("kv_tokens", limits.kv_tokens, "tokens of KV attended by decodes"),
        ("prefill_tokens", limits.max_num_batched_tokens, "prefill tokens a step"),
    )
    return tuple(
        f"above {seen[name][1]:,} {words} (the engine allows {most:,})"
        if seen[name][1]
        else f"{words}: nothing was measured (the engine allows {most:,})"
        for name, most, words in bounds
        if seen[name][1] < 0.9 * most
    )
