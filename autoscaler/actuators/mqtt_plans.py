"""Publishes plans and whether we are there at an MQTT broker: for people, dashboards and other programs.

It writes nothing to any cluster. Only who leads publishes; what is published is retained and changes only when the plan
does. Only here, in mqtt_client.py and in sources/mqtt_hints.py is aiomqtt used.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import aiomqtt
import msgspec

from autoscaler.clients.mqtt import Backoff, MqttBroker, ReconnectingClient, topic_of
from autoscaler.clients.mqtt_client import Client
from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, DeploymentPlan, Outcome, Plan

ONLINE, OFFLINE = b"online", b"offline"
_FAREWELL_S = 2.0


class MqttPlansActuator(Actuator):
    """`{prefix}/plans/...` for each deployment and `{prefix}/status`; the broker itself says offline if we vanish."""

    name = "mqtt_plans"

    def __init__(self, broker: MqttBroker, backoff: Backoff | None = None) -> None:
        self._broker = broker
        self._status = f"{broker.prefix}/status"
        self._wanted: dict[str, bytes] = {}
        """Topic -> payload that should be there."""
        self._sent: dict[str, bytes] = {}
        self._said: dict[str, tuple[object, ...]] = {}
        """Topic -> what makes its plan another one."""
        self._news = asyncio.Event()
        self.link: ReconnectingClient[aiomqtt.Client] = ReconnectingClient(
            broker, self._client, self._publish, (aiomqtt.MqttError,), backoff or Backoff()
        )

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        """Take over what to publish; the connection does it beside the ticks. Who does not lead says nothing."""
        what = f"{self._broker.prefix}/plans"
        if not plan.leader:
            await self.link.stop()
            self._sent.clear()
            return Outcome(self.name, (Applied(self.name, what, "withheld", None, "does not lead"),))
        changed = self._take(plan, now_s)
        self.link.start()
        if changed:
            self._news.set()
        if not self.link.connected:
            return Outcome(self.name, (Applied(self.name, what, "unavailable", None, self.link.why),))
        return Outcome(self.name, (Applied(self.name, what, "ok" if changed else "unchanged"),))

    async def close(self) -> None:
        """Say goodbye: a connection that is ended properly leaves no last will."""
        await self.link.stop()

    def _take(self, plan: Plan, now_s: float) -> bool:
        """Whether anything is to be published that was not before."""
        changed = False
        topics = set()
        for one in plan.deployments:
            topic = topic_of(self._broker.prefix, "plans", one.key)
            topics.add(topic)
            essence = (one.target, one.blocked, plan.dry_run)
            if self._said.get(topic) != essence:
                self._said[topic] = essence
                self._wanted[topic] = _payload(plan, one, now_s)
                changed = True
        for topic in set(self._said) - topics:  # the deployment is gone: an empty retained payload clears its topic
            del self._said[topic]
            self._wanted[topic] = b""
            changed = True
        return changed

    def _client(self) -> aiomqtt.Client:
        return Client(
            **self._broker.connection("plans"),
            clean_session=True,
            protocol=aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(self._status, OFFLINE, qos=1, retain=True),
            max_queued_incoming_messages=10,
        )

    async def _publish(self, client: aiomqtt.Client) -> None:
        """A broker may have lost what is retained: each new connection publishes everything."""
        self._sent.clear()
        self._news.set()
        await client.subscribe(self._status, qos=1)
        await client.publish(self._status, ONLINE, qos=1, retain=True)
        self.link.up()
        watching = asyncio.create_task(self._stay_online(client))
        try:
            while not watching.done():
                waiting = asyncio.create_task(self._news.wait())
                await asyncio.wait((waiting, watching), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                self._news.clear()
                await self._send(client)
            await watching
        except asyncio.CancelledError:
            watching.cancel()  # or it would take our own farewell for somebody's late one
            with contextlib.suppress(TimeoutError, aiomqtt.MqttError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._send(client)
                    await client.publish(self._status, OFFLINE, qos=1, retain=True)
            raise
        finally:
            watching.cancel()

    async def _send(self, client: aiomqtt.Client) -> None:
        for topic, payload in list(self._wanted.items()):
            if self._sent.get(topic) != payload:
                await client.publish(topic, payload, qos=1, retain=True)
                self._sent[topic] = payload
            if not payload:
                self._wanted.pop(topic, None)
                self._sent.pop(topic, None)

    async def _stay_online(self, client: aiomqtt.Client) -> None:
        """Whoever led before us may say offline after we said online (its last will comes late)."""
        async for message in client.messages:
            if message.payload == OFFLINE:
                await client.publish(self._status, ONLINE, qos=1, retain=True)


def _payload(plan: Plan, one: DeploymentPlan, now_s: float) -> bytes:
    """Only what will be applied is a target; a dry run's is withheld."""
    acts = not plan.dry_run and one.blocked is None
    return msgspec.json.encode(
        {
            "version": 1,
            "deployment": str(one.key),
            "target": one.target if acts else None,
            "withheld": None if acts else one.target,
            "observed_target": one.observed_target,
            "dry_run": plan.dry_run,
            "issued_at": datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sentence": one.sentence,
        },
        order="sorted",
    )
