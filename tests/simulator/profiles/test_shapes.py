"""Shapes and their bytes: what a config.json says, what weights and KV take, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoscaler.common.errors import InputError
from simulator.experiments.profiles.checks import check_engine
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.gpus import find_gpu, known_gpus
from simulator.experiments.profiles.memory import GIB, kv_bytes_per_token, kv_tokens, parameters, weight_bytes
from simulator.experiments.profiles.models import find_model, known_models, parse_config

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


def engine(model: str, gpu: str = "h100", tp: int = 1, **more: Any) -> Engine:
    shape = find_model(model)
    return Engine(shape, find_gpu(gpu), tp, **({"weights": shape.weights} | more))


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("llama-3.1-8b", 8.03),
        ("llama-3.3-70b", 70.6),
        ("llama-3.1-405b", 405.9),
        ("qwen3-32b", 32.8),
        ("qwen3-30b-a3b", 30.5),
        ("qwen3-235b-a22b", 235.1),
        ("mixtral-8x7b", 46.7),
        ("mixtral-8x22b", 140.6),
        ("deepseek-v3", 671.0),
        ("gpt-oss-120b", 116.8),
        ("gemma-3-27b", 27.0),
        ("phi-4", 14.66),
        ("llama-4-scout", 107.8),
    ],
)
def test_a_models_parameters_are_what_its_publisher_says(model: str, billions: float) -> None:
    assert parameters(find_model(model)) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("made", "logged"),
    [  # bytes of a token on one GPU, by the KV cache and the tokens that vLLM 0.19 logged
        (engine("llama-3.1-8b"), 131_082),
        (engine("llama-3.1-8b", kv="fp8"), 65_539),
        (engine("llama-3.1-8b", tp=4), 32_769),
        (engine("llama-3.1-8b", pipeline_parallel=2), 66_443),
        (engine("qwen3-30b-a3b", tp=4), 24_576),
        (engine("gemma-3-12b"), 393_226),
        (engine("gemma-3-27b"), 573_583),
        (engine("gpt-oss-20b", tp=4), 12_288),
        (engine("phi-4", tp=2), 102_405),
    ],
)
def test_kv_bytes_of_a_token_are_what_vllm_logged(made: Engine, logged: int) -> None:
    assert kv_bytes_per_token(made) == pytest.approx(logged, rel=0.015)


def test_a_latent_cache_is_held_whole_on_every_rank() -> None:
    assert kv_bytes_per_token(engine("deepseek-v3", tp=8)) == kv_bytes_per_token(engine("deepseek-v3")) == 61 * 576 * 2


def test_more_ranks_than_kv_heads_hold_each_head_more_than_once() -> None:
    assert kv_bytes_per_token(engine("qwen3-30b-a3b", tp=8)) == kv_bytes_per_token(engine("qwen3-30b-a3b", tp=4))


@pytest.mark.parametrize(
    ("made", "logged_gib"),
    [  # weights on one GPU that vLLM 0.19 logged
        (engine("llama-3.1-8b"), 14.99),
        (engine("llama-3.1-8b", weights="fp8"), 8.49),
        (engine("llama-3.1-8b", weights="int4"), 5.38),
        (engine("llama-3.3-70b", tp=2, weights="fp8"), 33.88),
        (engine("phi-4"), 27.39),
        (engine("mistral-small-24b", tp=4), 11.86),
        (engine("mixtral-8x7b", tp=2), 43.51),
        (engine("qwen3-30b-a3b"), 56.88),
        (engine("gpt-oss-20b", tp=2), 7.01),
        (engine("llama-4-scout", tp=4), 53.12),
        (engine("gemma-3-27b"), 51.45),
    ],
)
def test_weights_take_what_vllm_logged(made: Engine, logged_gib: float) -> None:
    assert weight_bytes(made) / GIB == pytest.approx(logged_gib, rel=0.03)


@pytest.mark.parametrize(
    ("made", "logged"),
    [  # tokens of KV that vLLM 0.19 logged at 95 % of memory, with its own 1,024 sequences
        (engine("llama-3.1-8b"), 476_016),
        (engine("llama-3.1-8b", weights="fp8"), 529_248),
        (engine("llama-3.1-8b", tp=4), 2_209_792),
        (engine("llama-3.3-70b", tp=2, weights="fp8"), 244_304),
        (engine("llama-3.3-70b", tp=4, weights="fp8"), 708_992),
        (engine("qwen3-8b"), 418_688),
        (engine("phi-4"), 241_568),
        (engine("mixtral-8x7b", tp=2), 465_936),
        (engine("gemma-3-12b"), 130_304),
        (engine("qwen3-30b-a3b"), 168_288),
    ],
)
def test_kv_tokens_are_what_vllm_logged_within_five_percent(made: Engine, logged: int) -> None:
    as_run = replace(made, max_num_seqs=1024, gpu_memory_utilization=0.95)
    assert kv_tokens(as_run) == pytest.approx(logged, rel=0.05)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (engine("llama-3.1-8b", tp=3), "--tp: 3; allowed: what divides the 32 attention heads of llama-3.1-8b"),
        (engine("phi-4", tp=4), "--tp: 4; allowed: what divides the 10 KV heads of phi-4, or a multiple of them"),
        (engine("llama-3.1-8b", tp=16), "--tp: 16; allowed: 1 to 8, the GPUs of one node"),
        (engine("llama-3.1-8b", pipeline_parallel=33), "--pp: 33; allowed: 1 to 32, the layers of llama-3.1-8b"),
        (engine("llama-3.1-8b", tp=2, expert_parallel=2), "--ep: 2; allowed: 1, since llama-3.1-8b has no experts"),
        (engine("mixtral-8x7b", tp=4, expert_parallel=2), "--ep: 2; allowed: 1, or --tp (4)"),
        (
            engine("llama-3.1-8b", "a100", weights="fp8"),
            "--quantization: 'fp8' is nothing that a100 has; allowed: bf16",
        ),
        (engine("deepseek-v3", "a100", 8), "deepseek-v3: its weights: 'fp8-block' is nothing that a100 has"),
        (engine("llama-3.1-8b", weights="mxfp4"), "--quantization: 'mxfp4' is for experts, and llama-3.1-8b has none"),
        (engine("llama-3.1-8b", weights="fp5"), "--quantization: 'fp5'; allowed: bf16, fp8"),
        (engine("llama-3.1-8b", "a100", kv="fp8"), "--kv-dtype: 'fp8'; allowed on a100: bf16"),
        (engine("llama-3.1-8b", gpu_memory_utilization=1.2), "--gpu-memory-utilization: 1.2; allowed: 0.1 to 0.99"),
        (engine("llama-3.1-8b", max_num_seqs=0), "--max-num-seqs: 0; allowed: 1 to 8192"),
        (
            engine("llama-3.1-8b", max_num_batched_tokens=8),
            "--max-num-batched-tokens: 8; allowed: --max-num-seqs (256)",
        ),
    ],
)
def test_an_engine_that_cannot_be_is_refused_in_words(made: Engine, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_engine(made)
    assert str(caught.value).startswith(message)


def test_a_model_that_does_not_fit_is_told_what_would() -> None:
    with pytest.raises(
        InputError, match=r"llama-3.3-70b in bf16 does not fit on 1 x h100: 131.* allowed: .*--tp 2 has them"
    ):
        kv_tokens(engine("llama-3.3-70b"))
    with pytest.raises(InputError, match=r"more --pp, a narrower --quantization, or a larger GPU"):
        kv_tokens(engine("llama-3.1-405b", tp=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["RwkvForCausalLM"]}, "architectures: ['RwkvForCausalLM']; allowed: one of DeepseekV3For"),
        ({"architectures": []}, "architectures: []; allowed"),
        ({"hidden_size": None}, "hidden_size: missing; allowed: a whole number >= 1"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: -1; allowed: a whole number from 1"),
        ({"vocab_size": "many"}, "vocab_size: 'many'; allowed: a whole number"),
        ({"quantization_config": {"quant_method": "quip"}}, "quantization_config: quant_method 'quip' is not known"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "quantization_config: quant_method 'gptq'"),
    ],
)
def test_a_config_that_says_too_little_is_refused_by_key(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | change))
    with pytest.raises(InputError) as caught:
        find_model(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_config_json_gives_the_shape_that_the_table_has(tmp_path: Path) -> None:
    path = tmp_path / "my-model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    assert (
        find_model(str(path.parent))
        == find_model(str(path))
        == replace(known_models()["llama-3.1-8b"], name="my-model")
    )


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 8}}},
            },
            "int8",
        ),
    ],
)
def test_the_weights_format_is_read_from_the_config(config: dict[str, Any], weights: str) -> None:
    assert parse_config(CONFIG | {"quantization_config": config}, "m", "config.json").weights == weights


def test_a_name_that_is_published_and_one_with_a_typo() -> None:
    assert find_model("meta-llama/Llama-3.3-70B-Instruct").name == "llama-3.3-70b"
    with pytest.raises(InputError, match=r"MODEL: 'qwen3-32'; allowed: .*did you mean 'qwen3-32b'"):
        find_model("qwen3-32")
    with pytest.raises(InputError, match=r"--gpu: 'h10'; allowed: l4, l40s, a100, h100.*did you mean 'h100'"):
        find_gpu("h10")


def test_broken_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: cannot be read as JSON"):
        find_model(str(tmp_path / "config.json"))


def test_every_kind_of_gpu_knows_its_formats_arithmetic() -> None:
    for gpu in known_gpus().values():
        assert {"bf16"} <= set(gpu.formats)
        assert 0 < gpu.efficiency.weights <= 1
        assert set(gpu.efficiency.error_fraction) == {"decode", "prefill", "mixed"}
