"""One real local Ray Serve for all live tests, and a Runtime that is pointed at it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from autoscaler.actuators.ray_serve import RayServeActuator
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.core.build import new_controller
from autoscaler.core.types import ControllerConfig, DeploymentSettings, GuardSettings
from autoscaler.runtime.journal_file import JournalWriter
from autoscaler.runtime.loop import Runtime
from autoscaler.runtime.store import StateStore
from autoscaler.sources.node_metrics import NodeMetricsSource
from autoscaler.sources.ray_dashboard import RayDashboardSource
from policies.base import DeploymentKey
from tests.live.local_serve import LocalServe, local_serve
from tests.wanting import WantingPolicy

LLM = DeploymentKey.parse("chat/LLMServer:tiny")
INGRESS = DeploymentKey.parse("chat/OpenAiIngress")
AUTO = DeploymentKey.parse("auto/Autoscaled")

CHAT: Mapping[str, Any] = {
    "name": "chat", "route_prefix": "/chat", "import_path": "serve_app:build_chat", "args": {"init_s": 0.5},
    "external_scaler_enabled": True,
}  # fmt: skip
AUTOSCALED: Mapping[str, Any] = {
    "name": "auto", "route_prefix": "/auto", "import_path": "serve_app:build_auto", "external_scaler_enabled": True,
}  # fmt: skip


def skip_without_ray() -> None:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed (the extra `ray`)")


@pytest.fixture(scope="session")
def ray_serve() -> Iterator[LocalServe]:
    """The cluster, with both applications running one replica of each deployment."""
    skip_without_ray()
    with local_serve() as serve:
        serve.deploy(CHAT, AUTOSCALED)
        for key in (LLM, INGRESS, AUTO):
            serve.wait(f"{key} running", lambda k=key: serve.running(k.app, k.deployment) == 1)  # type: ignore[misc]
        yield serve


@pytest.fixture
def serve(ray_serve: LocalServe) -> LocalServe:
    """The cluster with every target back at 1, whatever the test before left."""
    ray_serve.deploy(CHAT, AUTOSCALED)
    ray_serve.wait("both applications listed", lambda: {"chat", "auto"} <= set(ray_serve.applications()))
    for key in (LLM, INGRESS):
        set_target(ray_serve, key, 1)
        ray_serve.wait(f"{key} at 1", lambda k=key: states(ray_serve, k) == ["RUNNING"])  # type: ignore[misc]
    return ray_serve


def states(serve: LocalServe, key: DeploymentKey) -> list[str]:
    """Of all replicas that there are, those that stop too: a handle may not know yet that they take nothing new."""
    return [replica["state"] for replica in serve.deployment(key.app, key.deployment).get("replicas", [])]


def set_target(serve: LocalServe, key: DeploymentKey, target: int) -> None:
    path = f"/api/v1/applications/{key.app}/deployments/{key.deployment}/scale"
    status, text = serve.request("POST", path, {"target_num_replicas": target})
    assert status == 200, text


@dataclass
class Running:
    """A runtime at work on the cluster."""

    runtime: Runtime
    policy: WantingPolicy
    folder: Path

    async def until(self, what: str, condition: Callable[[], bool], timeout_s: float = 120.0) -> float:
        """Seconds until `condition` held, looked at in a thread since it may ask the dashboard."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        while loop.time() - started_s < timeout_s:
            if await asyncio.to_thread(condition):
                return loop.time() - started_s
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {timeout_s:g} s: {what}; {self.runtime.telemetry.signals}")


@contextlib.asynccontextmanager
async def running(
    serve: LocalServe,
    folder: Path,
    policy: WantingPolicy,
    url: str | None = None,
    dry_run: bool = False,
    max_replicas: int = 4,
) -> AsyncIterator[Running]:
    """A Runtime over real sources and the real actuator, ticking twice a second."""
    config = ControllerConfig(
        deployments=(DeploymentSettings("*/*", min_replicas=0, max_replicas=max_replicas),),
        policy_name=policy.name,
        tick_s=0.5,
        dry_run=dry_run,
        guards=GuardSettings(stale_after_s=15.0, scale_down_stabilization_s=0.0, max_step_down=None),
    )

    def client() -> DashboardClient:
        return DashboardClient(url or serve.dashboard, timeout_s=2.0)

    runtime = Runtime(
        config,
        new_controller(config, None, policy),
        sources=[
            RayDashboardSource("ray/local", "default", "local", client()),
            NodeMetricsSource("metrics/local", "default", "local", client(), timeout_s=2.0),
        ],
        actuators=[RayServeActuator("ray_serve", "default", "local", client(), deadline_s=2.0)],
        store=StateStore(folder / "leadtime.sqlite"),
        journal_writer=JournalWriter(folder / "journal"),
    )
    task = asyncio.create_task(runtime.run())
    try:
        yield Running(runtime, policy, folder)
    finally:
        runtime.stop()
        await task


async def ask(serve: LocalServe, path: str, timeout_s: float = 120.0) -> int:
    """One request through Serve's proxy; its status."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(serve.http + path) as answer:
        await answer.read()
        return answer.status
