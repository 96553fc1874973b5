"""Measures what share of bandwidth and FLOPs GPU operations reach, by GPU kind: `efficiency` of gpus.yaml.

    pip install '.[tables]'
    python benchmarks/bench_roofline.py

For every kind that aiconfigurator-core has measured, the roofline of `profiles make` is fitted to its step times of all
known models that it answers for, each in its own format, and its mean absolute error by kind of step is
printed. Kinds without measurements take the shares of a kind of the same family, and its errors times 1.5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize

from autoscaler.common.errors import LeadtimeError
from simulator.experiments.profiles.aiconfigurator import tables
from simulator.experiments.profiles.checks import check_engine
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.gpus import Efficiency, Gpu, known_gpus
from simulator.experiments.profiles.grid import Step, steps_of
from simulator.experiments.profiles.memory import kv_tokens
from simulator.experiments.profiles.models import known_models
from simulator.experiments.profiles.roofline import step_s

SHARES = ("weights", "kv", "products", "attention")


def engines(gpu: Gpu) -> list[Engine]:
    """The narrowest engine of every known model that fits, in the format it is published in."""
    found = []
    for model in known_models().values():
        for ranks in (1, 2, 4, 8):
            engine = Engine(model, gpu, ranks, weights=model.weights, max_num_batched_tokens=gpu.batched_tokens)
            try:
                check_engine(engine)
                kv_tokens(engine)
            except LeadtimeError:
                continue
            found.append(engine)
            break
    return found


def observed(gpu: Gpu) -> list[tuple[Engine, Step, float]]:
    rows = []
    for engine in engines(gpu):
        held = kv_tokens(engine)
        steps = steps_of(
            engine.max_num_seqs, engine.max_num_batched_tokens, held, min(engine.model.max_model_len, held)
        )
        try:
            seconds = tables(engine).seconds
            rows += [(engine, step, seconds(step)) for step in steps]
        except LeadtimeError as error:
            print(f"  {engine.model.name}: {error}")
    return rows


def fitted(rows: list[tuple[Engine, Step, float]]) -> tuple[Efficiency, Mapping[str, float]]:
    seen = np.array([seconds for _, _, seconds in rows])

    def of(point: np.ndarray) -> Efficiency:
        shares = dict(zip(SHARES, (float(1 / (1 + np.exp(-x))) for x in point[:4]), strict=True))
        return Efficiency(**shares, layer_s=float(np.exp(point[4])), error_fraction={}, of="")

    def errors(point: np.ndarray) -> np.ndarray:
        made = of(point)
        return np.array([step_s(engine, step, made) for engine, step, _ in rows]) / seen - 1

    kinds = {
        "decode": np.array([not s.prompts for _, s, _ in rows]),
        "prefill": np.array([not s.decodes for _, s, _ in rows]),
        "mixed": np.array([bool(s.decodes and s.prompts) for _, s, _ in rows]),
    }

    def loss(point: np.ndarray) -> float:
        off = np.abs(errors(point))
        return float(sum(off[where].mean() for where in kinds.values()))

    start = np.array([1.6, 1.6, 0.8, -0.2, np.log(5e-5)])
    found = minimize(loss, start, method="Nelder-Mead", options={"maxfev": 300})
    off = np.abs(errors(found.x))
    return of(found.x), {kind: float(off[where].mean()) for kind, where in kinds.items()}


def main() -> None:
    for gpu in known_gpus().values():
        if gpu.tables is None:
            continue
        rows = observed(gpu)
        made, errors = fitted(rows)
        count = len({engine.model.name for engine, _, _ in rows})
        shares = ", ".join(f"{name}: {getattr(made, name):.2f}" for name in SHARES)
        off = ", ".join(f"{kind}: {value:.2f}" for kind, value in errors.items())
        words = f"{shares}, layer_s: {made.layer_s:.1e}, error_fraction: {{{off}}}"
        print(f"{gpu.name}: {{{words}}}  # {count} models, {len(rows)} steps", flush=True)


if __name__ == "__main__":
    main()
