"""What a Serve config (`serveConfigV2`) says of its applications, as far as it can be known without running it.

Pure. GPUs per replica and the reasons why leadtime leaves an application alone (guard 11); all of it is a hint for the
time before Serve's own API answers, which counts then. Not for validating the config: Serve does that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from autoscaler.common.fields import MOST_COUNT, clean, count, number

_LONGEST = 65_536
"""Characters of a config that is looked into; of a longer one Serve's API tells all the same, a little later."""
_SIXTIES = re.compile(r"\d(:[0-5]?\d){8}")
"""What YAML 1.1 reads as a number in base 60: of many digits it takes quadratic time."""
_LLM_BUILDERS = {"build_openai_app": "LLMServer", "build_dp_openai_app": "DPServer"}
"""Builder of serve.llm -> the class of its deployments, with which their names begin. The replicas of a `DPServer` are
gangs of `data_parallel_size`, as Serve's API says.
"""
_REFUSED_BUILDERS = {
    "build_pd_openai_app": "prefill and decode are separate deployments, which leadtime cannot weigh yet",
}


@dataclass(frozen=True, slots=True)
class ServeDeployment:
    """One deployment of an application as its config names it."""

    name: str
    gpus_per_replica: float | None = None
    """None: the config does not say."""
    num_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class ServeApp:
    """One application."""

    name: str
    external_scaler_enabled: bool = False
    deployments: tuple[ServeDeployment, ...] = ()
    refused: str | None = None
    """Why leadtime leaves it alone."""


@lru_cache(maxsize=1024)
def parse_serve_config(text: str) -> tuple[ServeApp, ...]:
    """The applications; empty for a text that is no Serve config."""
    if not text or len(text) > _LONGEST or _SIXTIES.search(text):
        return ()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            return ()  # a few hundred characters of aliases can stand for gigabytes
        config = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return ()
    apps = config.get("applications") if isinstance(config, Mapping) else None
    return tuple(_app(app) for app in apps if isinstance(app, Mapping)) if isinstance(apps, list) else ()


def llm_deployment_name(model_id: str, of_class: str = "LLMServer") -> str:
    """The name that serve.llm gives to a model's deployment."""
    return f"{of_class}:" + clean(model_id).replace("/", "--").replace(".", "_")


def _app(app: Mapping[str, Any]) -> ServeApp:
    builder = _text(app.get("import_path")).rpartition(":")[2]
    of_class = _LLM_BUILDERS.get(builder)
    deployments = {d.name: d for d in _llm_deployments(app, of_class)} if of_class is not None else {}
    deployments.update({d.name: d for d in map(_deployment, _maps(app.get("deployments"))) if d.name})
    return ServeApp(
        name=clean(_text(app.get("name")) or "default"),
        external_scaler_enabled=app.get("external_scaler_enabled") is True,
        deployments=tuple(deployments.values()),
        refused=_REFUSED_BUILDERS.get(builder) or _many_adapters(app),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _deployment(entry: Mapping[str, Any]) -> ServeDeployment:
    options = entry.get("ray_actor_options")
    gpus = _number(options.get("num_gpus")) if isinstance(options, Mapping) else None
    bundles = _bundle_gpus(entry.get("placement_group_bundles"))
    return ServeDeployment(clean(_text(entry.get("name"))), bundles if bundles is not None else gpus, _replicas(entry))


def _llm_deployments(app: Mapping[str, Any], of_class: str) -> list[ServeDeployment]:
    """One per model; a config that stands in a file of its own is not seen from here.

    Where replicas are gangs the config counts gangs: Serve has `data_parallel_size` times as many replicas.
    """
    found = []
    for config in _llm_configs(app):
        loading, engine = config.get("model_loading_config"), config.get("engine_kwargs")
        model = loading.get("model_id") if isinstance(loading, Mapping) else None
        if not isinstance(model, str):
            continue
        engine = engine if isinstance(engine, Mapping) else {}
        placement = config.get("placement_group_config")
        bundles = _bundle_gpus(placement.get("bundles")) if isinstance(placement, Mapping) else None
        sizes = [_number(engine.get(key, 1)) for key in ("tensor_parallel_size", "pipeline_parallel_size")]
        product = None if None in sizes else float((sizes[0] or 1) * (sizes[1] or 1))
        deployment = config.get("deployment_config")
        replicas = _replicas(deployment) if isinstance(deployment, Mapping) else None
        if of_class == "DPServer" and replicas is not None:
            gang_size = count(engine.get("data_parallel_size", 1))
            replicas = None if gang_size is None else count(replicas * gang_size)
        gpus = bundles if bundles is not None else product
        found.append(ServeDeployment(llm_deployment_name(model, of_class), gpus, replicas))
    return found


def _llm_configs(app: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    args = app.get("args")
    return _maps(args.get("llm_configs")) + _maps([args.get("llm_config")]) if isinstance(args, Mapping) else []


def _many_adapters(app: Mapping[str, Any]) -> str | None:
    if any(isinstance(config.get("lora_config"), Mapping) for config in _llm_configs(app)):
        return "LoRA adapters share its replicas by routes that leadtime does not see yet"
    return None


def _bundle_gpus(bundles: Any) -> float | None:
    listed = _maps(bundles)
    return sum(_number(bundle.get("GPU", 0)) or 0.0 for bundle in listed) if listed else None


def _replicas(entry: Mapping[str, Any]) -> int | None:
    return count(entry.get("num_replicas"))


def _number(value: Any) -> float | None:
    return number(value, 0.0, MOST_COUNT)


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
