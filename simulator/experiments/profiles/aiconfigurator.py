"""Step times by the tables of GPU operations in NVIDIA's `aiconfigurator-core` (an extra: `leadtime[tables]`).

It sums measured times of the operations of a step. This is the one file that knows the package: it is handed a shape
as a config.json that it understands, and asked for steps. What it has no table for is said, and nothing is made up.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscaler.common.errors import LeadtimeError
from autoscaler.common.extras import install
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.grid import Step
from simulator.experiments.profiles.models import Model

PACKAGE = "aiconfigurator-core"
_BACKEND = "vllm"


class NotCovered(LeadtimeError):
    """The tables do not answer for this engine: the message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Tables:
    """`seconds` of a step, and where they come from: package, version, licence, the vLLM that was measured."""

    seconds: Callable[[Step], float]
    version: str
    licence: str
    measured: str


_PRODUCTS = {"bf16": "bfloat16", "fp8": "fp8", "fp8-block": "fp8_block", "int8": "sq", "int4": "int4_wo"}
_PRODUCTS |= {"mxfp4": "bfloat16", "nvfp4": "nvfp4"}
_EXPERTS = {"bf16": "bfloat16", "fp8": "fp8", "fp8-block": "fp8_block", "int4": "int4_wo", "nvfp4": "nvfp4"}
_EXPERTS |= {"mxfp4": "w4a16_mxfp4"}
_KV = {"bf16": "bfloat16", "fp8": "fp8"}


def installed_version() -> str | None:
    """None where the package is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def tables(engine: Engine) -> Tables:
    """The tables' answers for this engine. Errors: NotCovered."""
    version = installed_version()
    if version is None:
        raise NotCovered(f"{PACKAGE} is not installed ({install('tables')})")
    if engine.gpu.tables is None:
        raise NotCovered(f"{PACKAGE} {version} has no measurements of {engine.gpu.name}")
    if engine.model.experts and engine.weights not in _EXPERTS:
        raise NotCovered(f"{PACKAGE} {version} has no experts in {engine.weights}")
    with _quiet():
        try:
            handle, measured = _compiled(engine)
        except Exception as error:  # it raises many kinds, ValueError and AssertionError among them
            raise NotCovered(f"{PACKAGE} {version}: {_short(error)}") from error
    return Tables(_answers(handle, version), version, _licence(), measured)


def _answers(handle: Any, version: str) -> Callable[[Step], float]:
    def seconds(step: Step) -> float:
        try:
            with _quiet():
                found_ms = _step_ms(handle, step)
        except Exception as error:
            raise NotCovered(f"{PACKAGE} {version}: {_short(error)}") from error
        if not 0 < found_ms < 1e6:
            raise NotCovered(f"{PACKAGE} {version}: a step of {found_ms} ms")
        return found_ms / 1e3

    return seconds


def _step_ms(handle: Any, step: Step) -> float:
    """A decode step's KV is its prompt and half of what is generated; so context - 1 and two tokens."""
    if not step.prompts:
        return float(handle.decode_step_latency(step.decodes, max(step.context - 1, 1), 2))
    if not step.decodes:
        return float(handle.predict_prefill_latency(step.prompts, step.tokens + step.cached, step.cached))
    # Here decodes have the prompt's length and half of their output as context.
    output = 2 * max(step.context - step.tokens, 1)
    return float(handle.mixed_step_breakdown(step.prefill, step.decodes, step.tokens, output, 0)[0])


def _compiled(engine: Engine) -> tuple[Any, str]:
    from aiconfigurator_core.sdk.engine import EngineHandle
    from aiconfigurator_core.sdk.perf_database import resolve_query_version

    system = engine.gpu.tables
    ranks, spread = engine.tensor_parallel, engine.expert_parallel
    words: dict[str, Any] = {
        "tp_size": ranks,
        "gemm_quant_mode": _PRODUCTS[engine.weights],
        "kvcache_quant_mode": _KV[engine.kv],
        "fmha_quant_mode": "bfloat16",
    }
    if engine.model.experts:
        words |= {"moe_tp_size": ranks // spread, "moe_ep_size": spread, "moe_quant_mode": _EXPERTS[engine.weights]}
    with tempfile.TemporaryDirectory(prefix="leadtime-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(_config(engine.model)), encoding="utf-8")
        handle = EngineHandle.compile(folder, system, _BACKEND, **words)
    return handle, f"vLLM {resolve_query_version(system, _BACKEND, 'current')}"


def _config(model: Model) -> dict[str, Any]:
    """The shape in the keys of an architecture that the package knows and that has the same operations."""
    config: dict[str, Any] = {
        "architectures": [_like(model)],
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.intermediate,
        "vocab_size": model.vocab,
        "max_position_embeddings": model.max_model_len,
    }
    if model.latent:
        m = model.latent
        config |= {"q_lora_rank": m.q_rank, "kv_lora_rank": m.kv_rank, "qk_nope_head_dim": m.nope}
        config |= {"qk_rope_head_dim": m.rope, "v_head_dim": m.value}
    if model.experts:
        mix = model.experts
        config |= {"num_experts_per_tok": mix.per_token, "moe_intermediate_size": mix.intermediate}
        if model.architecture.startswith("Llama4"):
            config |= {"num_local_experts": mix.count, "intermediate_size": mix.intermediate}
            config |= {"intermediate_size_mlp": model.intermediate, "use_qk_norm": True}
            config |= {"interleave_moe_layer_step": model.layers // mix.layers, "attention_chunk_size": 8192}
            return {"architectures": config.pop("architectures"), "text_config": config}
        if model.latent:
            config |= {"n_routed_experts": mix.count, "n_shared_experts": max(mix.shared // mix.intermediate, 0)}
            config |= {"first_k_dense_replace": model.dense_layers, "moe_layer_freq": 1}
        else:
            config |= {"num_local_experts": mix.count}
    if model.window:
        config |= {"sliding_window": model.window.tokens}
    return config


def _like(model: Model) -> str:
    if model.experts:
        return model.architecture
    return "Qwen3ForCausalLM" if model.architecture.startswith(("Qwen3", "Gemma3")) else "LlamaForCausalLM"


def _licence() -> str:
    said = importlib.metadata.metadata(PACKAGE).json.get("license_expression")
    return str(said) if said else "licence not said"


def _short(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:160]}" if words else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's log lines and warnings: what matters is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
