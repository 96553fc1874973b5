"""A real dashboard that wants a token: the right one is let in, a wrong and a missing one are named and not shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.actuators.ray_serve import RayServeActuator
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.sources.node_metrics import NodeMetricsSource
from autoscaler.sources.ray_dashboard import RayDashboardSource
from tests.contract.actuator_contract import plan_of
from tests.live.conftest import LLM, skip_without_ray
from tests.live.local_serve import LocalServe, local_serve

pytestmark = pytest.mark.ray
TOKEN = "s3cret-token-of-a-test-that-is-long-enough"


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalServe]:
    """A second, empty cluster with token authentication; Serve is not started on it."""
    skip_without_ray()
    with local_serve(token=TOKEN, cpus=1) as serve:
        yield serve


async def answers(guarded: LocalServe, file: Path | None) -> tuple[str, str, str, str]:
    """Why the inventory failed, why the metrics failed, the outcome of a write and why."""
    client = DashboardClient(guarded.dashboard, token_file=file)
    dashboard = RayDashboardSource("ray", "default", "local", client)
    metrics = NodeMetricsSource("metrics", "default", "local", DashboardClient(guarded.dashboard, token_file=file))
    actuator = RayServeActuator("ray_serve", "default", "local", client)
    try:
        inventory, pages = await dashboard.read(1.0), await metrics.read(1.0)
        (applied,) = (await actuator.apply(plan_of((LLM, 2, 1)), 1.0)).applied
    finally:
        for port in (dashboard, metrics, actuator):
            await port.close()
    return inventory.why, "" if pages.up else pages.why, applied.outcome, applied.why


async def test_the_right_token_gets_through(guarded: LocalServe, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    inventory, metrics, outcome, why = await answers(guarded, tmp_path / "token")
    assert "Ray Serve is not running" in inventory  # past the door: there is no Serve on this cluster
    assert metrics == ""
    assert (outcome, "Serve controller is not available" in why) == ("unavailable", True)


@pytest.mark.parametrize(("content", "words"), [("s3cret-wrong", "not accepted"), (None, "set token_file")])
async def test_a_wrong_or_missing_token_is_named_and_not_shown(
    guarded: LocalServe, tmp_path: Path, content: str | None, words: str
) -> None:
    file = None
    if content is not None:
        file = tmp_path / "token"
        file.write_text(content)
    inventory, metrics, outcome, why = await answers(guarded, file)
    assert outcome == "forbidden"
    for text in (inventory, metrics, why):
        assert words in text
        assert "s3cret" not in text
