"""Step times where no table has them: bytes over bandwidth and products over FLOPs, whichever takes longer.

Shares of the datasheet that are reached were measured by GPU family (gpus.yaml). Seconds of one step of one replica;
with pipeline stages, of all stages one after the other. Not for what the host adds (make.py).
"""

from __future__ import annotations

from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.formats import FORMATS, WIDE_BYTES
from simulator.experiments.profiles.gpus import Efficiency
from simulator.experiments.profiles.grid import Step
from simulator.experiments.profiles.memory import attention_parameters, expert_parameters, kv_bytes_per_token

_LINK_S = 6e-6
"""Of one all-reduce, whatever its size."""


def step_s(engine: Engine, step: Step, efficiency: Efficiency | None = None) -> float:
    """Seconds of GPU time; by the GPU's own measured efficiency without another one."""
    reached = efficiency or engine.gpu.efficiency
    return (
        _products_s(engine, step, reached)
        + _attention_s(engine, step, reached)
        + _exchange_s(engine, step)
        + engine.model.layers * reached.layer_s
    )


def touched_experts(count: int, per_token: int, tokens: int) -> float:
    """How many different experts `tokens` tokens use, if each picks `per_token` of `count` at random."""
    return float(count * (1.0 - (1.0 - per_token / count) ** tokens))


def _products_s(engine: Engine, step: Step, reached: Efficiency) -> float:
    """Weights are read once a step, and multiplied with every token; the head only with the last of each request."""
    model, form, ranks = engine.model, FORMATS[engine.weights], engine.tensor_parallel
    tokens = step.decodes + step.prefill
    plain = "bf16" if form.experts_only else engine.weights
    wide = model.layers * attention_parameters(model) + model.dense_layers * 3 * model.hidden * model.intermediate
    seconds = _longer_s(engine, reached, plain, wide / ranks, wide / ranks, tokens)
    if model.experts:
        mix = model.experts
        shared = mix.layers * 3 * model.hidden * mix.shared
        seconds += _longer_s(engine, reached, plain, shared / ranks, shared / ranks, tokens)
        one = mix.layers * expert_parameters(model)
        read = touched_experts(mix.count, mix.per_token, tokens) * one
        seconds += _longer_s(engine, reached, engine.weights, read / ranks, mix.per_token * one / ranks, tokens)
    head = model.vocab * model.hidden / ranks
    return seconds + _longer_s(engine, reached, "bf16", head, head, step.decodes + step.prompts)


def _longer_s(engine: Engine, reached: Efficiency, form: str, read: float, used: float, tokens: int) -> float:
    """`read` weights out of memory, or `used` of them multiplied with each of `tokens`: what takes longer."""
    kind = FORMATS[form]
    flops = engine.gpu.flops.get(kind.math, engine.gpu.flops["bf16"])
    memory_s = read * kind.bytes / (engine.gpu.bandwidth * reached.weights)
    return max(memory_s, 2.0 * used * tokens / (flops * reached.products))


def _attention_s(engine: Engine, step: Step, reached: Efficiency) -> float:
    """KV of the decodes is read; prompts multiply queries, keys and values."""
    model, ranks = engine.model, engine.tensor_parallel
    held, full = model.layers, float(model.layers)
    windowed = model.window.layers if model.window else 0
    per_layer = kv_bytes_per_token(engine) * engine.pipeline_parallel / held
    read = (held - windowed) * step.kv
    if model.window:
        read += windowed * step.decodes * min(step.context, model.window.tokens)
    seconds = per_layer * read / (engine.gpu.bandwidth * reached.kv)
    if step.prefill:
        seen = step.qk / step.prefill
        if model.window:
            full = (held - windowed) + windowed * min(1.0, model.window.tokens / max(seen, 1.0))
        wide = (model.latent.nope + model.latent.rope + model.latent.value) / 2 if model.latent else model.head_dim
        work = 4.0 * model.heads * wide * step.qk * full / ranks
        seconds += work / (engine.gpu.flops["bf16"] * reached.attention)
    return float(seconds)


def _exchange_s(engine: Engine, step: Step) -> float:
    """Two all-reduces a layer over the ranks; one hand-over between pipeline stages."""
    ranks, size = engine.tensor_parallel, WIDE_BYTES * engine.model.hidden * (step.decodes + step.prefill)
    between = (engine.pipeline_parallel - 1) * (_LINK_S + size / engine.gpu.link)
    if ranks == 1:
        return between
    once = _LINK_S + 2.0 * (ranks - 1) / ranks * size / engine.gpu.link
    return between + 2 * engine.model.layers * once
