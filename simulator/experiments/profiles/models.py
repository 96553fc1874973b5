"""Shapes of models: from a `config.json` as model hubs publish it, or from the table of known ones (models.yaml).

Only what step times and memory follow from is read. A config that does not say it, or says it in a way that is not
known here, is refused by file, key and value. Not for how many bytes a shape takes (memory.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autoscaler.common.errors import InputError
from policies.options import nearest
from policies.yaml_core import load_yaml
from simulator.experiments.profiles.formats import FORMATS

_TABLE = Path(__file__).with_name("models.yaml")
_MOST_BYTES = 4_000_000
_LARGEST = 100_000_000

DENSE = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Mistral3ForConditionalGeneration",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Phi3ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3ForConditionalGeneration",
    }
)
EXPERTS = frozenset(
    {
        "MixtralForCausalLM",
        "Qwen3MoeForCausalLM",
        "DeepseekV3ForCausalLM",
        "GptOssForCausalLM",
        "Llama4ForCausalLM",
        "Llama4ForConditionalGeneration",
    }
)


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture: `count` experts of width `intermediate`, `per_token` of them for each token, in `layers` layers.

    `shared`: width of the experts that every token takes (0 where there are none).
    """

    count: int
    per_token: int
    intermediate: int
    layers: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: one compressed KV vector a token, for all heads."""

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True, slots=True)
class Window:
    """`layers` of the model's layers attend to the last `tokens` only."""

    tokens: int
    layers: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model's shape; `intermediate`: width of its dense layers; `weights`: the format it is published in."""

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_model_len: int
    weights: str
    tied: bool = False
    experts: Experts | None = None
    latent: Latent | None = None
    window: Window | None = None
    vision_parameters: int = 0

    @property
    def dense_layers(self) -> int:
        """Layers with an MLP that every token takes whole."""
        return self.layers - (self.experts.layers if self.experts else 0)


@cache
def known_models() -> Mapping[str, Model]:
    """Every model of the table, by its short name."""
    table = load_yaml(_TABLE.read_text(encoding="utf-8"))
    return {name: parse_config(entry["config"], name, _TABLE.name) for name, entry in table.items()}


@cache
def _aliases() -> Mapping[str, str]:
    table = load_yaml(_TABLE.read_text(encoding="utf-8"))
    return {also.lower(): name for name, entry in table.items() for also in entry["also"]}


def find_model(said: str) -> Model:
    """A model by its name, the name it is published under, or the path of its config.json (or of the folder of it).

    Errors: InputError naming what was said and what there is, or the file, key and value.
    """
    name = _aliases().get(said.lower(), said.lower())
    if name in known_models():
        return known_models()[name]
    path = Path(said)
    path = path / "config.json" if path.is_dir() else path
    if path.suffix == ".json":
        return parse_config(_read(path), _name_of(path), str(path))
    known = [*known_models(), *_aliases()]
    raise InputError(
        f"MODEL: {said!r}; allowed: the path of a config.json, or one of {', '.join(known_models())}"
        f"{nearest(said.lower(), known)}"
    )


def _name_of(path: Path) -> str:
    return path.resolve().parent.name.lower() if path.name == "config.json" else path.stem.lower()


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: larger than {_MOST_BYTES:,} bytes; allowed: the config.json of a model")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error


