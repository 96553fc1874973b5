"""How many bytes a model's weights and KV take on each GPU, and how many tokens of KV are left.

The rule was judged against 84 starts of vLLM 0.15 to 0.19 on H100 (docs/profiles.md). Windows of sliding attention are
counted as vLLM counts them in its log: a layer with a window takes as much as one without. Not for step times.
"""

from __future__ import annotations

import math
from dataclasses import replace

from autoscaler.common.errors import InputError
from simulator.experiments.profiles.checks import ranks_refused
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.formats import FORMATS, KV_BYTES, WIDE_BYTES
from simulator.experiments.profiles.models import Model

GIB = 2**30
_CONTEXT_GIB = 0.6
"""CUDA's context and what torch keeps: what is left of 84 starts after logits, ranks and experts."""
_RANKS_GIB = 1.85
"""NCCL and the buffers of all-reduce, with more than one GPU."""
_EXPERTS_GIB = 0.5
_LOGIT_BYTES = 12
"""Three copies of the logits in 32 bits while vLLM finds out how much memory a step takes."""
_PAD = 256
"""Kernels of mxfp4 round the widths of experts up to a multiple of this (gpt-oss: 2,880 to 3,072)."""
_LEAST_TOKENS = 2048
"""Less KV than this serves nobody: no request with a prompt of some length fits beside another."""


def attention_parameters(model: Model) -> int:
    """Of one layer."""
    if model.latent is None:
        return model.hidden * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    m = model.latent
    query = model.hidden * m.q_rank + m.q_rank * model.heads * (m.nope + m.rope)
    key_value = model.hidden * (m.kv_rank + m.rope) + m.kv_rank * model.heads * (m.nope + m.value)
    return query + key_value + model.heads * m.value * model.hidden


def expert_parameters(model: Model, padded: bool = False) -> int:
    """Of one expert of one layer: gate, up and down; `padded` as the kernels of mxfp4 hold it."""
    if model.experts is None:
        return 0
    hidden, width = model.hidden, model.experts.intermediate
    if padded:
        hidden, width = (math.ceil(n / _PAD) * _PAD for n in (hidden, width))
    return 3 * hidden * width


def parameters(model: Model) -> int:
    """All of the text model's, embeddings and head included."""
    total = model.layers * attention_parameters(model)
    total += model.dense_layers * 3 * model.hidden * model.intermediate
    if model.experts:
        per_layer = model.experts.count * (expert_parameters(model) + model.hidden) + 3 * model.hidden * (
            model.experts.shared
        )
        total += model.experts.layers * per_layer
    return total + model.vocab * model.hidden * (1 if model.tied else 2)


def weight_bytes(engine: Engine) -> float:
    """Of one GPU, of the pipeline stage that holds most."""
    model, form = engine.model, FORMATS[engine.weights]
    narrow = form.bytes
    plain = WIDE_BYTES if form.experts_only else narrow
    layer = plain * attention_parameters(model)
    dense = plain * 3 * model.hidden * model.intermediate
    total = model.layers * layer + model.dense_layers * dense
    if model.experts:
        routed = model.experts.count * narrow * expert_parameters(model, padded=engine.weights == "mxfp4")
        shared = plain * 3 * model.hidden * model.experts.shared
        total += model.experts.layers * (routed + shared + WIDE_BYTES * model.hidden * model.experts.count)
    embeddings = WIDE_BYTES * model.vocab * model.hidden * (1 if model.tied or engine.pipeline_parallel > 1 else 2)
    stage = total * engine.stage_layers / model.layers
    return (stage + embeddings) / engine.tensor_parallel + WIDE_BYTES * model.vision_parameters


def all_weight_bytes(engine: Engine) -> float:
    """Of all GPUs of a replica: what a start reads."""
    return weight_bytes(engine) * engine.gpus


def kv_bytes_per_token(engine: Engine) -> int:
    """Of one token on one GPU: keys and values of its KV heads, or one latent vector that every rank holds whole."""
    model, of_number = engine.model, KV_BYTES[engine.kv]
    if model.latent:
        return engine.stage_layers * (model.latent.kv_rank + model.latent.rope) * of_number
    layer = 2 * engine.kv_heads * model.head_dim * of_number
    return _grouped_layers(engine) * layer


def _grouped_layers(engine: Engine) -> int:
    """Layers as vLLM's KV groups count them: groups of equal size, so that the last one is rounded up."""
    window = engine.model.window
    if window is None or not 0 < window.layers < engine.model.layers:
        return engine.stage_layers
    full = engine.model.layers - window.layers
    size = min(full, window.layers)
    layers = size * (math.ceil(full / size) + math.ceil(window.layers / size))
    return math.ceil(layers / engine.pipeline_parallel)


def working_bytes(engine: Engine) -> float:
    """What a step needs beside weights and KV, at its peak: activations of a full step, or the logits."""
    model, ranks = engine.model, engine.tensor_parallel
    width = model.intermediate
    if model.experts:
        width = max(
            width if model.dense_layers else 0,
            model.experts.per_token * model.experts.intermediate + model.experts.shared,
        )
    activations = engine.max_num_batched_tokens * WIDE_BYTES * (2 * model.hidden + 3 * width / ranks)
    logits = _LOGIT_BYTES * engine.max_num_seqs * model.vocab
    fixed = _CONTEXT_GIB + (_RANKS_GIB if ranks > 1 else 0.0) + (_EXPERTS_GIB if model.experts else 0.0)
    return max(activations, logits) + fixed * GIB


def kv_tokens(engine: Engine, block_size: int = 16) -> int:
    """Tokens of KV that fit, in whole blocks. Errors: InputError where the weights leave too little."""
    budget = engine.gpu_memory_utilization * engine.gpu.usable_gib * GIB
    weights, working = weight_bytes(engine), working_bytes(engine)
    tokens = int((budget - weights - working) // kv_bytes_per_token(engine))
    if tokens >= _LEAST_TOKENS:
        return tokens // block_size * block_size
    raise InputError(
        f"{engine.model.name} in {engine.weights} does not fit on {engine.gpus} x {engine.gpu.name}: "
        f"{weights / GIB:.1f} GiB of weights and {working / GIB:.1f} GiB of working memory on each GPU, of "
        f"{budget / GIB:.1f} GiB (--gpu-memory-utilization {engine.gpu_memory_utilization:g} of "
        f"{engine.gpu.usable_gib:g}), leave {max(tokens, 0):,} tokens of KV; allowed: at least {_LEAST_TOKENS:,}"
        f"{_what_fits(engine)}"
    )


def _what_fits(engine: Engine) -> str:
    """The least tensor parallelism that fits, in words."""
    budget = engine.gpu_memory_utilization * engine.gpu.usable_gib * GIB
    for ranks in (n for n in (2, 4, 8) if n > engine.tensor_parallel):
        wider = replace(engine, tensor_parallel=ranks, expert_parallel=1)
        if ranks_refused(wider):
            continue
        if budget - weight_bytes(wider) - working_bytes(wider) > _LEAST_TOKENS * kv_bytes_per_token(wider):
            return f" (--tp {ranks} has them)"
    return " (more --pp, a narrower --quantization, or a larger GPU)"
