"""A small Ray dashboard in this process: Serve's application list, the scale API and metric targets, on loopback.

It answers as the recorded samples of Ray 2.60 do (`tests/contract/test_fake_dashboard.py` holds it to them), so that
adapters can be tested without Ray. Replicas are there at once; it computes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SWITCHED_OFF = (
    "Cannot update replicas for deployment '{deployment}' in application '{app}'. The external scaling API can only be "
    "used when 'external_scaler_enabled' is set to true in the application configuration. Current value: "
    "external_scaler_enabled=false. To use this API, redeploy your application with 'external_scaler_enabled: true' in "
    "the config."
)


@dataclass
class FakeDeployment:
    """One deployment; `target` is what the scale API sets and what the list shows."""

    target: int = 1
    configured: int = 1
    autoscaled: bool = False
    deleted: bool = False
    gpus: int = 0
    gang_size: int = 1


@dataclass
class FakeApplication:
    deployments: dict[str, FakeDeployment]
    external: bool = True


@dataclass
class FakeDashboard:
    """What the fake holds, how it misbehaves, and what it was asked."""

    applications: dict[str, FakeApplication] = field(default_factory=dict)
    token: str | None = None
    controller: bool = True
    hang: bool = False
    status: int | None = None
    """Answer everything with this status and `body`."""
    body: str = "garbage"
    metrics_pages: list[str] = field(default_factory=list)
    """`HOST:PORT` of the metric targets to list."""
    reads: int = 0
    posts: list[tuple[str, str, Any]] = field(default_factory=list)
    """(application, deployment, body) of every scale request, good or bad."""
    url: str = ""
    ray_version: str = "2.60.0"
    more_routes: list[web.RouteDef] = field(default_factory=list)
    """What else the head answers (the Jobs API)."""

    def of(self, app: str, deployment: str) -> FakeDeployment:
        return self.applications[app].deployments[deployment]

    @contextlib.asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeDashboard]:
        """Answer on a free port until the block ends."""
        application = web.Application(middlewares=[self._misbehave])
        application.add_routes(
            [
                web.get("/api/serve/applications/", self._applications),
                web.get("/api/prometheus/sd", self._targets),
                web.get("/api/version", self._version),
                web.post("/api/v1/applications/{app}/deployments/{deployment}/scale", self._scale),
            ]
        )
        application.add_routes(self.more_routes)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.hang:
            await asyncio.Event().wait()
        if self.status is not None:
            return web.Response(status=self.status, text=self.body, headers={"Location": "http://elsewhere/"})
        if self.token is not None:
            given = request.headers.get("Authorization")
            if given is None:
                return web.Response(status=401, text="Unauthorized: Missing authentication token")
            if given != f"Bearer {self.token}":
                return web.Response(status=403, text="Forbidden: Invalid authentication token")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _applications(self, request: web.Request) -> web.Response:
        self.reads += 1
        if not self.controller:
            return web.json_response(
                {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}
            )
        found = {name: self._application(name, app) for name, app in self.applications.items()}
        return web.json_response(
            {"controller_info": {"actor_name": "SERVE_CONTROLLER_ACTOR"}, "proxies": {}, "applications": found}
        )

    def _application(self, name: str, app: FakeApplication) -> Mapping[str, Any]:
        return {
            "name": name,
            "status": "RUNNING",
            "message": "",
            "external_scaler_enabled": app.external,
            "deployments": {
                dep_name: _deployment(name, dep_name, deployment) for dep_name, deployment in app.deployments.items()
            },
        }

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": self.ray_version, "ray_commit": "0" * 40})

    async def _targets(self, request: web.Request) -> web.Response:
        return web.json_response([{"labels": {"job": "ray"}, "targets": self.metrics_pages}])

    async def _scale(self, request: web.Request) -> web.Response:
        app, deployment = request.match_info["app"], request.match_info["deployment"]
        text = await request.text()
        try:
            body = json.loads(text)
        except ValueError as error:
            return _error(400, f"Invalid request body: {error}")
        self.posts.append((app, deployment, body))
        if not self.controller:
            return _error(503, "Serve controller is not available")
        wanted = _wanted(body)
        if wanted is None:
            return _error(400, "Invalid request body: 1 validation error for ScaleDeploymentRequest")
        found = self.applications.get(app)
        if found is None or deployment not in found.deployments:
            return _error(404, "Application or Deployment not found")
        if found.deployments[deployment].deleted:
            return _error(412, "Deployment is deleted")
        if not found.external:
            return _error(412, SWITCHED_OFF.format(app=app, deployment=deployment))
        found.deployments[deployment].target = wanted
        return web.json_response({"message": "Scaling request received. Deployment will get scaled asynchronously."})


def _wanted(body: object) -> int | None:
    value = body.get("target_num_replicas") if isinstance(body, dict) else None
    try:
        return int(value) if isinstance(value, int | str) and int(value) >= 0 else None
    except ValueError:
        return None


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _deployment(app: str, name: str, deployment: FakeDeployment) -> Mapping[str, Any]:
    config: dict[str, Any] = {"name": name, "max_ongoing_requests": 5}
    if deployment.autoscaled:
        config["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 3}
    else:
        config["num_replicas"] = deployment.configured
    return {
        "name": name,
        "status": "HEALTHY",
        "message": "",
        "deployment_config": config
        | ({"gang_scheduling_config": {"gang_size": deployment.gang_size}} if deployment.gang_size > 1 else {}),
        "target_num_replicas": deployment.target,
        "required_resources": {"CPU": 1, **({"GPU": deployment.gpus} if deployment.gpus else {})},
        "replicas": [
            {"replica_id": f"{name}-{i}", "state": "RUNNING", "start_time_s": 1.0, "node_id": "n", "worker_id": f"w{i}"}
            for i in range(deployment.target)
        ],
        "recent_dead_replicas": [],
    }
