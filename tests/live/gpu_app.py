"""A deployment whose replica wants half of a node's GPUs, which are only a number. Imported by Ray's workers."""

from __future__ import annotations

import time
from typing import Any

from ray import serve
from starlette.requests import Request


@serve.deployment(
    ray_actor_options={"num_gpus": 4, "num_cpus": 0.1}, graceful_shutdown_wait_loop_s=0.2, graceful_shutdown_timeout_s=2
)
class Model:
    def __init__(self) -> None:
        time.sleep(1)

    async def __call__(self, request: Request) -> str:
        return "done"


def build(args: dict[str, str]) -> Any:
    return Model.bind()
