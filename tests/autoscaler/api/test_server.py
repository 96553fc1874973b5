"""The controller's pages over real HTTP: their shapes are contracts, and nobody pauses without the token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from autoscaler.api.server import Server
from autoscaler.common.errors import Forbidden
from autoscaler.core.build import new_controller
from autoscaler.core.types import PauseState
from autoscaler.runtime.loop import Runtime
from autoscaler.runtime.store import StateStore
from policies.base import DeploymentKey, Forecast
from tests.fakes.shell import (
    LLM,
    OTHER,
    START_S,
    Fleet,
    FleetActuator,
    FleetSource,
    JumpingClock,
    settings,
)
from tests.wanting import WantingPolicy

TOKEN = "s3cret-token"


@dataclass
class Pages:
    """A runtime over fakes with its server."""

    folder: Path
    dry_run: bool = False
    fleet: Fleet = field(default_factory=lambda: Fleet({LLM: 1, OTHER: 2}, nodes=2))
    policy: WantingPolicy = field(default_factory=lambda: WantingPolicy({LLM: 3}))
    clock: JumpingClock = field(default_factory=JumpingClock)

    def __post_init__(self) -> None:
        (self.folder / "token").write_text(TOKEN + "\n")
        config = settings(dry_run=self.dry_run)
        self.sources = [FleetSource(self.fleet, kind) for kind in ("inventory", "metrics", "pools")]  # type: ignore[arg-type]
        store = StateStore(self.folder / "state.sqlite")
        self.runtime = Runtime(
            config, new_controller(config, None, self.policy), self.sources, [FleetActuator(self.fleet)], store,
            clock=self.clock,
        )  # fmt: skip
        self.server = self.make_server(self.folder / "token")

    def make_server(self, token_file: Path | None) -> Server:
        return Server(
            self.runtime.telemetry,
            self.runtime.pause,
            "127.0.0.1",
            0,
            token_file,
            self.clock.now_s,
            self.clock.monotonic_s,
        )

    async def tick(self, count: int = 1) -> None:
        for _ in range(count):
            await self.runtime.tick()
            self.clock.time_s += 5.0

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        return await self.request("GET", path, None, headers)

    async def json(self, path: str) -> Any:
        status, text = await self.get(path)
        assert status == 200, text
        return json.loads(text)

    async def post(self, path: str, body: str | None = None, token: str | None = TOKEN) -> tuple[int, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        status, text = await self.request("POST", path, body, headers)
        return status, json.loads(text)

    async def request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    found = Pages(tmp_path)
    await found.server.start()
    yield found
    await found.server.stop()


# ---------------------------------------------------------------- health


async def test_it_is_ready_after_the_first_tick_and_alive_while_ticks_come(pages: Pages) -> None:
    assert (await pages.get("/healthz"))[0] == 503
    assert (await pages.get("/readyz"))[0] == 503
    await pages.tick()
    assert (await pages.get("/healthz"))[0] == 200
    assert (await pages.get("/readyz"))[0] == 200
    pages.clock.time_s += 1000.0
    assert (await pages.get("/healthz"))[0] == 503
    assert (await pages.get("/readyz"))[0] == 200


async def test_health_does_not_depend_on_sources_or_on_the_decision(pages: Pages) -> None:
    for source in pages.sources:
        source.broken = "down"
    pages.policy.raises = ValueError("x")
    await pages.tick()
    assert (await pages.get("/healthz"))[0] == 200


# ---------------------------------------------------------------- status, plan, decisions


async def test_status_has_the_shape_of_the_contract(pages: Pages) -> None:
    await pages.tick(2)
    status = await pages.json("/api/v1/status")
    assert {
        "version",
        "now_s",
        "tick",
        "leader",
        "dry_run",
        "paused",
        "sources",
        "deployments",
        "pools",
        "hints",
    } <= set(status)
    assert (status["version"], status["tick"], status["dry_run"], status["paused"]) == (1, 2, False, False)
    assert status["sources"]["inventory"] == {"up": True, "age_s": 5.0, "why": ""}
    llm = status["deployments"]["chat/llm"]
    assert {
        "signals", "forecast", "lead_time_s", "replicas", "starting", "capacity_rps", "slo", "last_decision", "paused",
        "limits", "gang_size",
    } <= set(llm)  # fmt: skip
    assert set(llm["replicas"]) == {"target", "running", "starting", "draining", "planned"}
    assert (llm["replicas"]["target"], llm["replicas"]["planned"]) == (3, 3)
    assert {"target_fraction", "attained_fraction", "window_s"} <= set(llm["slo"])
    assert set(llm["lead_time_s"]) == {"free_gpu", "warm_node", "new_node"}
    assert status["pools"]["h100"] == {
        "nodes": {"busy": 1, "prewarmed": 1, "arriving": 0, "refused": 0},
        "refusals": [],
        "wanted": status["pools"]["h100"]["wanted"],
        "taken_per_node_hour": 0.0,
        "cost_usd_per_hour": 72.0,
        "static_peak_usd_per_hour": 144.0,
    }


async def test_what_is_unknown_is_null_and_not_zero(pages: Pages) -> None:
    for source in pages.sources:
        source.broken = "down"
    await pages.tick()
    status = await pages.json("/api/v1/status")
    assert status["deployments"] == {}
    assert status["sources"]["inventory"] == {"up": False, "age_s": None, "why": "down"}
    pages.sources[0].broken = ""
    await pages.tick()
    llm = (await pages.json("/api/v1/status"))["deployments"]["chat/llm"]
    assert (llm["signals"]["rate_rps"], llm["signals"]["waiting"], llm["capacity_rps"]) == (None, None, None)


async def test_status_is_there_before_the_first_tick(pages: Pages) -> None:
    status = await pages.json("/api/v1/status")
    assert (status["tick"], status["deployments"]) == (None, {})


async def test_the_plan_page_has_the_targets_to_follow(pages: Pages) -> None:
    assert (await pages.get("/api/v1/plan"))[0] == 503
    await pages.tick()
    plan = await pages.json("/api/v1/plan")
    assert plan == {
        "version": 1, "tick": 1, "issued_at_s": START_S, "period_s": 5.0, "acts": True,
        "targets": {"chat/llm": 3}, "withheld": {}, "held": ["chat/other"],
        "paused": [],
    }  # fmt: skip


async def test_the_plan_page_says_which_of_the_held_were_paused(pages: Pages) -> None:
    pages.runtime.pause.set(DeploymentKey.parse("chat/llm"), True)
    await pages.tick()
    plan = await pages.json("/api/v1/plan")
    assert (plan["targets"], plan["held"], plan["paused"]) == ({}, ["chat/llm", "chat/other"], ["chat/llm"])


@pytest.mark.parametrize("reason", ["dry run", "follower"])
async def test_a_dry_run_or_a_follower_publishes_nothing_to_follow(tmp_path: Path, reason: str) -> None:
    pages = Pages(tmp_path, dry_run=reason == "dry run")
    if reason == "follower":
        pages.runtime._leader = lambda: False
    await pages.server.start()
    await pages.tick()
    plan = await pages.json("/api/v1/plan")
    assert (plan["acts"], plan["targets"], plan["withheld"], plan["held"]) == (False, {}, {"chat/llm": 3}, [])
    await pages.server.stop()


async def test_decisions_are_the_newest_first_and_only_what_changed(pages: Pages) -> None:
    await pages.tick(4)
    pages.policy.wants[LLM] = 5
    await pages.tick(3)
    found = (await pages.json("/api/v1/decisions?deployment=chat/llm"))["decisions"]
    assert [(d["target"], d["observed_target"]) for d in found] == [(5, 5), (5, 3), (3, 3), (3, 1)]
    assert found[1]["applied"] == {"outcome": "ok", "why": ""}
    assert found[1]["sentence"]
    (newest,) = (await pages.json("/api/v1/decisions?limit=1"))["decisions"]
    assert newest["tick"] == 6


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("limit=0", 400, "allowed: 1"),
        ("limit=x", 400, "limit 'x'"),
        ("limit=99999", 400, "allowed: 1"),
        ("deployment=nonsense", 400, "APP/DEPLOYMENT"),
        ("deployment=chat/lm", 404, "did you mean 'chat/llm'"),
    ],
)
async def test_a_bad_question_is_answered_in_one_line(pages: Pages, query: str, status: int, words: str) -> None:
    await pages.tick()
    found, text = await pages.get(f"/api/v1/decisions?{query}")
    assert found == status
    assert words in json.loads(text)["error"]


async def test_unknown_pages_and_methods_are_refused_as_json(pages: Pages) -> None:
    assert json.loads((await pages.get("/api/v1/nothing"))[1]) == {"error": "Not Found"}
    status, body = await pages.post("/api/v1/status")
    assert (status, body) == (405, {"error": "Method Not Allowed"})


# ---------------------------------------------------------------- events


async def test_an_event_stream_sends_the_status_at_once_and_after_each_tick(pages: Pages) -> None:
    await pages.tick()
    url = f"http://127.0.0.1:{pages.server.port}/api/v1/events"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.content_type == "text/event-stream"
        ticks = [await _next_tick(answer)]
        for _ in range(2):
            await pages.tick()
            ticks.append(await _next_tick(answer))
    assert ticks == [1, 2, 3]


async def _next_tick(answer: aiohttp.ClientResponse) -> int:
    while True:
        line = (await asyncio.wait_for(answer.content.readline(), 60)).decode()
        if line.startswith("data: "):
            tick: int = json.loads(line.removeprefix("data: "))["tick"]
            return tick


async def test_an_open_stream_does_not_hold_up_the_end(pages: Pages) -> None:
    url = f"http://127.0.0.1:{pages.server.port}/api/v1/events"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        await answer.content.readline()
        await asyncio.wait_for(pages.server.stop(), 60)


# ---------------------------------------------------------------- the kill switch


async def test_pause_and_resume_take_effect_and_are_persisted(pages: Pages) -> None:
    await pages.tick()
    assert await pages.post("/api/v1/pause") == (200, {"version": 1, "paused": True, "deployments": []})
    assert await pages.post("/api/v1/resume") == (200, {"version": 1, "paused": False, "deployments": []})
    status, body = await pages.post("/api/v1/pause", '{"key": "chat/llm"}')
    assert (status, body["deployments"]) == (200, ["chat/llm"])
    assert pages.runtime.pause.state == PauseState(False, frozenset({LLM}))
    await pages.tick()
    shown = await pages.json("/api/v1/status")
    assert (shown["deployments"]["chat/llm"]["paused"], shown["deployments"]["chat/other"]["paused"]) == (True, False)
    assert pages.runtime._store is not None
    assert pages.runtime._store.load_pause() == PauseState(False, frozenset({LLM}))
    status, body = await pages.post("/api/v1/resume", '{"key": "default/local/chat/llm"}')
    assert (status, body["deployments"]) == (200, [])


async def test_a_pause_that_would_hold_for_one_pod_only_is_refused_with_what_to_type(pages: Pages) -> None:
    class Away:
        async def set(self, key: DeploymentKey | None, paused: bool) -> PauseState:
            raise Forbidden("configmaps is forbidden")

        def command(self, key: DeploymentKey | None, paused: bool) -> str:
            return "leadtime pause --cluster a/b"

    await pages.tick()
    pages.runtime.pause.cluster = Away()
    status, body = await pages.post("/api/v1/pause")
    assert status == 409
    assert body["error"].endswith("(configmaps is forbidden); use: leadtime pause --cluster a/b")
    assert pages.runtime.pause.state == PauseState()


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "s\u00e9cret"])
async def test_without_the_token_nothing_is_paused(pages: Pages, token: str | None) -> None:
    await pages.tick()
    status, body = await pages.post("/api/v1/pause", token=token)
    assert status == 401
    assert TOKEN not in json.dumps(body)
    assert pages.runtime.pause.state == PauseState()


async def test_pausing_is_switched_off_while_no_token_is_configured(pages: Pages) -> None:
    await pages.server.stop()
    pages.server = pages.make_server(None)
    await pages.server.start()
    status, body = await pages.post("/api/v1/pause")
    assert (status, "server.token_file" in body["error"]) == (403, True)
    assert pages.runtime.pause.state == PauseState()


async def test_a_token_file_that_cannot_be_read_refuses_everybody(pages: Pages) -> None:
    (pages.folder / "token").unlink()
    status, body = await pages.post("/api/v1/pause")
    assert (status, "token_file" in body["error"]) == (403, True)
    (pages.folder / "token").write_text("")
    status, _ = await pages.post("/api/v1/pause", token="")
    assert status == 403


async def test_a_rotated_token_counts_at_once(pages: Pages) -> None:
    (pages.folder / "token").write_text("another")
    assert (await pages.post("/api/v1/pause"))[0] == 401
    assert (await pages.post("/api/v1/pause", token="another"))[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "not JSON"),
        ("[" * 5000, 400, "not JSON"),
        ("[]", 400, "allowed in the body"),
        ('{"kye": "chat/llm"}', 400, "allowed in the body"),
        ('{"key": 3}', 400, "allowed in the body"),
        ('{"key": "chat"}', 400, "APP/DEPLOYMENT"),
        ('{"key": "chat/lmm"}', 404, "did you mean 'chat/llm'"),
        (" " * 20_000, 413, "Too Large"),
    ],
)
async def test_a_bad_body_changes_nothing_and_says_what_is_allowed(
    pages: Pages, body: str, status: int, words: str
) -> None:
    await pages.tick()
    found, answer = await pages.post("/api/v1/pause", body)
    assert found == status
    assert words in answer["error"]
    assert pages.runtime.pause.state == PauseState()


async def test_a_pause_that_cannot_be_saved_is_an_error_and_not_in_force(pages: Pages) -> None:
    assert pages.runtime._store is not None
    pages.runtime._store.close()
    status, body = await pages.post("/api/v1/pause")
    assert (status, "not changed" in body["error"]) == (503, True)
    assert pages.runtime.pause.state == PauseState()


# ---------------------------------------------------------------- metrics


async def samples(pages: Pages) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, text = await pages.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(text)
        for sample in family.samples
    }


OF_LLM = (("app", "chat"), ("deployment", "llm"), ("namespace", "default"), ("service", "local"))


async def test_the_metrics_page_is_valid_in_both_formats_and_has_the_names_of_the_contract(pages: Pages) -> None:
    await pages.tick(3)
    pages.runtime.telemetry.plan = _with_forecast(pages)
    found = await samples(pages)
    names = {name for name, _ in found}
    assert {
        "leadtime_replicas", "leadtime_demand_replicas", "leadtime_replica_capacity_rps", "leadtime_lead_time_seconds",
        "leadtime_warm_nodes", "leadtime_source_up", "leadtime_source_age_seconds", "leadtime_actuator_total",
        "leadtime_step_seconds_bucket", "leadtime_step_seconds_count", "leadtime_leader", "leadtime_dry_run",
        "leadtime_paused", "leadtime_gpu_budget", "leadtime_cost_usd_total", "leadtime_last_decision_timestamp_seconds",
        "leadtime_build_info",
    } <= names  # fmt: skip
    _, text = await pages.get("/metrics")
    assert {s.name for family in parse_text(text) for s in family.samples} >= {"leadtime_replicas", "leadtime_leader"}
    assert all(name.startswith("leadtime_") for name in names)


def _with_forecast(pages: Pages) -> Any:
    from dataclasses import replace

    plan = pages.runtime.telemetry.plan
    assert plan is not None
    forecast = Forecast("f", START_S, (10.0, 20.0), (0.5, 0.9), ((4.0, 6.0), (5.0, 8.0)), True)
    return replace(plan, forecasts={LLM: forecast}, capacities_rps={LLM: 2.0, OTHER: None})


async def test_a_standby_shows_what_it_looks_after_and_a_controller_shows_nothing_of_that(pages: Pages) -> None:
    await pages.tick(1)
    assert "leadtime_stands_in" not in {name for name, _ in await samples(pages)}
    pages.runtime.telemetry.stands_in_for = lambda: frozenset({LLM})
    found = await samples(pages)
    of_other = tuple((name, OTHER.deployment if name == "deployment" else value) for name, value in OF_LLM)
    assert (found["leadtime_stands_in", OF_LLM], found["leadtime_stands_in", of_other]) == (1.0, 0.0)
    pages.runtime.pause.set(LLM, True)
    await pages.tick(1)
    assert (await samples(pages))["leadtime_stands_in", OF_LLM] == 0.0


async def test_the_values_are_those_of_the_last_tick(pages: Pages) -> None:
    await pages.tick(3)
    pages.runtime.telemetry.plan = _with_forecast(pages)
    found = await samples(pages)
    assert found["leadtime_replicas", (*OF_LLM, ("state", "target"))] == 3.0
    assert found["leadtime_replicas", (*OF_LLM, ("state", "planned"))] == 3.0
    assert found["leadtime_source_up", (("source", "inventory"),)] == 1.0
    assert found["leadtime_source_age_seconds", (("source", "inventory"),)] == 5.0
    assert found["leadtime_actuator_total", (("actuator", "fake"), ("outcome", "ok"))] == 1.0
    assert found["leadtime_step_seconds_count", ()] == 3.0
    assert found["leadtime_gpu_budget", (("kind", "nvidia-h100-80gb"), ("pool", "h100"))] == 32.0
    assert found["leadtime_warm_nodes", (("pool", "h100"), ("state", "prewarmed"))] == 1.0
    assert found["leadtime_cost_usd_total", (("pool", "h100"),)] == pytest.approx(2 * 36.0 * 10.0 / 3600.0)
    demand = {
        (labels["horizon"], labels["quantile"]): value
        for name, labels, value in ((n, dict(pairs), v) for (n, pairs), v in found.items())
        if name == "leadtime_demand_replicas"
    }
    assert demand == {("10", "0.5"): 2.0, ("10", "0.9"): 3.0, ("20", "0.5"): 2.5, ("20", "0.9"): 4.0}


async def test_what_is_gone_leaves_the_page_and_what_is_unknown_is_not_on_it(pages: Pages) -> None:
    await pages.tick()
    other = (*OF_LLM[:1], ("deployment", "other"), *OF_LLM[2:])
    assert ("leadtime_replicas", (*other, ("state", "target"))) in await samples(pages)
    del pages.fleet.targets[OTHER]
    await pages.tick()
    found = await samples(pages)
    assert not [labels for _, labels in found if ("deployment", "other") in labels]
    assert ("leadtime_replica_capacity_rps", OF_LLM) not in found
    assert ("leadtime_slo_attainment_ratio", OF_LLM) not in found


async def test_a_source_that_never_answered_is_down_and_has_no_age(pages: Pages) -> None:
    pages.sources[0].broken = "down"
    await pages.tick()
    found = await samples(pages)
    assert found["leadtime_source_up", (("source", "inventory"),)] == 0.0
    assert ("leadtime_source_age_seconds", (("source", "inventory"),)) not in found


async def test_names_with_odd_characters_keep_the_page_valid(pages: Pages) -> None:
    odd = DeploymentKey("default", "local", 'a"\\b', "LLM:é\n")
    pages.fleet.targets = {odd: 1}
    await pages.tick()
    assert any(("deployment", "LLM:é\n") in labels for _, labels in await samples(pages))
