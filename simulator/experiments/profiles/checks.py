"""Engines that cannot be: what vLLM, the GPU or the model refuses, in words. Not for memory (memory.py)."""

from __future__ import annotations

from autoscaler.common.errors import InputError
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.formats import FORMATS, KV_BYTES
from simulator.experiments.profiles.gpus import NODE_GPUS


def check_engine(engine: Engine) -> None:
    """Errors: InputError naming the option, what was said, and what is allowed."""
    _check_formats(engine)
    refused = ranks_refused(engine)
    if refused:
        raise InputError(refused)
    if not 0.1 <= engine.gpu_memory_utilization <= 0.99:
        said = f"{engine.gpu_memory_utilization:g}"
        raise InputError(f"--gpu-memory-utilization: {said}; allowed: 0.1 to 0.99")
    if not 1 <= engine.max_num_seqs <= 8192:
        raise InputError(f"--max-num-seqs: {engine.max_num_seqs}; allowed: 1 to 8192")
    if not engine.max_num_seqs <= engine.max_num_batched_tokens <= 131072:
        raise InputError(
            f"--max-num-batched-tokens: {engine.max_num_batched_tokens}; allowed: --max-num-seqs "
            f"({engine.max_num_seqs}) to 131072"
        )


def _check_formats(engine: Engine) -> None:
    gpu, model = engine.gpu, engine.model
    if engine.weights not in FORMATS:
        raise InputError(f"--quantization: {engine.weights!r}; allowed: {', '.join(gpu.formats)}")
    if engine.weights not in gpu.formats:
        where = "--quantization" if engine.weights != model.weights else f"{model.name}: its weights"
        raise InputError(
            f"{where}: {engine.weights!r} is nothing that {gpu.name} has; allowed: {', '.join(gpu.formats)}"
        )
    if FORMATS[engine.weights].experts_only and model.experts is None:
        allowed = ", ".join(name for name in gpu.formats if not FORMATS[name].experts_only)
        raise InputError(
            f"--quantization: {engine.weights!r} is for experts, and {model.name} has none; allowed: {allowed}"
        )
    if engine.kv not in KV_BYTES or engine.kv not in gpu.kv:
        raise InputError(f"--kv-dtype: {engine.kv!r}; allowed on {gpu.name}: {', '.join(gpu.kv)}")


def ranks_refused(engine: Engine) -> str | None:
    """Why this parallelism cannot be, in words; None where it can."""
    model, tp, pp, ep = engine.model, engine.tensor_parallel, engine.pipeline_parallel, engine.expert_parallel
    if not 1 <= tp <= NODE_GPUS:
        return f"--tp: {tp}; allowed: 1 to {NODE_GPUS}, the GPUs of one node"
    if not 1 <= pp <= model.layers:
        return f"--pp: {pp}; allowed: 1 to {model.layers}, the layers of {model.name}"
    if model.heads % tp:
        return f"--tp: {tp}; allowed: what divides the {model.heads} attention heads of {model.name}"
    if model.latent is None and model.kv_heads % tp and tp % model.kv_heads:
        return f"--tp: {tp}; allowed: what divides the {model.kv_heads} KV heads of {model.name}, or a multiple of them"
    if ep != 1:
        if model.experts is None:
            return f"--ep: {ep}; allowed: 1, since {model.name} has no experts"
        if ep != tp:
            return f"--ep: {ep}; allowed: 1, or --tp ({tp}): vLLM spreads experts over all ranks of a replica or none"
        if model.experts.count % ep:
            return f"--ep: {ep}; allowed: what divides the {model.experts.count} experts of {model.name}"
    return None
