"""The source of hints against a real mosquitto: TLS, passwords, rights, floods, restarts and lost connections."""

from __future__ import annotations

import asyncio
import logging
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from autoscaler.clients.mqtt import Backoff, MqttBroker
from autoscaler.core.types import Hint
from autoscaler.sources.hint_messages import MOST_PER_DEPLOYMENT, MOST_PER_NAMESPACE
from autoscaler.sources.mqtt_hints import MOST_WAITING, MqttHintsSource
from autoscaler.sources.readings import Hints
from tests.mqtt.broker import ADMIN, PASSWORD, Mosquitto, quick, until
from tests.mqtt.messages import KEY, TOPIC, message

OTHER = "leadtime/hints/default/local/chat/other"


@asynccontextmanager
async def listening(settings: MqttBroker, leads: Callable[[], bool] = lambda: True) -> AsyncIterator[MqttHintsSource]:
    source = MqttHintsSource(settings, backoff=quick(), leads=leads)
    reading = await source.read(time.time())
    assert (reading.up, reading.why) == (True, ""), reading.why
    try:
        yield source
    finally:
        await source.close()


def hint_ids(source: MqttHintsSource) -> list[str]:
    return [hint.id for hint in source.book.hints(time.time())]


def counted(source: MqttHintsSource, result: str, least: int = 1) -> Callable[[], bool]:
    return lambda: source.counts[result] >= least


def good(**changes: object) -> bytes:
    return message(time.time(), **changes)


# ---------------------------------------------------------------- connecting


