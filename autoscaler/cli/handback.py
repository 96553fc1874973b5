"""`leadtime handback`: prints the YAML that returns a deployment to Ray Serve's own autoscaler. Changes nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from autoscaler.cli.controller_api import add_read_token_argument, add_url_argument, ask
from autoscaler.cli.text import say
from autoscaler.common.errors import InputError
from policies.base import DeploymentKey, PolicyError, whole_down, whole_up

DESCRIPTION = """\
Print the YAML that returns a deployment to Ray Serve's own autoscaler, with the limits and the level it has now.
It changes nothing: put it into the Serve config and deploy that. Whether Serve's autoscaler may act is a setting of
the whole application, so every deployment of it goes back at once."""
EXAMPLE = """
leadtime handback chat/llm
leadtime handback llm/chat-llm/chat/LLMServer:llama-70b --url http://127.0.0.1:8080
"""
_LLM, _DATA_PARALLEL = "LLMServer:", "DPServer:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the deployment, as `leadtime status` names it")
    add_url_argument(parser)
    add_read_token_argument(parser)


def run(args: argparse.Namespace) -> int:
    status = ask(args.url, "/api/v1/status", token_file=args.token_file, ca_file=args.ca_file)
    found: dict[str, Any] = status["deployments"]
    name = chosen(args.key, list(found))
    say(*handback_lines(name, found))
    return 0


def chosen(text: str, names: list[str]) -> str:
    """The deployment meant: by its whole key, or by the last two parts when only one has them. Errors: InputError."""
    from policies.options import nearest

    try:
        keys = [name for name in names if DeploymentKey.parse(name).matches(text)]
    except PolicyError as error:
        raise InputError(f"KEY: {text!r}: {error}") from None
    if len(keys) == 1:
        return keys[0]
    if keys:
        raise InputError(f"KEY: {text!r}: that is {len(keys)} of them; allowed: one of {', '.join(keys)}")
    raise InputError(
        f"KEY: {text!r}: the controller sees no such deployment{nearest(text, names)}; allowed: "
        f"{', '.join(names) or 'none, it sees no deployment'}"
    )


def handback_lines(name: str, deployments: dict[str, Any]) -> Iterator[str]:
    """The YAML, with what to do in comments."""
    key, seen = DeploymentKey.parse(name), deployments[name]
    scaling = _autoscaling(seen)
    yield f"# Returns {name} to Ray Serve's own autoscaler."
    if key.service == "local":
        yield "# Change these keys in the config that `serve deploy` gets, leave the others as they are, and deploy it."
    else:
        yield f"# Change these keys in spec.serveConfigV2 of RayService {key.service} in namespace {key.namespace},"
        yield "# leave the others as they are, and apply it."
    others = [n for n in deployments if n != name and _application(n) == _application(name)]
    if others:
        yield f"# The rest of the application goes to the num_replicas of the config: {', '.join(others)}."
    yield "# leadtime goes on observing and changes nothing there any more; setting it to true again brings it back."
    yield "applications:"
    yield f"- name: {json.dumps(key.app)}"
    yield "  external_scaler_enabled: false"
    if key.deployment.startswith(_LLM):
        yield "  args:"
        yield "    llm_configs:"
        yield f"    - # the entry of the model that Serve calls {key.deployment.removeprefix(_LLM)}"
        yield from _block("      deployment_config:", "        ", scaling)
    elif key.deployment.startswith(_DATA_PARALLEL):
        gang_size = _gang_size(seen)
        yield "  args:"
        yield f"    llm_config:  # serve.llm counts gangs of {gang_size} replicas here"
        gangs = {option: replicas // gang_size for option, replicas in scaling.items()}
        yield from _block("      deployment_config:", "        ", gangs)
    else:
        yield "  deployments:"
        yield from _block(f"  - name: {json.dumps(key.deployment)}", "    ", scaling)


def _block(head: str, indent: str, scaling: dict[str, int]) -> Iterator[str]:
    yield head
    yield f"{indent}# in place of num_replicas"
    yield f"{indent}autoscaling_config:"
    for option, value in scaling.items():
        yield f"{indent}  {option}: {value}"
    yield f"{indent}  # target_ongoing_requests: requests in flight for each replica; Serve's default is 2"


def _application(name: str) -> tuple[str, str, str]:
    key = DeploymentKey.parse(name)
    return (key.namespace, key.service, key.app)


def _autoscaling(seen: dict[str, Any]) -> dict[str, int]:
    """Limits as leadtime has them; it begins with the level that is there, so that nothing is thrown away.

    In whole gangs, as Serve demands it.
    """
    level, size = seen["replicas"]["target"], _gang_size(seen)
    limits = seen.get("limits")
    lowest, highest = (limits["min_replicas"], limits["max_replicas"]) if limits else (1, max(1, level or 1))
    lowest = whole_up(lowest, size)
    highest = max(whole_down(highest, size), lowest, size)
    scaling = {"min_replicas": lowest, "max_replicas": highest}
    if level is None:
        return scaling
    return {**scaling, "initial_replicas": min(max(whole_up(level, size), lowest), highest)}


def _gang_size(seen: dict[str, Any]) -> int:
    """As the controller says; 1 from one that does not."""
    found = seen.get("gang_size")
    return found if isinstance(found, int) and found > 1 else 1
