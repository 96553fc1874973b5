"""The fake dashboard is held to what a real one answered, so that tests on it mean something."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment

RAY = Path(__file__).resolve().parents[3] / "shared" / "samples" / "ray"
pytestmark = pytest.mark.skipif(not RAY.exists(), reason="no recorded samples here")

CASES: list[tuple[str, str, Any]] = [
    ("scale_error_404_app.json", "nobody/LLMServer", {"target_num_replicas": 1}),
    ("scale_error_404_deployment.json", "chat/Nobody", {"target_num_replicas": 1}),
    ("scale_error_412_not_external.json", "auto/Auto", {"target_num_replicas": 1}),
    ("scale_error_400_negative.json", "chat/LLMServer", {"target_num_replicas": -1}),
    ("scale_error_400_missing.json", "chat/LLMServer", {}),
    ("scale_error_400_string.json", "chat/LLMServer", {"target_num_replicas": "two"}),
    ("scale_error_400_float.json", "chat/LLMServer", {"target_num_replicas": 1.5}),
    ("scale_400_list_body.json", "chat/LLMServer", [1]),
    ("scale_numeric_string.json", "chat/LLMServer", {"target_num_replicas": "1"}),
    ("scale_extra_field.json", "chat/LLMServer", {"target_num_replicas": 1, "more": True}),
]


def fake() -> FakeDashboard:
    return FakeDashboard(
        {
            "chat": FakeApplication({"LLMServer": FakeDeployment()}),
            "auto": FakeApplication({"Auto": FakeDeployment()}, external=False),
        }
    )


async def listed(dashboard: FakeDashboard, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    url = dashboard.url + "/api/serve/applications/"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(("sample", "where", "body"), CASES)
async def test_a_scale_request_is_answered_as_ray_answered_it(sample: str, where: str, body: Any) -> None:
    recorded = json.loads((RAY / sample).read_text())
    app, deployment = where.split("/")
    async with fake().serve() as dashboard, aiohttp.ClientSession() as session:
        url = f"{dashboard.url}/api/v1/applications/{app}/deployments/{deployment}/scale"
        async with session.post(url, json=body) as answer:
            said = await answer.json()
            assert answer.status == recorded["status"]
    assert list(said) == list(recorded["body"])
    if answer.status != 400:  # the words of a 400 are pydantic's
        assert said == recorded["body"]


async def test_without_a_controller_it_answers_as_ray_does() -> None:
    dashboard = fake()
    dashboard.controller = False
    recorded = json.loads((RAY / "applications_no_controller.json").read_text())
    async with dashboard.serve(), aiohttp.ClientSession() as session:
        async with session.get(dashboard.url + "/api/serve/applications/") as answer:
            assert await answer.json() == recorded["body"]
        url = f"{dashboard.url}/api/v1/applications/chat/deployments/LLMServer/scale"
        async with session.post(url, json={"target_num_replicas": 1}) as answer:
            refused = json.loads((RAY / "scale_error_503_no_controller.json").read_text())
            assert (answer.status, await answer.json()) == (refused["status"], refused["body"])


@pytest.mark.parametrize(("given", "case"), [(None, "missing"), ("Bearer wrong", "invalid"), ("right", "invalid")])
async def test_a_missing_and_a_wrong_token_are_refused_as_ray_does(given: str | None, case: str) -> None:
    dashboard = fake()
    dashboard.token = "right"
    recorded = {entry["case"]: entry for entry in json.loads((RAY / "auth_errors.json").read_text())}[case]
    headers = {} if given is None else {"Authorization": given}
    async with dashboard.serve():
        assert await listed(dashboard, headers) == (recorded["status"], recorded["body"])


async def test_its_application_list_has_the_fields_of_the_recorded_one() -> None:
    recorded = json.loads((RAY / "applications_running.json").read_text())
    recorded = recorded.get("body", recorded)["applications"]["chat"]
    async with fake().serve() as dashboard:
        shown = json.loads((await listed(dashboard))[1])["applications"]["chat"]
    assert set(shown) <= set(recorded)
    ours, theirs = shown["deployments"]["LLMServer"], recorded["deployments"]["LLMServer"]
    assert set(ours) <= set(theirs)
    assert set(ours["replicas"][0]) <= set(theirs["replicas"][0])
    assert set(ours["deployment_config"]) <= set(theirs["deployment_config"])
