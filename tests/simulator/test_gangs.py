"""Gangs in the simulated cluster: replicas that start and stop together, as in Ray Serve 2.60 (docs/ray-paths.md)."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.common.errors import ScenarioError
from policies.base.durations import Duration
from simulator.scenario.load import load_scenario
from simulator.serve.rollout import Update
from tests.simulator.fleet import Fleet, fleet, pool, spec
from tests.simulator.test_run import play

LOOP_S, LOAD_S = 0.1, 12.0
PAIR = spec(gang_size=2)


def gangs(f: Fleet, *states: str) -> Counter[int]:
    """Members by gang, of replicas in these states."""
    return Counter(r.gang for r in f.serve.replicas.values() if r.state in states)


def test_a_gang_runs_when_its_last_member_is_ready() -> None:
    slow = spec(gang_size=4, gpus=1, init_s=Duration.from_median_p99(10.0, 60.0), initial=4)
    f = fleet(pool(gpus_per_node=8, worker_gpus=8), deployments=(slow,))
    f.at(7.0, 8)
    f.run(300)
    times = f.plane.times("add")[4:]
    assert len(times) == 4
    assert len(set(times)) == 1
    ends = {start.ended_at_s for start in f.serve.starts}
    assert ends == set(times)
    assert times[0] > 7.0 + LOAD_S


def test_a_gang_stops_together() -> None:
    f = fleet(deployments=(spec(gang_size=2, initial=4),))
    f.at(10.0, 2)
    f.run(10.5)
    assert sorted(f.states()) == ["RUNNING", "RUNNING", "STOPPING", "STOPPING"]
    assert set(gangs(f, "STOPPING").values()) == {2}
    f.run(60)
    assert list(gangs(f, "RUNNING").values()) == [2]


@pytest.mark.parametrize(
    ("before", "target", "runs"),
    [(2, 3, 2), (4, 3, 4), (4, 5, 4), (4, 1, 2), (2, 1, 2), (0, 1, 0), (2, 0, 0), (2, 5, 2), (2, 4, 4)],
)
def test_a_target_that_is_no_multiple_does_what_serve_does(before: int, target: int, runs: int) -> None:
    f = fleet(deployments=(spec(gang_size=2, initial=before),))
    f.at(10.0, target)
    f.run(400)
    assert f.states() == ["RUNNING"] * runs
    assert f.serve.inventory().target == target


def test_a_gang_gets_its_gpus_at_once_or_not_at_all() -> None:
    single = spec(key=spec().key.parse("code/llm"), initial=1)
    f = fleet(pool(max_nodes=1), deployments=(PAIR, single))  # two of four GPUs are taken
    f.at(1.0, 2)
    f.run(200)
    assert [(r.state, r.node) for r in f.serve.replicas.values()] == [("STARTING", None)] * 2
    f.at(200.0, 0, which=1)
    f.run(240)
    assert f.states() == ["RUNNING"] * 2


def test_a_part_of_a_gang_that_fits_on_what_is_free_asks_for_no_node_of_its_own() -> None:
    single = spec(key=spec().key.parse("code/llm"), initial=1)
    f = fleet(deployments=(PAIR, single))
    f.at(1.0, 2)
    f.run(300)
    assert f.states() == ["RUNNING"] * 2
    assert len(f.cluster.pools["h100"].nodes) == 2


def test_a_member_that_dies_takes_its_gang_along_and_a_whole_one_starts() -> None:
    f = fleet(deployments=(spec(gang_size=2, initial=4),))
    victim = next(iter(f.serve.replicas.values()))
    f.queue.at(10.0, lambda: f.serve.crash(victim, noticed_after_s=5.0))
    f.run(15.5)
    assert gangs(f, "RUNNING") == {1: 2}
    assert gangs(f, "STARTING") == {2: 2}
    f.run(60)
    assert gangs(f, "RUNNING") == {1: 2, 2: 2}


def test_a_node_that_is_taken_away_takes_every_gang_with_a_member_on_it() -> None:
    wide = spec(gang_size=4, initial=4)  # two members on each of two nodes
    f = fleet(deployments=(wide,))
    node = f.cluster.pools["h100"].nodes[0]
    f.queue.at(10.0, lambda: f.cluster._node_preempted(node))
    f.run(11.0)
    assert gangs(f, "RUNNING") == {}
    assert gangs(f, "STARTING") == {1: 4}
    f.run(300)
    assert gangs(f, "RUNNING") == {1: 4}


@pytest.mark.parametrize("surge", [0.0, 0.5])
def test_a_new_version_comes_in_whole_gangs(surge: float) -> None:
    f = fleet(pool(gpus_per_node=16, worker_gpus=16), deployments=(spec(gang_size=2, initial=6),))
    update = Update(6, max_surge_fraction=surge)
    f.queue.at(10.0, lambda: f.serve.redeploy(update, False))
    for at_s in range(11, 400):
        f.run(float(at_s))
        assert set(gangs(f, "STARTING", "RUNNING").values()) <= {2}
        assert set(gangs(f, "STOPPING").values()) <= {2}
    assert f.states() == ["RUNNING"] * 6
    assert {r.version for r in f.serve.replicas.values()} == {1}


@given(st.lists(st.tuples(st.floats(1.0, 60.0), st.integers(0, 9)), min_size=1, max_size=8), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_whatever_is_asked_for_gangs_stay_whole(course: list[tuple[float, int]], size: int) -> None:
    f = fleet(pool(gpus_per_node=8, worker_gpus=8), deployments=(spec(gang_size=size, gpus=1, initial=size),))
    now_s = 0.0
    for seconds, target in course:
        f.at(now_s, target)
        now_s += seconds
        f.run(now_s)
        for states in (("STARTING",), ("RUNNING",)):
            assert set(gangs(f, *states).values()) <= {size}
    f.at(now_s, 2 * size)
    f.run(now_s + 600.0)
    assert f.states() == ["RUNNING"] * 2 * size


# ---------------------------------------------------------------- whole runs


SCENARIO = """
version: 1
name: gangs
duration_s: 1500
tick_s: 5
policy: {{name: {policy}}}
deployments:
  - name: chat/llm
    profile: llama-3.1-8b/h100/tp1
    gang_size: {size}
    node_pool: h100
    replicas: {replicas}
    workload:
      synthetic:
        bin_s: 30
        duration_s: 1500
        base_rps: 40
        spikes: [{{at_s: 300, width_s: 600, factor: 4}}]
        prompt_tokens: {{median: 800, p99: 4000}}
        output_tokens: {{median: 150, p99: 600}}
