"""Events written to the fake API server, which checks them as the real group does."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoscaler.kubernetes.events import EventBook, EventLimits, EventWriter, Notice, ObjectRef
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault, when
from tests.kube.helpers import client_of

REF = ObjectRef("RayService", "llm", "chat-llm", "u1")
NOTICE = Notice(REF, "ClampedByMax", "chat/x: 9 -> 8: replicas.max is 8", "chat/x max", warning=True)


class Now:
    now_s = 1_770_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def writer(api: FakeApi) -> AsyncIterator[tuple[EventWriter, Now]]:
    client, now = client_of(api), Now()
    yield EventWriter(client, "leadtime-0", EventBook(EventLimits(repeat_every_s=60)), now_s=now, timeout_s=60), now
    await client.close()


def events(api: FakeApi) -> list[Any]:
    return list(api.all("events.k8s.io/v1", "Event"))


async def test_an_event_is_written_and_its_repetitions_are_counted(
    api: FakeApi, writer: tuple[EventWriter, Now]
) -> None:
    made, now = writer
    for _ in range(30):
        made.tell([NOTICE])
        await made.flush()
        now.now_s += 5

    (event,) = events(api)
    assert (event["reason"], event["type"], event["note"]) == ("ClampedByMax", "Warning", NOTICE.note)
    assert event["regarding"]["name"] == "chat-llm"
    assert event["series"]["count"] == 25
    assert [r.verb for r in api.traffic.writes()] == ["create", "patch", "patch"]
    assert made.failed == 0


async def test_a_counted_event_that_the_server_forgot_is_written_again(
    api: FakeApi, writer: tuple[EventWriter, Now]
) -> None:
    made, now = writer
    made.tell([NOTICE])
    await made.flush()
    api.remove(events(api)[0])
    now.now_s += 61
    made.tell([NOTICE])
    await made.flush()

    assert len(events(api)) == 1


async def test_a_failure_is_counted_logged_once_and_never_raised(
    api: FakeApi, writer: tuple[EventWriter, Now], caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = writer
    api.traffic.hooks.append(when(fault=Fault(status=403)))
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            made.tell([Notice(REF, "Scaled", "", str(number))])
            await made.flush()

    assert made.failed == 3
    assert len(caplog.records) == 1
    api.traffic.hooks.clear()
    made.tell([Notice(REF, "Scaled", "", "0")])
    await made.flush()
    assert len(events(api)) == 1


async def test_a_full_queue_drops_and_says_how_much(api: FakeApi) -> None:
    client = client_of(api)
    limits = EventLimits(burst=1000, burst_per_object=1000)
    made = EventWriter(client, "leadtime-0", EventBook(limits), now_s=Now(), most_waiting=5)
    made.tell(Notice(REF, "Scaled", "", str(number)) for number in range(12))
    await made.flush()
    await client.close()

    assert (made.dropped, len(events(api))) == (7, 5)
