"""The chart on a real API server, by the real helm, with its pods as processes under their own accounts and rights."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart import chart
from tests.cluster import parts
from tests.cluster.api import RealApi
from tests.cluster.release import released, values

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("case", chart.CASES)
def test_the_server_takes_every_object_of_every_case_with_strict_validation(
    case: str, cluster: RealApi, tmp_path: Path
) -> None:
    """kubectl apply --dry-run=server: defaults, validation and admission as for a real write."""
    docs = chart.render(chart.values_of(case))
    served = [doc for doc in docs if not doc["apiVersion"].startswith("monitoring.")]
    for namespace in {doc["metadata"].get("namespace", "") for doc in served} - {""}:
        cluster.namespace(namespace)
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(served))
    kubectl = [str(parts.require("kubectl")), f"--kubeconfig={cluster.plane.admin}"]
    command = [*kubectl, "apply", "--dry-run=server", "--validate=strict", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(served)


async def test_it_is_installed_acts_is_upgraded_rolled_back_and_uninstalled(cluster: RealApi, tmp_path: Path) -> None:
    async with released(cluster, tmp_path, "lt", None) as release:
        before = cluster.everything()
        one = values(release.wants_file)
        await asyncio.to_thread(release.helm.install, one)
        await release.rolled_out(1)
        release.wants(3, 2)
        await release.until(lambda: release.target == 3, "replicas are set")
        await release.until(lambda: release.holds(2), "every way holds two nodes")

        # a revision whose buffer says 0 chunks, a field that leadtime owns by now, is put back by force only
        with pytest.raises(AssertionError, match=r'conflict with "leadtime" using .*: .spec.replicas'):
            await asyncio.to_thread(release.helm.rollback, 1)

        # two pods instead of one: what is held stays
        await asyncio.to_thread(release.helm.upgrade, {**one, "replicas": 2})
        await release.rolled_out(2)
        await release.until(lambda: release.holds(2), "the new leader holds them again")
        release.wants(4, 3)
        await release.until(lambda: release.target == 4, "the new leader acts")
        await release.until(lambda: release.holds(3), "every way holds three nodes")

        # the leader is killed
        leader = await release.leading()
        leader.process.kill()
        release.wants(5, 2)
        await release.until(lambda: release.target == 5 and release.holds(2), "the other one leads and acts")
        assert release.holder() != leader.name
        await release.rolled_out(2)

        # back to the first revision
        await asyncio.to_thread(release.helm.rollback, 1, "--force-conflicts")
        await release.rolled_out(1)
        release.wants(6, 1)
        await release.until(lambda: release.target == 6, "the old revision acts")
        await release.until(lambda: release.holds(1), "every way holds one node")
        assert [one["status"] for one in release.helm.history()] == ["superseded"] * 3 + ["deployed"]
        refused = [f"{call.verb} {call.resource} {call.name}" for call in release.calls() if call.status == 403]
        assert refused == []

        assert release.check_one_writer() > 10

        # the hook gives back what is held, then everything goes
        await asyncio.to_thread(release.helm.uninstall)
        assert release.held() == dict.fromkeys(release.held(), 0)
        assert release.target == 6, "replicas stay as they are"
        await release.until(lambda: release.pods.pods == {}, "no process is left")
        left = cluster.everything() ^ before
        assert left == set()
