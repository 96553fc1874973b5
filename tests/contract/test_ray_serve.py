"""The Ray Serve actuator under the suite of all actuators, against the fake dashboard, and every answer it may get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from autoscaler.actuators.ray_serve import RayServeActuator
from autoscaler.clients.ray_dashboard import DashboardClient
from policies.base import DeploymentKey
from tests.contract.actuator_contract import ActuatorContract, apply, plan_of
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment


@dataclass
class DashboardWorld:
    dashboard: FakeDashboard
    actuator: RayServeActuator
    key: DeploymentKey = DeploymentKey.parse("chat app/LLMServer:qwen2_5-7b")
    other: DeploymentKey = DeploymentKey.parse("chat app/Ingress")
    unknown: DeploymentKey = DeploymentKey.parse("chat app/Nobody")
    acts: bool = True

    async def target(self, key: DeploymentKey) -> int:
        return self.dashboard.of(key.app, key.deployment).target


@pytest.fixture
async def world() -> AsyncIterator[DashboardWorld]:
    fleet = {"LLMServer:qwen2_5-7b": FakeDeployment(), "Ingress": FakeDeployment()}
    async with FakeDashboard({"chat app": FakeApplication(fleet)}).serve() as dashboard:
        actuator = RayServeActuator("ray_serve", "default", "local", DashboardClient(dashboard.url, timeout_s=60.0))
        yield DashboardWorld(dashboard, actuator)
        await actuator.close()


async def one(world: DashboardWorld, target: int = 2) -> tuple[str, str]:
    """Outcome and reason of one write."""
    (applied,) = (await apply(world, plan_of((world.key, target, 1)))).values()
    return applied.outcome, applied.why


class TestRayServeActuator(ActuatorContract):
    async def test_what_already_is_as_wanted_is_not_posted(self, world: DashboardWorld) -> None:
        await apply(world, plan_of((world.key, 1, 1)))
        assert world.dashboard.posts == []

    async def test_a_target_that_was_reset_is_posted_again(self, world: DashboardWorld) -> None:
        await apply(world, plan_of((world.key, 3, 1)))
        world.dashboard.of(world.key.app, world.key.deployment).target = 1  # a redeploy
        await apply(world, plan_of((world.key, 3, 1)))
        assert await world.target(world.key) == 3

    async def test_names_with_colons_and_spaces_arrive_as_they_are(self, world: DashboardWorld) -> None:
        await one(world)
        assert world.dashboard.posts == [("chat app", "LLMServer:qwen2_5-7b", {"target_num_replicas": 2})]

    async def test_names_with_slashes_and_percents_stay_one_part_of_the_path(self, world: DashboardWorld) -> None:
        world.dashboard.applications["a%2Fb"] = FakeApplication({"c%41": FakeDeployment()})
        await apply(world, plan_of((DeploymentKey("default", "local", "a%2Fb", "c%41"), 4, 1)))
        assert world.dashboard.of("a%2Fb", "c%41").target == 4

    async def test_deployments_of_other_services_are_not_touched(self, world: DashboardWorld) -> None:
        elsewhere = DeploymentKey("prod", "east", world.key.app, world.key.deployment)
        assert await apply(world, plan_of((elsewhere, 4, 1))) == {}
        assert world.dashboard.posts == []

    async def test_the_mend_is_named_when_external_scaling_is_off(self, world: DashboardWorld) -> None:
        world.dashboard.applications["chat app"].external = False
        outcome, why = await one(world)
        assert outcome == "rejected"
        assert "external_scaler_enabled: true" in why
        assert "'chat app'" in why

    async def test_a_deployment_that_is_being_deleted_is_not_found(self, world: DashboardWorld) -> None:
        world.dashboard.of(world.key.app, world.key.deployment).deleted = True
        assert (await one(world))[0] == "notfound"

    async def test_without_a_serve_controller_it_is_unavailable(self, world: DashboardWorld) -> None:
        world.dashboard.controller = False
        outcome, why = await one(world)
        assert outcome == "unavailable"
        assert "Serve controller is not available" in why

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (200, "unavailable"), (302, "unavailable"), (400, "rejected"), (401, "forbidden"), (403, "forbidden"),
            (404, "notfound"), (405, "unavailable"), (429, "unavailable"), (500, "unavailable"), (502, "unavailable"),
            (503, "unavailable"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("body", ["", "<html>\n" + "x" * 5000, "{", '{"error": "one\\ntwo"}', "[1]"])
    async def test_any_answer_is_an_outcome_with_one_line(
        self, world: DashboardWorld, status: int, outcome: str, body: str
    ) -> None:
        world.dashboard.status, world.dashboard.body = status, body
        found, why = await one(world)
        if status == 200 and body.startswith('{"'):
            assert found == "ok"
            return
        assert found == outcome
        assert 0 < len(why) < 300
        assert "\n" not in why

    async def test_an_unknown_deployment_in_the_words_of_an_older_ray(self, world: DashboardWorld) -> None:
        world.dashboard.status = 400
        world.dashboard.body = '{"error": "Application or Deployment not found"}'
        assert (await one(world))[0] == "notfound"

    async def test_no_answer_is_unavailable_within_the_deadline(self, world: DashboardWorld) -> None:
        world.dashboard.hang = True
        client = DashboardClient(world.dashboard.url, timeout_s=0.3)
        actuator = RayServeActuator("ray_serve", "default", "local", client)
        (applied,) = (await actuator.apply(plan_of((world.key, 2, 1)), 0.0)).applied
        await actuator.close()
        assert applied.outcome == "unavailable"
        assert "no answer within 0.3 s" in applied.why

    async def test_many_writes_share_one_deadline(self, world: DashboardWorld) -> None:
        world.dashboard.hang = True
        slow = RayServeActuator("s", "default", "local", DashboardClient(world.dashboard.url), 0.2, concurrency=1)
        plan = plan_of((world.key, 2, 1), (world.other, 2, 1), (world.unknown, 2, 1))
        outcome = await slow.apply(plan, 0.0)
        await slow.close()
        assert [applied.outcome for applied in outcome.applied] == ["unavailable"] * 3
        assert all("0.2 s" in applied.why for applied in outcome.applied)

    async def test_no_write_starts_when_the_lease_has_run_out(self, world: DashboardWorld) -> None:
        client = DashboardClient(world.dashboard.url)
        actuator = RayServeActuator("s", "default", "local", client, write_budget_s=lambda: 0.0)
        (applied,) = (await actuator.apply(plan_of((world.key, 2, 1)), 0.0)).applied
        await actuator.close()
        assert (applied.outcome, world.dashboard.posts) == ("withheld", [])

    async def test_a_write_takes_no_longer_than_the_lease_allows(self, world: DashboardWorld) -> None:
        world.dashboard.hang = True
        client = DashboardClient(world.dashboard.url)
        actuator = RayServeActuator("s", "default", "local", client, write_budget_s=lambda: 0.1)
        (applied,) = (await actuator.apply(plan_of((world.key, 2, 1)), 0.0)).applied
        await actuator.close()
        assert applied.outcome == "unavailable"
        assert "0.1 s" in applied.why

    async def test_nobody_listening_is_unavailable(self) -> None:
        actuator = RayServeActuator("s", "default", "local", DashboardClient("http://127.0.0.1:1", timeout_s=60.0))
        outcome = await actuator.apply(plan_of((DeploymentKey.parse("a/b"), 2, 1)), 0.0)
        await actuator.close()
        (applied,) = outcome.applied
        assert applied.outcome == "unavailable"
        assert "connection refused" in applied.why or "connect" in applied.why


class TestTokens:
    async def outcome(self, world: DashboardWorld, file: Path | None) -> tuple[str, str]:
        client = DashboardClient(world.dashboard.url, token_file=file)
        actuator = RayServeActuator("ray_serve", "default", "local", client)
        (applied,) = (await actuator.apply(plan_of((world.key, 2, 1)), 0.0)).applied
        await actuator.close()
        return applied.outcome, applied.why

    async def test_the_right_token_is_accepted_and_read_anew_each_time(
        self, world: DashboardWorld, tmp_path: Path
    ) -> None:
        world.dashboard.token = "s3cret-one"
        file = tmp_path / "token"
        file.write_text("s3cret-one\n")
        client = DashboardClient(world.dashboard.url, token_file=file)
        actuator = RayServeActuator("ray_serve", "default", "local", client)
        for token in ("s3cret-one", "s3cret-two"):
            world.dashboard.token = token
            file.write_text(token)
            (applied,) = (await actuator.apply(plan_of((world.key, 2, 1)), 0.0)).applied
            assert applied.outcome == "ok"
        await actuator.close()

    @pytest.mark.parametrize("content", ["s3cret-wrong", "", "two\nlines", "s3cret\x00", None])
    async def test_a_wrong_or_unreadable_token_is_forbidden_and_never_shown(
        self, world: DashboardWorld, tmp_path: Path, content: str | None
    ) -> None:
        world.dashboard.token = "s3cret-right"
        file = tmp_path / "token"
        if content is not None:
            file.write_text(content)
        outcome, why = await self.outcome(world, file)
        assert outcome == "forbidden"
        assert "s3cret" not in why
        assert "token_file" in why

    async def test_a_missing_token_says_what_to_set(self, world: DashboardWorld) -> None:
        world.dashboard.token = "s3cret-right"
        outcome, why = await self.outcome(world, None)
        assert outcome == "forbidden"
        assert "set token_file" in why

    async def test_a_token_does_not_follow_a_redirect(self, world: DashboardWorld, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("s3cret")
        world.dashboard.status = 307
        outcome, why = await self.outcome(world, file)
        assert outcome == "unavailable"
        assert "307" in why
