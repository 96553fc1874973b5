"""Deployment keys and the reading of a forecast."""

from __future__ import annotations

import pytest

from policies.base import DeploymentKey, Forecast, PolicyError


def test_two_parts_mean_the_default_namespace_and_a_bare_ray() -> None:
    key = DeploymentKey.parse("chat/LLMServer:llama")
    assert key.full == "default/local/chat/LLMServer:llama"
    assert str(key) == "chat/LLMServer:llama"


@pytest.mark.parametrize("text", ["prod/rag/chat/llm", "chat/llm"])
def test_the_shortest_form_of_a_key_reads_back(text: str) -> None:
    assert str(DeploymentKey.parse(text)) == text
    assert DeploymentKey.parse(DeploymentKey.parse(text).full) == DeploymentKey.parse(text)


@pytest.mark.parametrize("text", ["", "llm", "a/b/c", "a//b/c", "a/b/c/d/e"])
def test_a_key_with_the_wrong_number_of_parts_is_refused_by_name(text: str) -> None:
    with pytest.raises(PolicyError, match="expected APP/DEPLOYMENT"):
        DeploymentKey.parse(text)


def test_a_pattern_stays_within_one_part() -> None:
    key = DeploymentKey.parse("prod/rag/chat/LLMServer:llama")
    assert key.matches("*/*/chat/LLMServer:*")
    assert key.matches("chat/*")
    assert not key.matches("prod/chat/*")
    assert not key.matches("*/*/*/VLLM*")


def test_a_forecast_is_interpolated_and_clamped_in_horizon_and_level() -> None:
    forecast = Forecast("f", 0.0, (10.0, 30.0), (0.5, 0.9), ((1.0, 2.0), (3.0, 6.0)), True)
    assert forecast.quantile(20.0, 0.7) == pytest.approx(3.0)
    assert forecast.quantile(5.0, 0.5) == 1.0
    assert forecast.quantile(99.0, 0.999) == 6.0
