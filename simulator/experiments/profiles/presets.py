"""Writes the presets that are made, not fitted to a run: `python -m simulator.experiments.profiles.presets [FOLDER]`.

One line a model: the formats it is served in, and the GPUs. Each replica takes as few GPUs as hold the model with room
for `_LEAST_KV` tokens. Presets that are there and say no `way` (made from measured runs) are left as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from autoscaler.common.errors import LeadtimeError
from policies.capacity.load import parse_profile
from policies.capacity.write import profile_yaml
from policies.yaml_core import load_yaml
from simulator.experiments.profiles.checks import check_engine
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.gpus import Gpu, known_gpus
from simulator.experiments.profiles.make import make_profile
from simulator.experiments.profiles.memory import kv_tokens
from simulator.experiments.profiles.models import Model, known_models

_FOLDER = Path(__file__).parents[3] / "policies" / "capacity" / "presets"
_LEAST_KV = 16_384
_RANKS = ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2))
"""Tensor and pipeline parallelism, narrowest first."""
_NODES_LINK = 200e9
"""Bytes/s between GPUs of kinds that are also joined by a fast network: two nodes make a replica only of these."""
_PUBLISHED = ("gpt-oss-20b", "gpt-oss-120b", "deepseek-v3", "deepseek-r1")
"""Served in the format they are published in, and in no other."""
_WIDE_AND_FP8 = (
    "llama-3.1-8b",
    "llama-3.3-70b",
    "llama-4-scout",
    "llama-4-maverick",
    "qwen3-8b",
    "qwen3-14b",
    "qwen3-32b",
    "qwen3-30b-a3b",
    "qwen3-235b-a22b",
    "mistral-small-24b",
    "mixtral-8x7b",
    "gemma-3-27b",
    "phi-4",
)
_WIDE = ("mistral-nemo-12b", "mixtral-8x22b", "gemma-3-12b")
_FP8 = ("llama-3.1-405b",)


def chosen() -> list[tuple[str, Engine]]:
    """Every preset's name and engine: those that fit on one or two nodes."""
    models = known_models()
    kinds: list[tuple[Model, tuple[str, ...]]] = [(models[n], (models[n].weights,)) for n in _PUBLISHED]
    kinds += [(models[n], ("bf16", "fp8")) for n in _WIDE_AND_FP8]
    kinds += [(models[n], ("bf16",)) for n in _WIDE] + [(models[n], ("fp8",)) for n in _FP8]
    found = []
    for model, formats in kinds:
        for gpu in known_gpus().values():
            for weights in formats:
                engine = _narrowest(model, gpu, weights)
                if engine is not None:
                    found.append((_name(engine), engine))
    return found


def _narrowest(model: Model, gpu: Gpu, weights: str) -> Engine | None:
    for ranks, stages in _RANKS:
        if stages > 1 and gpu.link < _NODES_LINK:
            continue
        engine = Engine(model, gpu, ranks, stages, weights=weights, max_num_batched_tokens=gpu.batched_tokens)
        try:
            check_engine(engine)
            if kv_tokens(engine) >= _LEAST_KV:
                return engine
        except LeadtimeError:
            continue
    return None


def _name(engine: Engine) -> str:
    model = engine.model
    suffix = "-fp8" if engine.weights != model.weights else ""
    stages = f"-pp{engine.pipeline_parallel}" if engine.pipeline_parallel > 1 else ""
    return f"{model.name}{suffix}/{engine.gpu.name}/tp{engine.tensor_parallel}{stages}"


def write_presets(folder: Path) -> list[str]:
    """Lines for people, one a preset. Errors: LeadtimeError."""
    lines = []
    for name, engine in chosen():
        path = folder / f"{name}.yaml"
        if path.exists() and "way" not in parse_profile(load_yaml(path.read_text(encoding="utf-8")), name).fit:
            lines.append(f"{name}: left as it is")
            continue
        made = make_profile(engine, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(profile_yaml(made.profile), encoding="utf-8")
        why = f" ({made.why})" if made.why else ""
        lines.append(f"{name}: {made.way}, worst error of a step {100 * made.error_fraction:.0f} %{why}")
    return lines


if __name__ == "__main__":
    print("\n".join(write_presets(Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER)))
