"""What a Serve config says of its applications before Serve itself answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.sources.serve_config import ServeApp, llm_deployment_name, parse_serve_config
from tests.fakes.kubernetes.objects import SERVE_CONFIG


def one(text: str) -> ServeApp:
    (app,) = parse_serve_config(text)
    return app


def test_a_serve_llm_app_names_its_models_and_their_gpus() -> None:
    app = one(SERVE_CONFIG)

    assert (app.name, app.external_scaler_enabled, app.refused) == ("chat", True, None)
    (deployment,) = app.deployments
    assert (deployment.name, deployment.gpus_per_replica, deployment.num_replicas) == ("LLMServer:llama-70b", 4.0, 1)


def test_tensor_and_pipeline_parallelism_multiply_and_bundles_win() -> None:
    config = """
applications:
- import_path: ray.serve.llm:build_openai_app
  args:
    llm_configs:
    - model_loading_config: {model_id: meta/llama.3}
      engine_kwargs: {tensor_parallel_size: 4, pipeline_parallel_size: 2}
    - model_loading_config: {model_id: small}
      placement_group_config: {bundles: [{CPU: 1, GPU: 1}, {GPU: 1}]}
    - model_loading_config: {model_id: default}
"""
    app = one(config)

    assert app.name == "default"
    assert [(d.name, d.gpus_per_replica) for d in app.deployments] == [
        ("LLMServer:meta--llama_3", 8.0),
        ("LLMServer:small", 2.0),
        ("LLMServer:default", 1.0),
    ]


def test_a_data_parallel_application_has_one_deployment_of_single_replicas() -> None:
    """Its config counts gangs; Serve, and the scale API, count their members."""
    config = """
applications:
- name: wide
  import_path: ray.serve.llm:build_dp_openai_app
  args:
    llm_config:
      model_loading_config: {model_id: deepseek}
      engine_kwargs: {data_parallel_size: 4, tensor_parallel_size: 2}
      deployment_config: {num_replicas: 2}
"""
    app = one(config)
    assert app.refused is None
    assert [(d.name, d.gpus_per_replica, d.num_replicas) for d in app.deployments] == [("DPServer:deepseek", 2.0, 8)]


@pytest.mark.parametrize("size", ["many", "-4", "1" + "0" * 30])
def test_a_size_of_gangs_that_is_none_leaves_the_replicas_unknown(size: str) -> None:
    engine = f"engine_kwargs: {{data_parallel_size: {size}}}, deployment_config: {{num_replicas: 2}}"
    config = f"{{model_loading_config: {{model_id: a}}, {engine}}}"
    app = one(f"applications: [{{import_path: 'x:build_dp_openai_app', args: {{llm_config: {config}}}}}]")
    assert [d.num_replicas for d in app.deployments] == [None]


def test_plain_deployments_name_their_gpus_or_leave_them_unknown() -> None:
    config = """
applications:
- name: a
  import_path: my.module:app
  deployments:
  - {name: Model, ray_actor_options: {num_gpus: 0.5}, num_replicas: 3}
  - {name: Wide, placement_group_bundles: [{GPU: 1}, {GPU: 1}]}
  - {name: Ingress, num_replicas: auto}
"""
    assert [(d.name, d.gpus_per_replica, d.num_replicas) for d in one(config).deployments] == [
        ("Model", 0.5, 3),
        ("Wide", 2.0, None),
        ("Ingress", None, None),
    ]


@pytest.mark.parametrize(
    ("app", "word"),
    [
        ("{import_path: 'ray.serve.llm:build_pd_openai_app'}", "prefill"),
        (
            "{import_path: 'ray.serve.llm:build_openai_app', args: {llm_configs: [{model_loading_config: {model_id: a},"
            " lora_config: {max_num_adapters_per_replica: 4}}]}}",
            "LoRA",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_the_reason(app: str, word: str) -> None:
    refused = one(f"applications: [{app}]").refused

    assert refused is not None
    assert word in refused


@pytest.mark.parametrize("text", ["", "[", "applications: 3", "a: *b", "applications: [1, null]", "x" * 2_000_000])
def test_a_text_that_is_no_config_says_nothing(text: str) -> None:
    assert parse_serve_config(text) == ()


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text: str) -> None:
    parse_serve_config("applications:\n- " + text)


def test_the_name_of_a_models_deployment() -> None:
    assert llm_deployment_name("Qwen/Qwen2.5-7B") == "LLMServer:Qwen--Qwen2_5-7B"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\napplications: [{name: *b}]",
        f"applications: [{{name: {':'.join('1' * 2000)}}}]",
        "applications: [" + "{name: a}," * 10_000 + "]",
    ],
)
def test_a_text_that_is_small_and_stands_for_much_is_no_config(text: str) -> None:
    assert parse_serve_config(text) == ()


def test_a_name_that_is_no_text_is_no_name() -> None:
    [app] = parse_serve_config("applications: [{name: [a, b], import_path: {a: b}}]")
    assert app.name == "default"
