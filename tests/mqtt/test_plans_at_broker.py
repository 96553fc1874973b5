"""Plans and the controller's status as somebody at a real broker sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from autoscaler.actuators.mqtt_plans import MqttPlansActuator
from autoscaler.clients.mqtt import MqttBroker
from autoscaler.core.types import DeploymentPlan, Outcome, Plan
from policies.base import DeploymentKey
from tests.mqtt.broker import Mosquitto, quick, until
from tests.mqtt.messages import KEY, NOW_S

PLAN_TOPIC = "leadtime/plans/default/local/chat/LLMServer%3Allama"
OTHER = DeploymentKey.parse("chat/other")


def plan(*targets: int | None, dry_run: bool = False, leader: bool = True, blocked: str | None = None) -> Plan:
    """One deployment for each target: KEY, then OTHER."""
    deployments = tuple(
        DeploymentPlan(key, target, 1, target, blocked=blocked, sentence=f"stays at {target}")
        for key, target in zip((KEY, OTHER), targets, strict=False)
    )
    return Plan(1, NOW_S, leader, dry_run, deployments)


def outcome(found: Outcome) -> str:
    (applied,) = found.applied
    return applied.outcome


class Watcher:
    """Everything under the prefix that reached somebody else, by topic, in order."""

    def __init__(self) -> None:
        self.seen: dict[str, list[bytes]] = {}

    def last(self, topic: str) -> bytes | None:
        found = self.seen.get(topic)
        return found[-1] if found else None

    def plan(self, topic: str = PLAN_TOPIC) -> Any:
        found = self.last(topic)
        return json.loads(found) if found else None


@asynccontextmanager
async def watching(broker: Mosquitto) -> AsyncIterator[Watcher]:
    watcher, ready = Watcher(), asyncio.Event()

    async def watch() -> None:
        async with broker.client() as client:
            await client.subscribe("leadtime/status", qos=1)
            await client.subscribe("leadtime/plans/#", qos=1)
            ready.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                watcher.seen.setdefault(str(message.topic), []).append(message.payload)

    task = asyncio.create_task(watch())
    await asyncio.wait_for(ready.wait(), 60)
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait((task,))


@asynccontextmanager
async def publishing(settings: MqttBroker) -> AsyncIterator[MqttPlansActuator]:
    actuator = MqttPlansActuator(settings, backoff=quick())
    try:
        yield actuator
    finally:
        await actuator.close()


async def test_a_plan_is_published_with_its_reason_over_tls(secured: Mosquitto) -> None:
    async with watching(secured) as watcher, publishing(secured.settings()) as actuator:
        await actuator.apply(plan(3), NOW_S)
        await until(lambda: watcher.plan())
        assert watcher.plan() == {
            "version": 1,
            "deployment": "chat/LLMServer:llama",
            "target": 3,
            "withheld": None,
            "observed_target": 1,
            "dry_run": False,
            "issued_at": "2027-01-15T08:00:00.000Z",
            "sentence": "stays at 3",
        }
        assert watcher.last("leadtime/status") == b"online"


async def test_it_is_published_when_it_changes_and_is_there_for_who_comes_later(broker: Mosquitto) -> None:
    async with publishing(broker.settings()) as actuator:
        async with watching(broker) as watcher:
            outcomes = []
            for target in (3, 3, 3, 4, 4):
                outcomes.append(outcome(await actuator.apply(plan(target, 1), NOW_S)))
                await until(lambda: watcher.plan() and watcher.plan()["target"] == target)  # noqa: B023
            assert outcomes == ["unavailable", "unchanged", "unchanged", "ok", "unchanged"]
            assert len(watcher.seen[PLAN_TOPIC]) == 2
        async with watching(broker) as later:
            await until(lambda: later.plan())
            assert later.plan()["target"] == 4


async def test_a_dry_run_and_a_blocked_plan_have_no_target_to_follow(broker: Mosquitto) -> None:
    async with watching(broker) as watcher, publishing(broker.settings()) as actuator:
        await actuator.apply(plan(3, dry_run=True), NOW_S)
        await until(lambda: watcher.plan())
        assert (watcher.plan()["target"], watcher.plan()["withheld"], watcher.plan()["dry_run"]) == (None, 3, True)
        await actuator.apply(plan(3, blocked="Serve's own autoscaler works on it"), NOW_S)
        await until(lambda: not watcher.plan()["dry_run"])
        assert (watcher.plan()["target"], watcher.plan()["withheld"]) == (None, 3)


async def test_a_deployment_that_is_gone_leaves_nothing_behind(broker: Mosquitto) -> None:
    other = "leadtime/plans/default/local/chat/other"
    async with publishing(broker.settings()) as actuator:
        async with watching(broker) as watcher:
            await actuator.apply(plan(3, 5), NOW_S)
            await until(lambda: watcher.last(other))
            await actuator.apply(plan(3), NOW_S)
            await until(lambda: watcher.last(other) == b"")
            assert watcher.plan()["target"] == 3
        async with watching(broker) as later:
            await until(lambda: later.plan())
            assert other not in later.seen


async def test_who_does_not_lead_says_nothing_and_who_begins_to_lead_says_all(broker: Mosquitto) -> None:
    async with watching(broker) as watcher, publishing(broker.settings()) as actuator:
        assert outcome(await actuator.apply(plan(3, leader=False), NOW_S)) == "withheld"
        assert actuator.link.connections == 0
        await actuator.apply(plan(4), NOW_S)
        await until(lambda: watcher.plan())
        assert watcher.plan()["target"] == 4
        await actuator.apply(plan(5, leader=False), NOW_S)
        await until(lambda: watcher.last("leadtime/status") == b"offline")
        assert [json.loads(one)["target"] for one in watcher.seen[PLAN_TOPIC]] == [4]


async def test_the_status_is_offline_after_a_proper_end(broker: Mosquitto) -> None:
    async with watching(broker) as watcher:
        async with publishing(broker.settings()) as actuator:
            await actuator.apply(plan(3), NOW_S)
            await until(lambda: watcher.last("leadtime/status") == b"online")
        await until(lambda: watcher.last("leadtime/status") == b"offline")


async def test_the_last_will_says_offline_when_the_connection_is_lost(broker: Mosquitto) -> None:
    async with watching(broker) as watcher, publishing(broker.settings()) as actuator:
        await actuator.apply(plan(3), NOW_S)
        await until(lambda: watcher.last("leadtime/status") == b"online")
        # Another client with our name makes the broker cut us off, as a vanished process would be.
        await broker_takes_over(broker, "pod-0-plans")
        await until(lambda: watcher.seen["leadtime/status"][:2] == [b"online", b"offline"])
        await until(lambda: watcher.last("leadtime/status") == b"online")


async def broker_takes_over(broker: Mosquitto, identifier: str) -> None:
    import aiomqtt

    async with aiomqtt.Client("127.0.0.1", broker.port, identifier=identifier):
        pass


async def test_the_late_last_will_of_who_led_before_does_not_stay(broker: Mosquitto) -> None:
    async with watching(broker) as watcher, publishing(broker.settings()) as actuator:
        await actuator.apply(plan(3), NOW_S)
        await until(lambda: watcher.last("leadtime/status") == b"online")
        await broker.publish("leadtime/status", b"offline", retain=True)
        await until(lambda: watcher.seen["leadtime/status"] == [b"online", b"offline", b"online"])


async def test_after_a_restart_that_forgot_everything_all_is_published_again(broker: Mosquitto) -> None:
    async with publishing(broker.settings()) as actuator:
        await actuator.apply(plan(3), NOW_S)
        await until(lambda: actuator.link.connected)
        await broker.stop()
        await until(lambda: not actuator.link.connected)
        assert outcome(await actuator.apply(plan(4), NOW_S)) == "unavailable"
        await broker.start()
        async with watching(broker) as watcher:
            await until(lambda: watcher.plan() and watcher.plan()["target"] == 4)
            assert watcher.last("leadtime/status") == b"online"


@pytest.mark.parametrize("rights", ["", "topic read leadtime/#\n"])
async def test_without_the_right_to_write_nothing_breaks(secured: Mosquitto, rights: str) -> None:
    (secured.folder / "acl").write_text(f"user admin\ntopic readwrite #\nuser leadtime\n{rights}")
    await secured.stop()
    await secured.start()
    async with watching(secured) as watcher, publishing(secured.settings()) as actuator:
        await actuator.apply(plan(3), NOW_S)
        await until(lambda: actuator.link.connected)
        assert outcome(await actuator.apply(plan(3), NOW_S)) == "unchanged"
        assert watcher.seen == {}


async def test_a_broker_that_hangs_does_not_hold_the_tick_nor_the_end(broker: Mosquitto) -> None:
    import signal

    assert broker.process is not None
    actuator = MqttPlansActuator(broker.settings(timeout_s=600.0), backoff=quick())
    await actuator.apply(plan(3), NOW_S)
    await until(lambda: actuator.link.connected)
    broker.process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            await actuator.apply(plan(4), NOW_S)
        async with asyncio.timeout(60):
            await actuator.close()
    finally:
        broker.process.send_signal(signal.SIGCONT)
