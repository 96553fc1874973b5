"""The whole product in a cluster: the rendered chart's settings and rights, `leadtime run` as two real processes, the
fake Kubernetes API, a KubeRay-like operator double, fake Ray dashboards with traffic behind them.

A ramp, an upgrade, the leader killed in mid-write, an uninstall. Every write within the rights of the chart's Roles, no
request lost, every tick of both processes' journals within the invariants, and nothing left behind. The same with a
real Ray Serve: tests/live/test_live_cluster.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.kubernetes import objects
from tests.fakes.operator import APP, LLM, DoubleOperator
from tests.kube.helpers import until
from tests.kube.release import LOWEST, check_journals, installed, values

TOKEN = "t0ken-0f-the-dashboard"
HIGHEST = 5
"""By annotation: one less than the settings allow."""


async def test_a_ramp_an_upgrade_a_killed_leader_and_an_uninstall(tmp_path: Path) -> None:
    service = objects.ray_service(annotations={"leadtime.dev/enabled": "true", "leadtime.dev/max-replicas": "5"})
    async with (
        installed(tmp_path, values(f"{APP}/LLMServer:*", 3), TOKEN) as release,
        DoubleOperator(release.api, service, release.addresses, TOKEN) as operator,
    ):
        first = operator.now_active

        await release.start("pod-0")
        await until(lambda: release.holder() == "pod-0")
        await release.start("pod-1")

        # the ramp: more users than the settings' six replicas and the annotation's five could serve
        for rate_rps in (8.0, 20.0, 60.0):
            operator.rate_rps = rate_rps
            await asyncio.sleep(1.0)
        await until(lambda: first.replicas == HIGHEST)
        operator.rate_rps = 20.0

        # the leader dies in mid-write: the request arrived, the answer never comes
        first.dashboard.hold = True
        await until(lambda: first.dashboard.held > 0)
        await release.kill("pod-0")
        first.dashboard.hold = False
        level = first.replicas
        assert level == HIGHEST
        await until(lambda: release.holder() == "pod-1")
        await until(lambda: first.replicas < level)
        await release.start("pod-2")

        # the upgrade: the new cluster is prepared before anybody is sent there
        operator.change_spec("2.61.0")
        await until(lambda: operator.pending is not None and operator.pending.replicas >= min(3, first.replicas))
        second = operator.pending
        assert second is not None
        operator.switch()
        await until(lambda: first.name not in operator.clusters)
        assert (second.dashboard.posts, second.plane.arrived > 0) != ([], False)

        operator.rate_rps = 0.0
        await until(lambda: second.plane.inside < 0.5)

        # the uninstall: targets stay, and everything that the chart and its pods made is gone
        await until(lambda: "pages on" in release.log("pod-2"))
        codes = await release.uninstall()
        kept = second.replicas
        assert codes == [0, 0]
        await asyncio.sleep(1.0)
        assert second.replicas == kept
        assert release.left() == {("RayService", "llm", "chat-llm"), ("RayCluster", "llm", second.name)}
        assert operator.answered == pytest.approx(operator.arrived, abs=1.5)

    assert release.refused == []
    # a repeated event is patched after five minutes only
    assert release.unused <= {("patch", "events")}
    writes = check_journals(release, HIGHEST)
    assert writes["pod-0"] > 0
    assert writes["pod-1"] > 0
    levels = [
        body["target_num_replicas"] for c in (first, second) for _, name, body in c.dashboard.posts if name == LLM
    ]
    assert all(LOWEST <= level <= HIGHEST for level in levels)
    assert {name for c in (first, second) for _, name, _ in c.dashboard.posts} == {LLM}
    assert not any(TOKEN in release.log(name) for name in release.started)
