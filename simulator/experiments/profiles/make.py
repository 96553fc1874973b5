"""A profile of an engine that nobody measured, and how sure it is.

By tables of measured GPU operations where they answer, else by a roofline; either way through the same fit as
`leadtime calibrate`. Not for shapes, memory and refusals (models.py, memory.py, checks.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from policies.capacity.profile import EngineProfile, Limits, Scheduling, StepLaw
from policies.capacity.validation import with_longest
from simulator.experiments.calibration.fit import TILED_KNOTS, StepFit, fit
from simulator.experiments.calibration.requests import API_S, HOST_S
from simulator.experiments.profiles import roofline
from simulator.experiments.profiles.aiconfigurator import PACKAGE, NotCovered, Tables, tables
from simulator.experiments.profiles.checks import check_engine
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.grid import steps_of, timed
from simulator.experiments.profiles.memory import kv_bytes_per_token, kv_tokens
from simulator.experiments.profiles.startup import startup

Way = Literal["auto", "tables", "roofline"]
_HOST_SHARE = 1.047
"""What sums of GPU operations leave out (sampling, input preparation): by measured runs of vLLM (docs/fidelity.md)."""
_BLOCK = 16
_BEND = 0.001


@dataclass(frozen=True, slots=True)
class Made:
    """A profile; `way` that gave its step times, `why` the tables did not (None where they did)."""

    profile: EngineProfile
    way: Literal["tables", "roofline"]
    why: str | None
    error_fraction: float


def make_profile(engine: Engine, name: str, *, way: Way = "auto", max_model_len: int | None = None) -> Made:
    """The profile. Errors: InputError for what cannot be, PolicyError for limits that vLLM would not start with,
    NotCovered where only tables were asked for and they do not answer.
    """
    check_engine(engine)
    limits = _limits(engine, max_model_len)
    found, why = _tables(engine, way)
    steps = steps_of(limits.max_num_seqs, limits.max_num_batched_tokens, limits.kv_tokens, limits.max_model_len)
    if found is not None:
        try:
            times = timed(steps, found.seconds)
        except NotCovered as error:
            if way == "tables":
                raise
            found, why = None, str(error)
    if found is None:
        times = timed(steps, lambda step: roofline.step_s(engine, step))
    fitted = fit(replace(times, seconds=_HOST_SHARE * times.seconds), "table", TILED_KNOTS)
    law = _staged(_pruned(fitted.law), engine.pipeline_parallel)
    load_s, init_s = startup(engine)
    errors = _errors(engine, fitted, found)
    profile = EngineProfile(
        name=name,
        gpus=engine.gpus,
        gpu=engine.gpu.kind,
        step=law,
        host_s=HOST_S,
        api_s=API_S,
        limits=limits,
        scheduling=Scheduling(),
        load_s=load_s,
        init_s=init_s,
        price_usd_per_gpu_hour=engine.gpu.price_usd_per_gpu_hour,
        fit=_record(engine, fitted, found, errors, why),
    )
    return Made(profile, "roofline" if found is None else "tables", why, max(errors.values()))


def _limits(engine: Engine, max_model_len: int | None) -> Limits:
    longest = max_model_len or engine.model.max_model_len
    held = kv_tokens(engine, _BLOCK)
    bounds = Limits(engine.max_num_seqs, engine.max_num_batched_tokens, _BLOCK, held, longest)
    return with_longest(bounds, ("max_model_len",) if max_model_len else (), engine.model.name)


def _distrusted(engine: Engine) -> str | None:
    """Why measured runs speak for the roofline although there are tables; None where they do not (docs/profiles.md)."""
    if engine.model.experts:
        return "tables of experts were further from measured runs than the roofline"
    if engine.model.kv_heads == engine.model.heads:
        return "tables of attention without groups were further from measured runs than the roofline"
    return None


def _tables(engine: Engine, way: Way) -> tuple[Tables | None, str | None]:
    if way == "roofline":
        return None, "asked for"
    if way == "auto" and (why := _distrusted(engine)):
        return None, why
    try:
        return tables(engine), None
    except NotCovered as error:
        if way == "tables":
            raise
        return None, str(error)


def _pruned(law: StepLaw) -> StepLaw:
    """Without knots that lie on the line between their neighbours, to a thousandth of a step."""
    kept = list(law.knots[:1])
    for i in range(1, len(law.knots) - 1):
        (x0, y0), (x, y), (x1, y1) = kept[-1], law.knots[i], law.knots[i + 1]
        straight = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        if abs(y - straight) > _BEND * (law.a_s + y):
            kept.append((x, y))
    return replace(law, knots=(*kept, law.knots[-1]))


def _staged(law: StepLaw, stages: int) -> StepLaw:
    """Of an engine with pipeline stages: so many batches are under way at once, each a share of the sequences.

    All sequences get a token in the time of one batch through all stages. That holds for many requests; the time to
    the first token of a lone one is longer than this says.
    """
    if stages == 1:
        return law
    shares = {name: getattr(law, name) / stages for name in ("b_s", "c_s", "d_s", "e_s")}
    return replace(law, **shares, knots=tuple((x * stages, y) for x, y in law.knots))


def _errors(engine: Engine, fitted: StepFit, found: Tables | None) -> dict[str, float]:
    """By kind of step: the fit's, and with a roofline what rooflines were off where tables could tell."""
    off = {} if found else engine.gpu.efficiency.error_fraction
    return {kind: float(f"{error + off.get(kind, 0.0):.2g}") for kind, error in fitted.by_kind.items()}


def _record(
    engine: Engine, fitted: StepFit, found: Tables | None, errors: dict[str, float], why: str | None
) -> dict[str, Any]:
    """The profile's `fit`: where it comes from, how sure it is, and what it was made for."""
    if found:
        words = f"sums of GPU operations measured on {found.measured} ({PACKAGE} {found.version}, {found.licence})"
        sure = "tables: no run of this engine was measured"
    else:
        words = (
            f"roofline by bandwidth and FLOPs of {engine.gpu.name}, at shares measured on {engine.gpu.efficiency.of}"
        )
        sure = f"roofline: a first guess, to be measured ({why})"
    made_for = {
        "model": engine.model.name,
        "tensor_parallel": engine.tensor_parallel,
        "pipeline_parallel": engine.pipeline_parallel,
        "expert_parallel": engine.expert_parallel,
        "weights": engine.weights,
        "kv": engine.kv,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "kv_bytes_per_token_per_gpu": kv_bytes_per_token(engine),
    }
    return {
        "source": f"{words}, times {_HOST_SHARE:g} for the host, made by `leadtime profiles make`",
        "way": "tables" if found else "roofline",
        "sure": sure,
        "error_fraction": errors,
        "held_out_error_fraction": float(f"{fitted.held_out_fraction:.2g}"),
        "made_for": made_for,
        "assumed": ["host_s", "api_s", "startup", "price_usd_per_gpu_hour"],
    }
