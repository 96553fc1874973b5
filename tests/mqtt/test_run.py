"""`leadtime run` with a broker: a hint becomes replicas and a published plan; the end is said; no secret is."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

from tests.cli.helpers import leadtime
from tests.cli.test_run import finished, metrics_page, started
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment
from tests.mqtt.broker import PASSWORD, Mosquitto, until
from tests.mqtt.messages import message, moment
from tests.mqtt.test_plans_at_broker import watching

SETTINGS = """\
version: 1
dry_run: false
tick_s: 0.5
services: [{{dashboard: "{dashboard}"}}]
deployments: [{{match: chat/llm, profile: llama-3.1-8b/h100/tp1, replicas: {{min: 0, max: 9}}}}]
server: {{port: 0}}
guards: {{stale_after_s: 5}}
mqtt: {{host: 127.0.0.1, port: {port}, username: leadtime, password_file: broker/secret, ca_file: broker/ca.crt,
        max_rps_per_deployment: 100}}
"""
TOPIC, PLANS = "leadtime/hints/default/local/chat/llm", "leadtime/plans/default/local/chat/llm"


async def test_a_hint_becomes_replicas_and_a_published_plan(secured: Mosquitto, tmp_path: Path) -> None:
    fake = FakeDashboard(applications={"chat": FakeApplication({"llm": FakeDeployment()})})
    settings = tmp_path / "lt.yaml"
    async with metrics_page() as page, fake.serve(), watching(secured) as watcher:
        fake.metrics_pages = [page]
        settings.write_text(SETTINGS.format(dashboard=fake.url, port=secured.port), encoding="utf-8")
        async with started("run", "--config", str(settings), "--log-json") as program:
            await until(lambda: watcher.last("leadtime/status") == b"online")
            now_s = time.time()
            absurd = message(now_s, id="sale", start_at=moment(now_s), rps=100_000, asked_by="marketing")
            await secured.publish(TOPIC, absurd, retain=True)
            await until(lambda: fake.of("chat", "llm").target > 1)
            target = fake.of("chat", "llm").target
            assert 1 < target <= 9
            await until(lambda: watcher.plan(PLANS) and watcher.plan(PLANS)["target"] == target)
            sentence = watcher.plan(PLANS)["sentence"]
            assert "hint sale: 100000 req/s (hints may raise to 100) from " in sentence
            assert "(asked by marketing)" in sentence
            program.send_signal(signal.SIGTERM)
            ran = await finished(program)
        await until(lambda: watcher.last("leadtime/status") == b"offline")
    assert ran.code == 0, ran.err
    assert PASSWORD not in ran.err + ran.out
    replayed = await asyncio.to_thread(leadtime, "replay", str(tmp_path / "journal"), "--strict")
    assert (replayed.code, replayed.err) == (0, ""), replayed.out
    lines = [json.loads(line) for file in (tmp_path / "journal").iterdir() for line in file.read_text().splitlines()]
    ticks = [line for line in lines if line["kind"] == "tick" and line["hints"]]
    assert any(guard["name"] == "hint_ceiling" for guard in ticks[-1]["guards"])
    assert PASSWORD not in json.dumps(lines)


async def test_a_broker_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    fake = FakeDashboard(applications={"chat": FakeApplication({"llm": FakeDeployment()})})
    settings = tmp_path / "lt.yaml"
    async with metrics_page() as page, fake.serve():
        fake.metrics_pages = [page]
        text = SETTINGS.format(dashboard=fake.url, port=1).splitlines()[:-2]
        settings.write_text("\n".join([*text, "mqtt: {host: 127.0.0.1, port: 1, tls: false}"]), encoding="utf-8")
        async with started("run", "--config", str(settings), "--once") as program:
            ran = await finished(program)
    assert ran.code == 1
    assert "source ray_dashboard: up" in ran.out
    assert "source mqtt_hints: DOWN: MQTT broker 127.0.0.1:1: connection refused" in ran.out
    assert "chat/llm: stays at 1" in ran.out
