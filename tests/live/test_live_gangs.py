"""Gangs on a real local Ray Serve: the runtime reads their size, and no target is ever a part of one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.core import guards
from autoscaler.runtime.journal_file import read_journal
from policies.base import DeploymentKey
from tests.live.conftest import running, set_target, skip_without_ray
from tests.live.local_serve import LocalServe, local_serve, ray_python
from tests.wanting import WantingPolicy

pytestmark = pytest.mark.ray

KEY = DeploymentKey.parse("gangs/Member")
GANGS: Mapping[str, Any] = {
    "name": "gangs", "route_prefix": "/gangs", "import_path": "serve_app:build_gangs", "external_scaler_enabled": True,
    "deployments": [{"name": "Member", "num_replicas": 4, "gang_scheduling_config": {"gang_size": 4}}],
}  # fmt: skip


@pytest.fixture(scope="module")
def gangs() -> Iterator[LocalServe]:
    """A cluster of its own with one gang of four."""
    skip_without_ray()
    known = subprocess.run([ray_python(), "-c", "import ray.serve.gang"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip("this Ray Serve has no gangs (gang_scheduling_config)")
    with local_serve() as serve:
        serve.deploy(GANGS)
        serve.wait("a gang running", lambda: serve.running(KEY.app, KEY.deployment) == 4)
        yield serve


def alive(serve: LocalServe) -> int:
    replicas = serve.deployment(KEY.app, KEY.deployment).get("replicas", [])
    return sum(replica["state"] in ("STARTING", "RUNNING") for replica in replicas)


async def test_a_deployment_with_a_gang_of_four_never_gets_five(gangs: LocalServe, tmp_path: Path) -> None:
    async with running(gangs, tmp_path, WantingPolicy({KEY: 4}), max_replicas=11) as at_work:
        for wants, whole in ((5, 8), (3, 4), (11, 8), (1, 4), (0, 0), (2, 4)):
            at_work.policy.wants[KEY] = wants
            await at_work.until(
                f"{whole} running", lambda n=whole: gangs.running(KEY.app, KEY.deployment) == alive(gangs) == n  # type: ignore[misc]
            )  # fmt: skip
            assert gangs.deployment(KEY.app, KEY.deployment)["target_num_replicas"] == whole
        # Somebody else posts a part of a gang, which Serve accepts.
        at_work.policy.wants[KEY] = 5
        await at_work.until("8 running", lambda: gangs.running(KEY.app, KEY.deployment) == 8)
        set_target(gangs, KEY, 7)
        await at_work.until("seen", lambda: 7 in column(tmp_path, "observed"))
        await at_work.until("8 again", lambda: gangs.deployment(KEY.app, KEY.deployment)["target_num_replicas"] == 8)
        assert alive(gangs) == 8
        assert guards.WHOLE_GANGS in at_work.runtime.telemetry.guards
    planned = {target for target in column(tmp_path, "deployments") if target is not None}
    assert planned == {0, 4, 8}
    assert {target for target in column(tmp_path, "observed") if target is not None} <= {0, 4, 7, 8}


def column(folder: Path, name: str) -> list[int | None]:
    """Of every tick's plan: the level that Serve had, or the one that was planned."""
    return [r.data["plan"][name].get(str(KEY)) for r in read_journal(folder / "journal") if r.line > 1]