node_pools:
  - {{name: h100, gpus_per_node: 4, provision_s: 30, nodes: {{min: 1, max: 6}}}}
"""


def written(tmp_path: Path, policy: str = "predictive", size: int = 3, replicas: str = "{min: 2, max: 13}") -> str:
    path = tmp_path / "gangs.yaml"
    path.write_text(SCENARIO.format(policy=policy, size=size, replicas=replicas))
    return str(path)


@pytest.mark.parametrize(
    "policy", ["predictive", "hpa_ongoing", "knative", "ray_serve", "wva", "dynamo_easy", "static", "oracle_lead"]
)
def test_every_policy_is_played_in_whole_gangs(tmp_path: Path, policy: str) -> None:
    document, _, played = play(load_scenario(written(tmp_path, policy)), policy)
    rows = played.rows
    assert {row.target for row in rows} <= {3, 6, 9, 12}
    assert {row.running % 3 for row in rows} == {0}
    assert document["failed"] == 0
    if policy != "static":
        assert any(a.target != b.target for a, b in pairwise(rows)), "it scales"


@pytest.mark.parametrize(
    ("size", "replicas", "words"),
    [
        (0, "{max: 4}", "gang_size: 0; allowed: a whole number from 1 to 1000"),
        (4, "{max: 3}", "gang_size: 4; allowed: one of which a whole number lies within replicas, 1 to 3"),
        (4, "{min: 5, max: 7}", "gang_size: 4; allowed: one of which a whole number lies within replicas, 5 to 7"),
        (4, "{max: 8, initial: 6}", "replicas.initial: 6; allowed: a multiple of gang_size, which is 4"),
    ],
)
def test_gangs_that_cannot_be_are_refused_by_name(tmp_path: Path, size: int, replicas: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(written(tmp_path, size=size, replicas=replicas))
    assert words in str(caught.value)


def test_a_redeploy_is_of_whole_gangs(tmp_path: Path) -> None:
    path = Path(written(tmp_path))
    fault = "{at_s: 60, kind: redeploy, deployment: chat/llm, replicas: 4}"
    path.write_text(f"{path.read_text()}faults: [{fault}]\n")
    with pytest.raises(ScenarioError, match="4; allowed: a multiple of gang_size of chat/llm, which is 3"):
        load_scenario(str(path))