# ---------------------------------------------------------------- config.json


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of one config, with the file for errors."""

    source: str
    values: Mapping[str, Any]

    def number(self, *names: str, default: int | None = None, least: int = 1) -> int:
        name = next((n for n in names if self.values.get(n) is not None), names[0])
        value = self.values.get(name, default)
        if value is None and default is not None:
            value = default
        if value is None:
            raise InputError(f"{self.source}: {name}: missing; allowed: a whole number >= {least}")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
            raise InputError(f"{self.source}: {name}: {value!r}; allowed: a whole number from {least} to {_LARGEST}")
        return value

    def says(self, name: str) -> bool:
        return self.values.get(name) not in (None, 0, False, [])


def parse_config(data: Any, name: str, source: str) -> Model:
    """The shape that a config.json describes. Errors: InputError naming `source`, key, value, what is allowed."""
    if not isinstance(data, Mapping):
        raise InputError(f"{source}: expected a JSON object, not {type(data).__name__}")
    architecture = _architecture(data, source)
    text = data.get("text_config") or data
    if not isinstance(text, Mapping):
        raise InputError(f"{source}: text_config: {text!r}; allowed: an object")
    keys = _Keys(source, text)
    hidden, heads = keys.number("hidden_size"), keys.number("num_attention_heads")
    layers = keys.number("num_hidden_layers")
    head_dim = keys.number("head_dim", default=max(hidden // heads, 1))
    experts = _experts(keys, architecture, layers)
    latent = _latent(keys) if keys.says("kv_lora_rank") else None
    gemma = architecture.startswith("Gemma3")
    return Model(
        name=name,
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=keys.number("num_key_value_heads", default=heads),
        head_dim=head_dim,
        intermediate=keys.number("intermediate_size_mlp", "intermediate_size"),
        vocab=keys.number("vocab_size"),
        max_model_len=keys.number("max_position_embeddings"),
        weights=_weights(data.get("quantization_config") or text.get("quantization_config"), source),
        tied=bool(text.get("tie_word_embeddings", gemma)),
        experts=experts,
        latent=latent,
        window=_window(keys, architecture, layers),
        vision_parameters=_vision(data.get("vision_config"), source),
    )


def _architecture(data: Mapping[str, Any], source: str) -> str:
    said = data.get("architectures")
    first = said[0] if isinstance(said, list) and said else None
    known = sorted(DENSE | EXPERTS)
    if first not in known:
        hint = nearest(str(first), known)
        raise InputError(f"{source}: architectures: {said!r}; allowed: one of {', '.join(known)}{hint}")
    return str(first)


def _experts(keys: _Keys, architecture: str, layers: int) -> Experts | None:
    if architecture not in EXPERTS:
        return None
    count = keys.number("num_local_experts", "n_routed_experts", "num_experts")
    per_token = keys.number("num_experts_per_tok", "experts_per_token")
    if per_token > count:
        raise InputError(f"{keys.source}: num_experts_per_tok: {per_token}; allowed: at most its {count} experts")
    every = keys.number("interleave_moe_layer_step", default=1)
    with_experts = (layers - keys.number("first_k_dense_replace", default=0, least=0)) // every
    width = keys.number("moe_intermediate_size", "intermediate_size")
    shared = width * keys.number("n_shared_experts", default=0, least=0)
    if architecture.startswith("Llama4"):
        shared = width
    if with_experts < 1:
        raise InputError(f"{keys.source}: no layer has experts (num_hidden_layers {layers}); allowed: at least one")
    return Experts(count, per_token, width, with_experts, shared)


def _latent(keys: _Keys) -> Latent:
    names = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    return Latent(*(keys.number(name) for name in names))


def _window(keys: _Keys, architecture: str, layers: int) -> Window | None:
    """Layers with a window: by the pattern that the architecture has. One for all layers is taken as none."""
    kinds = keys.values.get("layer_types")
    if architecture.startswith("Llama4"):
        tokens, every = keys.number("attention_chunk_size", default=8192), 4
    elif architecture.startswith("Gemma3"):
        tokens, every = keys.number("sliding_window"), keys.number("sliding_window_pattern", default=6)
    elif architecture == "GptOssForCausalLM":
        tokens, every = keys.number("sliding_window"), 2
    else:
        return None
    if isinstance(kinds, list) and kinds:
        return Window(tokens, sum(kind != "full_attention" for kind in kinds))
    return Window(tokens, layers - layers // every)


def _vision(config: Any, source: str) -> int:
    """Parameters of the image encoder, attention and MLP of each layer; 0 without one."""
    if config is None:
        return 0
    if not isinstance(config, Mapping):
        raise InputError(f"{source}: vision_config: {config!r}; allowed: an object")
    keys = _Keys(f"{source}: vision_config", config)
    hidden = keys.number("hidden_size")
    per_layer = 4 * hidden**2 + 2 * hidden * keys.number("intermediate_size", default=4 * hidden)
    return per_layer * keys.number("num_hidden_layers", "depth")


def _weights(config: Any, source: str) -> str:
    """The weights' format by a `quantization_config`; bf16 without one."""
    if not config:
        return "bf16"
    if not isinstance(config, Mapping):
        raise InputError(f"{source}: quantization_config: {config!r}; allowed: an object")
    method = str(config.get("quant_method") or config.get("quant_algo") or "").lower()
    if method == "modelopt":
        method = str(config.get("quant_algo") or "").lower()
    found = {"awq": "int4", "gptq": "int4", "mxfp4": "mxfp4", "nvfp4": "nvfp4", "fp8": "fp8"}.get(method)
    if method in ("awq", "gptq") and config.get("bits", 4) != 4:
        found = None
    if method == "fp8" and config.get("weight_block_size"):
        found = "fp8-block"
    if method == "compressed-tensors":
        found = _compressed(config)
    if found is None:
        raise InputError(
            f"{source}: quantization_config: quant_method {method!r} is not known here; allowed: awq and gptq of 4 "
            f"bits, fp8, mxfp4, modelopt FP8 or NVFP4, compressed-tensors of these; or say --quantization "
            f"({', '.join(FORMATS)})"
        )
    return found


def _compressed(config: Mapping[str, Any]) -> str | None:
    groups = config.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return None
    kind = (weights.get("type"), weights.get("num_bits"))
    if kind == ("float", 8):
        return "fp8-block" if weights.get("strategy") == "block" else "fp8"
    names: dict[Any, str] = {("int", 8): "int8", ("int", 4): "int4", ("float", 4): "nvfp4"}
    return names.get(kind)
