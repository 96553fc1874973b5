"""A broker for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.mqtt.broker import Mosquitto


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """Open to everybody, without encryption."""
    async for started in _started(Mosquitto(tmp_path / "broker")):
        yield started


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """TLS, passwords, rights by topic."""
    async for started in _started(Mosquitto(tmp_path / "broker", secured=True)):
        yield started


@pytest.fixture
async def durable(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    """Keeps sessions and what is retained when it restarts."""
    async for started in _started(Mosquitto(tmp_path / "broker", durable=True)):
        yield started


async def _started(broker: Mosquitto) -> AsyncIterator[Mosquitto]:
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
