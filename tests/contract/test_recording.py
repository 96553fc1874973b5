"""The recording actuator under the suite of all actuators, and what it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from autoscaler.actuators.recording import RecordingActuator
from policies.base import DeploymentKey
from tests.contract.actuator_contract import ActuatorContract, apply, plan_of


@dataclass
class RecordedWorld:
    """Nothing but the records: every level stays 1."""

    actuator: RecordingActuator = field(default_factory=RecordingActuator)
    key: DeploymentKey = DeploymentKey.parse("chat/llm")
    other: DeploymentKey = DeploymentKey.parse("chat/other")
    unknown: DeploymentKey = DeploymentKey.parse("chat/unknown")
    acts: bool = False

    async def target(self, key: DeploymentKey) -> int:
        return 1


@pytest.fixture
def world() -> RecordedWorld:
    return RecordedWorld()


class TestRecordingActuator(ActuatorContract):
    async def test_it_keeps_what_it_would_have_written(self, world: RecordedWorld) -> None:
        await apply(world, plan_of((world.key, 3, 1), (world.other, 1, 1)))
        assert [(one.what, one.value) for one in world.actuator.recorded] == [("chat/llm", 3)]

    async def test_it_keeps_no_more_than_it_was_told(self, world: RecordedWorld) -> None:
        world.actuator = RecordingActuator(keep=2)
        for target in (2, 3, 4):
            await apply(world, plan_of((world.key, target, 1)))
        assert [one.value for one in world.actuator.recorded] == [3, 4]
