"""The source of announced demand: subscribes at an MQTT broker and keeps the book of hints (hint_messages.py).

It connects by itself, in the background, and again after every failure; hints that were heard stay in force until they
end or are withdrawn, whether the broker is there or not. Who leads takes over the release's session, which the broker
keeps while a pod is replaced; all others hear in passing, under a name of their own (docs/decisions/0035).
Only here, in mqtt_client.py and in actuators/mqtt_plans.py is aiomqtt used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import aiomqtt

from autoscaler.clients.mqtt import Backoff, MqttBroker, ReconnectingClient, RetryLater, namespace_of
from autoscaler.clients.mqtt_client import Client
from autoscaler.core.ports import Reading, Source
from autoscaler.sources.hint_messages import HintBook, Taken
from autoscaler.sources.readings import Hints

log = logging.getLogger("leadtime")

MOST_WAITING, MOST_WAITING_BYTES = 4000, 16 << 20
"""Messages that wait to be looked at; what comes beyond is dropped and counted. One namespace has a quarter."""
_SHARE = 4
_MOST_SUBJECTS = 1000
"""Topics of which it is remembered that they were complained of; one namespace has a twentieth."""
_SUBJECTS_SHARE = 20
_FIRST_READ_S = 5.0


class MqttHintsSource(Source):
    """`data` of its readings is `Hints`. `counts`: messages by what came of them, for the metrics."""

    name = "mqtt_hints"

    def __init__(
        self,
        broker: MqttBroker,
        counts: Counter[str] | None = None,
        now_s: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.book = HintBook(broker.prefix)
        self._broker = broker
        self._now_s = now_s
        self._complained: dict[str, set[str]] = {}
        """Topics by their namespace."""
        self._leads = leads
        self._as_release = False
        """Whether the connection is, or will be, that of the release's session."""
        self._another = asyncio.Event()
        self.link: ReconnectingClient[aiomqtt.Client] = ReconnectingClient(
            broker, self._client, self._listen, (aiomqtt.MqttError,), backoff or Backoff()
        )

    async def read(self, now_s: float) -> Reading:
        """What is in force now. Down while there is no connection, though what was heard still counts."""
        if self._takes_over() != self._as_release:
            self._another.set()
        self.link.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.link.tried.wait(), _FIRST_READ_S)
        hints = Hints(self.book.hints(now_s))
        return Reading(self.name, self.link.connected, now_s, hints, self.link.why)

    async def close(self) -> None:
        await self.link.stop()

    def _takes_over(self) -> bool:
        return self._broker.release is not None and self._leads()

    def _client(self) -> aiomqtt.Client:
        """A new connection. The release's session stays at the broker, which keeps for it what comes while nobody is
        there; of a process of its own the broker keeps nothing, or dead pods would leave sessions behind."""
        self._as_release = self._takes_over()
        self._another.clear()
        return Client(
            **self._broker.connection("hints", self._as_release),
            clean_session=not self._as_release,
            protocol=aiomqtt.ProtocolVersion.V311,
            max_queued_incoming_messages=MOST_WAITING,
            queue_type=cast(type[asyncio.Queue[aiomqtt.Message]], self._queue),
        )

    def _queue(self, maxsize: int) -> asyncio.Queue[aiomqtt.Message]:
        return _Bounded(maxsize, self.counts, self._broker.prefix)

    async def _listen(self, client: aiomqtt.Client) -> None:
        await client.subscribe(f"{self._broker.prefix}/hints/#", qos=1)
        self.link.up()
        hearing = asyncio.create_task(self._receive(client))
        another = asyncio.create_task(self._another.wait())
        try:
            await asyncio.wait((hearing, another), return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                return hearing.result()
            raise RetryLater  # leadership came or went
        finally:
            hearing.cancel()
            another.cancel()

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b"?"
            self._take(str(message.topic), payload)

    def _take(self, topic: str, payload: bytes) -> None:
        for taken in self.book.take(topic, payload, self._now_s()):
            self.counts[taken.result] += 1
            if taken.result in ("malformed", "too_many"):
                self._complain(topic, taken)

    def _complain(self, topic: str, taken: Taken) -> None:
        """Once for each topic, and of a namespace so often: a flood fills neither the log nor others' room in it."""
        namespace = namespace_of(self._broker.prefix, topic)
        known = self._complained.get(namespace, set())
        full = (
            len(known) >= _MOST_SUBJECTS // _SUBJECTS_SHARE
            or sum(map(len, self._complained.values())) >= _MOST_SUBJECTS
        )
        if topic not in known and not full:
            self._complained.setdefault(namespace, known).add(topic)
            log.warning("hint on %.200s ignored: %s (further ones on this topic are only counted)",
                        ascii(topic), taken.why)  # fmt: skip


class _Bounded(asyncio.Queue[aiomqtt.Message]):
    """Drops what does not fit, counted, without a line in the log for each. A namespace that floods drops its own."""

    def __init__(self, maxsize: int, counts: Counter[str], prefix: str) -> None:
        super().__init__(maxsize)
        self._counts, self._prefix = counts, prefix
        self._waiting: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def put_nowait(self, item: aiomqtt.Message) -> None:
        namespace, size = namespace_of(self._prefix, str(item.topic)), _size(item)
        full = self.full() or self._bytes.total() + size > MOST_WAITING_BYTES
        of_its_own = self._waiting[namespace] >= self.maxsize // _SHARE
        of_its_own |= self._bytes[namespace] + size > MOST_WAITING_BYTES // _SHARE
        if full or of_its_own:
            self._counts["dropped"] += 1
            return
        self._waiting[namespace] += 1
        self._bytes[namespace] += size
        super().put_nowait(item)

    def _get(self) -> aiomqtt.Message:
        item: aiomqtt.Message = super()._get()
        namespace = namespace_of(self._prefix, str(item.topic))
        self._waiting[namespace] -= 1
        self._bytes[namespace] -= _size(item)
        if not self._waiting[namespace]:
            del self._waiting[namespace], self._bytes[namespace]
        return item


def _size(message: aiomqtt.Message) -> int:
    return len(message.payload) if isinstance(message.payload, bytes) else 1
