"""What the worlds of the ways that write to the Kubernetes API share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from autoscaler.actuators.prewarm import PrewarmActuator, Refusal
from autoscaler.kubernetes.api import KubernetesApi
from tests.fakes.kubernetes.server import FakeApi
from tests.kube.helpers import client_of

LABELS = {"leadtime.dev/prewarm": "h100"}


@dataclass
class KubernetesWorld:
    """A fake Kubernetes API with a way on it."""

    api: FakeApi
    client: KubernetesApi
    another: Callable[[], PrewarmActuator] = field(init=False)
    actuator: PrewarmActuator = field(init=False)
    refused: list[Refusal] = field(default_factory=list)
    service: tuple[str, str] = ("llm", "chat-llm")
    spare: bool = True

    async def writes(self) -> int:
        return len(self.api.traffic.writes())

    async def settle(self) -> None:
        """What is written is there at once."""


@asynccontextmanager
async def api_with(
    *objects: Mapping[str, Any], crds: Iterable[Mapping[str, Any]] = (), namespaces: tuple[str, ...] = ("lt",)
) -> AsyncIterator[tuple[FakeApi, KubernetesApi]]:
    with FakeApi(crds=crds, namespaces=namespaces) as api:
        for obj in objects:
            api.add(dict(obj))
        client = client_of(api)
        try:
            yield api, client
        finally:
            await client.close()