async def test_a_hint_comes_over_tls_with_a_password(secured: Mosquitto) -> None:
    async with listening(secured.settings()) as source:
        await secured.publish(TOPIC, good())
        await until(counted(source, "accepted"))
        reading = await source.read(time.time())
        assert isinstance(reading.data, Hints)
        (hint,) = reading.data.hints
        assert isinstance(hint, Hint)
        assert (hint.key, hint.rps) == (KEY, 40.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"password_file": None}, "it refused the login (not authorized)"),
        ({"username": ADMIN}, "it refused the login (not authorized)"),
        ({"ca_file": None}, "the TLS certificate is not trusted (ca_file?)"),
        ({"port": 1}, "connection refused"),
    ],
)
async def test_a_broker_that_does_not_let_us_in_is_down_with_the_reason(
    secured: Mosquitto, changes: dict[str, object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = secured.settings(**changes)
    source = MqttHintsSource(settings, backoff=quick())
    reading = await source.read(time.time())
    await source.close()
    assert (reading.up, reading.why) == (False, f"MQTT broker 127.0.0.1:{settings.port}: {why}")
    assert PASSWORD not in caplog.text


async def test_a_port_without_tls_is_named(broker: Mosquitto) -> None:
    source = MqttHintsSource(broker.settings(tls=True), backoff=quick())
    reading = await source.read(time.time())
    await source.close()
    assert not reading.up
    assert "cut off while connecting (no TLS at this port? tls: false" in reading.why


async def test_a_broker_that_asks_for_a_certificate_gets_ours(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "asking", secured=True, asks=True)
    await broker.start()
    try:
        async with listening(broker.settings(client_cert_file=broker.authority, client_key_file=broker.key)) as source:
            await broker.publish(TOPIC, good())
            await until(lambda: source.counts["accepted"])
        without = MqttHintsSource(broker.settings(timeout_s=2.0), backoff=quick())
        reading = await without.read(time.time())
        assert not reading.up
        assert "does it ask for a certificate? client_cert_file" in reading.why
        await without.close()
    finally:
        await broker.stop()


async def test_a_port_with_tls_is_named(secured: Mosquitto) -> None:
    source = MqttHintsSource(secured.settings(tls=False, timeout_s=1.0), backoff=quick())
    reading = await source.read(time.time())
    await source.close()
    assert not reading.up
    assert reading.why.endswith(" while connecting (TLS at this port? tls: true)")


async def test_a_password_that_is_changed_counts_at_the_next_attempt(secured: Mosquitto) -> None:
    secured.password_file.write_text("not yet the right one")
    source = MqttHintsSource(secured.settings(), backoff=quick())
    assert not (await source.read(time.time())).up
    secured.password_file.write_text(PASSWORD)
    await until(lambda: source.link.connected)
    assert (await source.read(time.time())).up
    await source.close()


async def test_a_password_renewed_while_connected_survives_the_end_of_the_old_one(secured: Mosquitto) -> None:
    async with listening(secured.settings()) as source:
        secured.set_password("leadtime", "the-new-one")
        secured.password_file.write_text("the-new-one")
        await secured.stop()
        await secured.start()
        await until(lambda: source.link.connections >= 2)
        await secured.publish(TOPIC, good())
        await until(counted(source, "accepted"))


# ---------------------------------------------------------------- rights


async def test_the_broker_lets_nobody_announce_without_the_right(secured: Mosquitto) -> None:
    async with listening(secured.settings()) as source:
        async with secured.client("leadtime", PASSWORD) as ourselves:
            await ourselves.publish(TOPIC, good(id="forged"), qos=1)
        await secured.publish(TOPIC, good(id="allowed"))
        await until(counted(source, "accepted"))
        assert hint_ids(source) == ["allowed"]


async def test_only_topics_that_we_may_read_reach_us(secured: Mosquitto) -> None:
    (secured.folder / "acl").write_text(
        "user admin\ntopic readwrite #\nuser leadtime\ntopic read leadtime/hints/default/#\n"
    )
    await secured.stop()
    await secured.start()
    async with listening(secured.settings()) as source:
        await secured.publish("leadtime/hints/secret/local/chat/llm", good(id="of others"))
        await secured.publish(TOPIC, good(id="ours"))
        await until(counted(source, "accepted"))
        assert hint_ids(source) == ["ours"]


# ---------------------------------------------------------------- what comes


async def test_what_was_retained_before_we_came_is_known_at_once(broker: Mosquitto) -> None:
    await broker.publish(TOPIC, good(), retain=True)
    async with listening(broker.settings()) as source:
        await until(counted(source, "accepted"))
        assert hint_ids(source) == ["launch"]


async def test_a_retained_hint_from_the_past_is_ignored(broker: Mosquitto) -> None:
    await broker.publish(TOPIC, message(time.time() - 86400.0), retain=True)
    async with listening(broker.settings()) as source:
        await until(counted(source, "past"))
        assert hint_ids(source) == []


async def test_an_empty_retained_payload_withdraws_it_for_us_and_for_who_comes_later(broker: Mosquitto) -> None:
    await broker.publish(TOPIC, good(), retain=True)
    async with listening(broker.settings()) as source:
        await until(counted(source, "accepted"))
        await broker.publish(TOPIC, b"", retain=True)
        await until(counted(source, "withdrawn"))
        assert hint_ids(source) == []
    async with listening(broker.settings(identifier="pod-1")) as later:
        await broker.publish(OTHER, good(id="marker"))
        await until(counted(later, "accepted"))
        assert hint_ids(later) == ["marker"]


async def test_duplicates_and_old_versions_change_nothing(broker: Mosquitto) -> None:
    async with listening(broker.settings()) as source:
        newer, older = good(rps=50, issued_at="2026-01-02T00:00:00Z"), good(rps=10, issued_at="2026-01-01T00:00:00Z")
        for payload in (newer, newer, older):
            await broker.publish(TOPIC, payload)
        await until(counted(source, "outdated"))
        assert source.counts == {"accepted": 1, "unchanged": 1, "outdated": 1}
        assert [hint.rps for hint in source.book.hints(time.time())] == [50.0]


async def test_malformed_ones_are_counted_and_logged_once_per_topic(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(broker.settings()) as source:
        for payload in (b"nonsense", b'{"id": 7}', good(rps=1e12)):
            await broker.publish(TOPIC, payload)
            await broker.publish(OTHER, payload)
        await broker.publish("leadtime/hints/too/short", good())
        await broker.publish(TOPIC, good())
        await until(counted(source, "accepted"))
        assert source.counts["malformed"] == 7
        assert hint_ids(source) == ["launch"]
    said = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert len(said) == 3
    assert said[0].startswith(f"hint on '{TOPIC}' ignored: not JSON")


async def test_a_flood_is_bounded_and_the_loop_goes_on(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(broker.settings()) as source:
        await broker.publish(OTHER, good(id="known"))
        await until(counted(source, "accepted"))
        longest_s, last_s, stop = 0.0, time.monotonic(), asyncio.Event()

        async def heartbeat() -> None:
            nonlocal longest_s, last_s
            while not stop.is_set():
                await asyncio.sleep(0)
                longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()

        async with broker.client() as client, asyncio.TaskGroup() as group:
            group.create_task(heartbeat())
            client.pending_calls_threshold = 10_000
            for start in range(0, 3000, 100):
                await asyncio.gather(*(client.publish(TOPIC, good(id=f"flood-{start + i}"), qos=1) for i in range(100)))
            await until(lambda: sum(source.counts.values()) >= 3001)
            stop.set()
        assert len(source.book) == MOST_PER_DEPLOYMENT + 1
        assert source.counts["too_many"] + source.counts["dropped"] == 3000 - MOST_PER_DEPLOYMENT
        assert "known" in hint_ids(source)
        assert longest_s < 20.0
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 3


def waiting(namespace: str, payload: bytes = b"x") -> aiomqtt.Message:
    return aiomqtt.Message(f"leadtime/hints/{namespace}/s/a/d", payload, 1, False, 1, None)


async def test_what_waits_is_bounded_and_a_flood_in_one_namespace_drops_its_own(broker: Mosquitto) -> None:
    source = MqttHintsSource(broker.settings())
    queue = source._queue(MOST_WAITING)
    for _ in range(2 * MOST_WAITING):
        queue.put_nowait(waiting("hostile"))
    assert (queue.qsize(), source.counts["dropped"]) == (MOST_WAITING // 4, 2 * MOST_WAITING - MOST_WAITING // 4)
    queue.put_nowait(waiting("other"))
    assert source.counts["dropped"] == 2 * MOST_WAITING - MOST_WAITING // 4
    for i in range(MOST_WAITING):
        queue.put_nowait(waiting(f"n{i}"))
    assert queue.qsize() == MOST_WAITING
    while not queue.empty():
        queue.get_nowait()
    for _ in range(10):
        queue.put_nowait(waiting("hostile", b"x" * (1 << 20)))
    assert queue.qsize() == 4, "by its bytes, too"


async def test_one_message_of_any_size_takes_bounded_memory_and_is_told(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.publish(TOPIC, b"x" * (64 << 20), retain=True)
    tracemalloc.start()
    try:
        async with listening(broker.settings()) as source:
            await until(counted(source, "malformed"))
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
            await broker.publish(OTHER, good())
            await until(counted(source, "accepted"))
    finally:
        tracemalloc.stop()
    assert f"hint on '{TOPIC}' ignored: longer than" in caplog.text


async def test_messages_that_are_too_long_silence_nobody_else(broker: Mosquitto) -> None:
    """mosquitto 2.0 stops sending to a client that refuses twenty long packets by MQTT 5."""
    async with listening(broker.settings(release="leadtime-llm-prod")) as source:
        async with broker.client() as client:
            for _ in range(30):
                await client.publish(TOPIC, b"x" * (1 << 20), qos=1)
        await until(counted(source, "malformed", 30))
        await broker.publish(OTHER, good())
        await until(counted(source, "accepted"))
    async with broker.client() as client:
        for _ in range(30):
            await client.publish(TOPIC, b"x" * (1 << 20), qos=1)
    await broker.publish(OTHER, good(id="while away"))
    async with listening(broker.settings(release="leadtime-llm-prod")) as again:
        await until(counted(again, "accepted"))
        assert hint_ids(again) == ["while away"]
    async with listening(broker.settings(release="leadtime-llm-prod")) as acknowledged:
        await broker.publish(OTHER, good(id="later"))
        await until(counted(acknowledged, "accepted"))
        assert acknowledged.counts == {"accepted": 1}


async def test_a_broker_limits_messages_by_its_own_setting(tmp_path: Path) -> None:
    """The setting that docs/events.md says."""
    limited = Mosquitto(tmp_path / "limited", more="message_size_limit 65536")
    await limited.start()
    try:
        async with listening(limited.settings()) as source:
            await limited.publish(TOPIC, b"x" * (4 << 20))
            await limited.publish(TOPIC, good())
            await until(counted(source, "accepted"))
            assert source.counts == {"accepted": 1}
    finally:
        await limited.stop()


# ---------------------------------------------------------------- lost connections


async def test_hints_stay_in_force_while_the_broker_is_away_and_it_is_found_again(durable: Mosquitto) -> None:
    async with listening(durable.settings()) as source:
        await durable.publish(TOPIC, good(), retain=True)
        await until(counted(source, "accepted"))
        await durable.stop()
        await until(lambda: not source.link.connected)
        reading = await source.read(time.time())
        assert not reading.up
        assert "MQTT broker" in reading.why
        assert hint_ids(source) == ["launch"]
        await durable.start()
        await until(lambda: source.link.connected)
        await durable.publish(OTHER, good(id="after"))
        await until(lambda: "after" in hint_ids(source))
        assert set(hint_ids(source)) == {"launch", "after"}


async def test_a_broker_that_was_killed_and_forgot_everything_takes_us_back(broker: Mosquitto) -> None:
    async with listening(broker.settings()) as source:
        await broker.publish(TOPIC, good(), retain=True)
        await until(counted(source, "accepted"))
        await broker.kill()
        await broker.start()
        await until(lambda: source.link.connections >= 2)
        assert hint_ids(source) == ["launch"]
        await broker.publish(OTHER, good(id="after"))
        await until(lambda: "after" in hint_ids(source))


async def test_a_pod_that_is_replaced_gets_what_its_release_missed(broker: Mosquitto) -> None:
    async with listening(broker.settings(identifier="pod-7f", release="leadtime-llm-prod")):
        pass
    await broker.publish(TOPIC, good(id="while away"))
    async with listening(broker.settings(identifier="pod-9c", release="leadtime-llm-prod")) as again:
        await until(counted(again, "accepted"))
        assert hint_ids(again) == ["while away"]


async def test_a_pod_that_is_gone_leaves_no_session_at_the_broker(broker: Mosquitto) -> None:
    """Or each pod that ever was would have its messages kept for it."""
    async with listening(broker.settings(release="leadtime-llm-prod")) as leader:
        for i in range(3):
            follower = broker.settings(identifier=f"pod-{i}", release="leadtime-llm-prod")
            async with listening(follower, leads=lambda: False) as one:
                await broker.publish(TOPIC, good(rps=10 + i))
                await until(counted(one, "accepted"))
                await until(counted(leader, "accepted", i + 1))
    async with broker.client() as client:
        await client.subscribe("$SYS/broker/clients/disconnected")
        async with asyncio.timeout(60):
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                if int(message.payload) == 1:
                    break
                assert int(message.payload) <= 1, "the release's session alone is kept"


async def test_who_comes_to_lead_takes_over_the_session_and_the_other_hears_on(broker: Mosquitto) -> None:
    leading = "one"
    settings = [broker.settings(identifier=name, release="leadtime-llm-prod") for name in ("one", "two")]
    async with (
        listening(settings[0], leads=lambda: leading == "one") as one,
        listening(settings[1], leads=lambda: leading == "two") as two,
    ):
        await broker.publish(TOPIC, good(id="first"))
        await until(lambda: hint_ids(one) == hint_ids(two) == ["first"])
        leading = "two"
        for source in (one, two):
            await source.read(time.time())
        await until(lambda: one.link.connections >= 2 and two.link.connections >= 2)
        await until(lambda: one.link.connected and two.link.connected)
        assert (one._as_release, two._as_release) == (False, True)
        await broker.publish(OTHER, good(id="second"))
        await until(lambda: set(hint_ids(one)) == set(hint_ids(two)) == {"first", "second"})
    await broker.publish("leadtime/hints/default/local/chat/third", good(id="third"))
    async with listening(broker.settings(identifier="three", release="leadtime-llm-prod")) as three:
        await until(lambda: hint_ids(three) == ["third"])


async def test_two_controllers_of_one_name_are_told_that_they_are(broker: Mosquitto) -> None:
    async with listening(broker.settings(release="same")) as one:
        other = MqttHintsSource(broker.settings(identifier="pod-1", release="same"), backoff=quick())
        await other.read(time.time())
        await until(lambda: "another controller use this prefix" in one.link.why + other.link.why)
        await other.close()


async def test_hints_of_one_namespace_do_not_keep_others_out(broker: Mosquitto) -> None:
    async with listening(broker.settings()) as source:
        async with broker.client() as client:
            client.pending_calls_threshold = 10_000
            for start in range(0, 2500, 100):
                topics = [f"leadtime/hints/hostile/s/a/d{start + i}" for i in range(100)]
                await asyncio.gather(*(client.publish(topic, good(), qos=1) for topic in topics))
        await broker.publish(TOPIC, good(id="of another tenant"))
        await until(lambda: "of another tenant" in hint_ids(source))
        assert len(source.book) <= MOST_PER_NAMESPACE + 1


async def test_attempts_become_rarer_while_the_broker_is_away(broker: Mosquitto) -> None:
    waits: list[float] = []

    class Recorded(Backoff):
        def next_s(self) -> float:
            waits.append(super().next_s())
            return waits[-1]

    await broker.stop()
    source = MqttHintsSource(broker.settings(), backoff=Recorded(0.01, 0.08, lambda: 0.0))
    await source.read(time.time())
    await until(lambda: len(waits) >= 6)
    assert waits[:6] == [0.01, 0.02, 0.04, 0.08, 0.08, 0.08]
    await broker.start()
    await until(lambda: source.link.connected)
    await source.close()


async def test_two_pods_hear_the_same(broker: Mosquitto) -> None:
    async with listening(broker.settings()) as one, listening(broker.settings(identifier="pod-1")) as other:
        await broker.publish(TOPIC, good())
        await until(counted(one, "accepted"))
        await until(counted(other, "accepted"))
        assert one.link.connections == other.link.connections == 1
