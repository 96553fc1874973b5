"""Small applications for live tests: they sleep instead of computing. Imported by Ray's workers, not by tests."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray import serve
from starlette.requests import Request


def keep_to_loopback() -> None:
    """Have this replica's gRPC server, which Serve opens after our `__init__`, listen on the loopback alone.

    As the demo does (leadtime/demo/ray_app.py), which cannot be imported by another Ray's Python.
    """
    from ray.serve._private import replica

    name = "add_port_to_grpc_server"
    bind = getattr(replica, name, None)
    if bind is not None:
        setattr(replica, name, lambda server, address: bind(server, address.replace("[::]", "127.0.0.1")))


@serve.deployment(
    name="LLMServer:tiny", ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=2,
    graceful_shutdown_wait_loop_s=0.2, graceful_shutdown_timeout_s=5,
)  # fmt: skip
class LLMServer:
    """A colon in the name, as serve.llm's deployments have."""

    def __init__(self, init_s: float) -> None:
        keep_to_loopback()
        time.sleep(init_s)

    async def __call__(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100, graceful_shutdown_wait_loop_s=0.2)
class OpenAiIngress:
    def __init__(self, engine: Any) -> None:
        keep_to_loopback()
        self.engine = engine

    async def __call__(self, request: Request) -> str:
        answer: str = await self.engine.remote(float(request.query_params.get("seconds", "0.1")))
        return answer


@serve.deployment(
    ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=4, graceful_shutdown_wait_loop_s=0.2,
    autoscaling_config={"min_replicas": 1, "max_replicas": 3, "downscale_delay_s": 2},
)  # fmt: skip
class Autoscaled:
    """Its own autoscaling_config comes from code: Serve accepts that beside an external scaler, and they fight."""

    def __init__(self) -> None:
        keep_to_loopback()

    async def __call__(self, request: Request) -> str:
        return "done"


@serve.deployment(ray_actor_options={"num_cpus": 0.05}, graceful_shutdown_wait_loop_s=0.2)
class Member:
    """Of a gang: its configuration says of how many."""

    def __init__(self) -> None:
        keep_to_loopback()

    async def __call__(self, request: Request) -> str:
        return "done"


def build_gangs(args: dict[str, str]) -> Any:
    return Member.bind()


def build_chat(args: dict[str, str]) -> Any:
    return OpenAiIngress.bind(LLMServer.bind(float(args.get("init_s", "0.5"))))


def build_auto(args: dict[str, str]) -> Any:
    return Autoscaled.bind()
