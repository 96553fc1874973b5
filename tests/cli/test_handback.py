"""`leadtime handback` prints YAML that Serve takes, with the limits and the level of now."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from autoscaler.cli.handback import chosen, handback_lines
from autoscaler.common.errors import InputError

LLM = "llm/chat-llm/chat/LLMServer:llama-70b"


def seen(target: int | None, limits: tuple[int, int] | None = (1, 8)) -> dict[str, Any]:
    given = None if limits is None else {"min_replicas": limits[0], "max_replicas": limits[1]}
    return {"replicas": {"target": target}, "limits": given}


def printed(name: str, deployments: dict[str, Any]) -> tuple[Any, str]:
    text = "\n".join(handback_lines(name, deployments))
    return yaml.safe_load(text), text


def test_it_is_a_part_of_a_serve_config_with_limits_and_level() -> None:
    config, text = printed("chat/llm", {"chat/llm": seen(5), "chat/extra": seen(1), "other/llm": seen(1)})
    (app,) = config["applications"]
    assert (app["name"], app["external_scaler_enabled"]) == ("chat", False)
    scaling = {"min_replicas": 1, "max_replicas": 8, "initial_replicas": 5}
    assert app["deployments"] == [{"name": "llm", "autoscaling_config": scaling}]
    assert "goes to the num_replicas of the config: chat/extra." in text


def test_a_model_of_serve_llm_is_changed_in_its_llm_config() -> None:
    config, text = printed(LLM, {LLM: seen(None, None)})
    (model,) = config["applications"][0]["args"]["llm_configs"]
    assert model["deployment_config"] == {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}
    assert "spec.serveConfigV2 of RayService chat-llm in namespace llm" in text


def test_a_level_outside_of_the_limits_is_brought_inside() -> None:
    config, _ = printed("chat/llm", {"chat/llm": seen(9)})
    assert config["applications"][0]["deployments"][0]["autoscaling_config"]["initial_replicas"] == 8


def test_a_deployment_of_gangs_gets_whole_gangs() -> None:
    config, _ = printed(
        "chat/llm", {"chat/llm": {**seen(8), "limits": {"min_replicas": 1, "max_replicas": 11}, "gang_size": 4}}
    )
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    assert scaling == {"min_replicas": 4, "max_replicas": 8, "initial_replicas": 8}


def test_a_data_parallel_model_is_changed_in_its_llm_config_which_counts_gangs() -> None:
    name = "llm/wide/chat/DPServer:deepseek"
    config, _ = printed(name, {name: {**seen(8, (4, 12)), "gang_size": 4}})
    model = config["applications"][0]["args"]["llm_config"]
    scaling = {"min_replicas": 1, "max_replicas": 3, "initial_replicas": 2}
    assert model == {"deployment_config": {"autoscaling_config": scaling}}


def test_a_deployment_is_named_by_two_parts_when_only_one_has_them() -> None:
    names = [LLM, "chat/llm", "b/s/chat/llm"]
    assert chosen(LLM, names) == LLM
    assert chosen("chat/LLMServer:llama-70b", names) == LLM
    with pytest.raises(InputError, match="that is 2 of them"):
        chosen("chat/llm", names)
    with pytest.raises(InputError, match="no such deployment; did you mean 'chat/llm'"):
        chosen("chat/lm", ["chat/llm"])
