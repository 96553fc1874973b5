"""Small applications for live tests: they sleep instead of computing. Imported by Ray's workers, not by tests."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ray import serve
from starlette.requests import Request


@serve.deployment(
    name="LLMServer:tiny", ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=2,
    graceful_shutdown_wait_loop_s=0.2, graceful_shutdown_timeout_s=5,
)  # fmt: skip
class LLMServer:
    """A colon in the name, as serve.llm's deployments have."""

    def __init__(self, init_s: float) -> None:
        time.sleep(init_s)

    async def __call__(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100, graceful_shutdown_wait_loop_s=0.2)
class OpenAiIngress:
    def __init__(self, engine: Any) -> None:
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

    async def __call__(self, request: Request) -> str:
        return "done"


def build_chat(args: dict[str, str]) -> Any:
    return OpenAiIngress.bind(LLMServer.bind(float(args.get("init_s", "0.5"))))


def build_auto(args: dict[str, str]) -> Any:
    return Autoscaled.bind()
