"""Runs on a real local Ray of several processes: the same as here, also when a worker is killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from autoscaler.common.errors import LeadtimeError
from simulator.experiments.parallel.workers import workers
from tests.cli.helpers import leadtime, leadtime_process
from tests.simulator.scenarios import SMALL, write

pytestmark = [pytest.mark.ray, pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")]

FRAGILE = """
import os, signal
from pathlib import Path
from policies.baselines.hpa import HpaOngoing

class Fragile(HpaOngoing):
    '''hpa_ongoing, whose first run kills the process that makes it, in the middle.'''
    name = "fragile"
    def propose(self, fleet, state, now_s):
        mark = Path(MARK)
        if now_s > 60 and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().propose(fleet, state, now_s)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a Ray head with two CPUs, on the loopback only, that ends with this module."""
    from leadtime.demo.local_ray import local_ray

    loop, cluster = asyncio.new_event_loop(), local_ray(0)
    try:
        yield loop.run_until_complete(cluster.__aenter__()).address
        loop.run_until_complete(cluster.__aexit__(None, None, None))
    finally:
        loop.close()


def dies_once(marker: str) -> int:
    """Kills its own process the first time, and says who it is the second time."""
    if not Path(marker).exists():
        Path(marker).write_text(str(os.getpid()), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def fails(_: int) -> int:
    raise LeadtimeError("this run cannot be made")


def test_a_task_whose_worker_dies_is_done_by_another(address: str, tmp_path: Path) -> None:
    tasks = [str(tmp_path / f"mark-{i}") for i in range(3)]
    with workers(0, address) as pool:
        assert pool.count == 2
        answers = dict(pool.each(dies_once, tasks))
    assert sorted(answers) == [0, 1, 2]
    for i, task in enumerate(tasks):
        assert answers[i] not in (os.getpid(), int(Path(task).read_text(encoding="utf-8")))


def test_an_error_of_a_task_comes_back_as_itself(address: str) -> None:
    with workers(0, address) as pool, pytest.raises(LeadtimeError, match="this run cannot be made"):
        list(pool.each(fails, [1]))


def test_a_trial_whose_worker_is_killed_loses_nothing(address: str, tmp_path: Path) -> None:
    scenario, mark = str(write(tmp_path, SMALL)), tmp_path / "killed"
    (tmp_path / "fragile.py").write_text(FRAGILE.replace("MARK", repr(str(mark))), encoding="utf-8")
    words = ("tune", scenario, "--policy", f"{tmp_path}/fragile.py:Fragile", "--trials", "3", "--json")
    far = leadtime_process(*words, "--ray", address, "--out", str(tmp_path / "far"), timeout_s=120)
    assert far.code == 0, far.err
    assert mark.exists(), "no worker was killed"
    near = leadtime(*words, "--jobs", "1")  # the mark is there now: nobody dies
    assert near.code == 0, near.err
    assert json.loads(far.out) == json.loads(near.out)


def test_compare_runs_there_too(address: str, tmp_path: Path) -> None:
    words = ("compare", str(write(tmp_path, SMALL)), "--policies", "static,hpa_ongoing", "--json")
    far = leadtime_process(*words, "--ray", address, timeout_s=120)
    assert far.code == 0, far.err
    near = leadtime(*words, "--jobs", "1")
    runs = [[{**r, "wall": 0} for r in json.loads(ran.out)["runs"]] for ran in (far, near)]
    assert runs[0] == runs[1]


def test_no_cluster_is_one_line() -> None:
    ran = leadtime_process("tune", "preset:quickstart", "--policy", "keda", "--ray", "127.0.0.1:1", timeout_s=120)
    assert ran.code == 1
    assert "--ray 127.0.0.1:1: no Ray cluster answers there" in ran.err
