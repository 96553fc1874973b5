"""The source of announced demand: subscribes at an MQTT broker and keeps the book of hints (hint_messages.py).

It connects by itself, in the background, and again after every failure; hints that were heard stay in force until they
end or are withdrawn, whether the broker is there or not. Only here and in actuators/mqtt_plans.py is aiomqtt used.
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

from autoscaler.mqtt_link import Backoff, Link, MqttBroker
from autoscaler.ports import Reading
from autoscaler.sources.hint_messages import HintBook, Taken
from autoscaler.sources.readings import Hints

log = logging.getLogger("leadtime")

MOST_WAITING = 1000
"""Messages that wait to be looked at; what comes beyond is dropped and counted."""
_MOST_SUBJECTS = 1000
"""Topics of which it is remembered that they were complained of."""
_FIRST_READ_S = 5.0


class MqttHintsSource:
    """`data` of its readings is `Hints`. `counts`: messages by what came of them, for the metrics."""

    name = "mqtt_hints"

    def __init__(
        self,
        broker: MqttBroker,
        counts: Counter[str] | None = None,
        now_s: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.book = HintBook(broker.prefix)
        self._broker = broker
        self._now_s = now_s
        self._complained: set[str] = set()
        self.link: Link[aiomqtt.Client] = Link(
            broker, self._client, self._listen, (aiomqtt.MqttError,), backoff or Backoff()
        )

    async def read(self, now_s: float) -> Reading:
        """What is in force now. Down while there is no connection, though what was heard still counts."""
        self.link.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.link.tried.wait(), _FIRST_READ_S)
        hints = Hints(self.book.hints(now_s))
        return Reading(self.name, self.link.connected, now_s, hints, self.link.why)

    async def close(self) -> None:
        await self.link.stop()

    def _client(self) -> aiomqtt.Client:
        """A new connection; the broker keeps what comes while we are away, since the identifier stays."""
        return aiomqtt.Client(
            **self._broker.connection("hints"),
            clean_session=False,
            protocol=aiomqtt.ProtocolVersion.V311,
            max_queued_incoming_messages=MOST_WAITING,
            queue_type=cast(type[asyncio.Queue[aiomqtt.Message]], self._queue),
        )

    def _queue(self, maxsize: int) -> asyncio.Queue[aiomqtt.Message]:
        return _Bounded(maxsize, self.counts)

    async def _listen(self, client: aiomqtt.Client) -> None:
        await client.subscribe(f"{self._broker.prefix}/hints/#", qos=1)
        self.link.up()
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b"?"
            self._take(str(message.topic), payload)

    def _take(self, topic: str, payload: bytes) -> None:
        for taken in self.book.take(topic, payload, self._now_s()):
            self.counts[taken.result] += 1
            if taken.result in ("malformed", "too_many"):
                self._complain(topic, taken)

    def _complain(self, topic: str, taken: Taken) -> None:
        """Once for each topic: whoever floods a topic does not flood the log."""
        if topic not in self._complained and len(self._complained) < _MOST_SUBJECTS:
            self._complained.add(topic)
            log.warning("hint on %.200s ignored: %s (further ones on this topic are only counted)",
                        ascii(topic), taken.why)  # fmt: skip


class _Bounded(asyncio.Queue[aiomqtt.Message]):
    """Drops what does not fit, counted, without a line in the log for each."""

    def __init__(self, maxsize: int, counts: Counter[str]) -> None:
        super().__init__(maxsize)
        self._counts = counts

    def put_nowait(self, item: aiomqtt.Message) -> None:
        if self.full():
            self._counts["dropped"] += 1
        else:
            super().put_nowait(item)
