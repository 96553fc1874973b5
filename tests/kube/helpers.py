"""Small things that tests of the Kubernetes side share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import Configuration

from autoscaler.kubernetes.api import KubernetesApi
from tests.fakes.kubernetes.server import FakeApi


def client_of(api: FakeApi, token: str | None = None, **options: Any) -> KubernetesApi:
    """The product's client, talking to the fake server."""
    configuration = Configuration(host=api.url)
    if token is not None:
        configuration.api_key = {"BearerToken": f"bearer {token}"}
    return KubernetesApi(configuration, **{"timeout_s": 5.0, **options})


async def until(true: Callable[[], bool], limit_s: float = 60.0, every_s: float = 0.01) -> None:
    """Wait for something that happens on another thread or task; fails when it does not."""
    ends_at = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < ends_at, "it did not happen"
        await asyncio.sleep(every_s)


def kubeconfig(path: Path, server: str, token: str) -> Path:
    """A kubeconfig file with one context, `a`."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": token}}],
            }
        )
    )
    return path
