"""An application whose deployment has leadtime's policy in its autoscaling_config. Imported by Ray's workers."""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.requests import Request


@serve.deployment(
    ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100, graceful_shutdown_wait_loop_s=0.2,
    autoscaling_config={"min_replicas": 1, "max_replicas": 1},
)  # fmt: skip
class Model:
    """Its autoscaling_config comes from the Serve config."""

    async def __call__(self, request: Request) -> str:
        await asyncio.sleep(float(request.query_params.get("seconds", "0.1")))
        return "done"


def build(args: dict[str, str]) -> Any:
    return Model.bind()
