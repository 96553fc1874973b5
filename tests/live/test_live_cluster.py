"""The whole product in a cluster, with a real Ray Serve as data plane: the rendered chart's settings and rights,
`leadtime run` as real processes, the fake Kubernetes API, a KubeRay-like operator double, two real local Ray heads.

A ramp, the leader killed in mid-plan while an upgrade builds the second Ray cluster, the switch, an uninstall. No
request of a user is lost, every tick of every journal is within the invariants, every call within the chart's rights,
and nothing is left behind. What is not real here: the Kubernetes API, the operator, nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.fakes.kubernetes import objects
from tests.fakes.live_operator import LiveOperator, Users
from tests.kube.helpers import until
from tests.kube.release import LOWEST, check_journals, installed, values
from tests.live.conftest import CHAT, LLM
from tests.live.local_serve import LocalServe, local_serve

pytestmark = [pytest.mark.ray, pytest.mark.slow]
HIGHEST = 4
SERVE_CONFIG = """\
applications:
- name: chat
  route_prefix: /chat
  import_path: serve_app:build_chat
  external_scaler_enabled: true
  deployments:
  - {name: "LLMServer:tiny", num_replicas: 1, max_ongoing_requests: 2}
"""
SLOW_S = 120.0
"""Patience with a machine that does other things too; nothing here is timed."""


def report(what: str, began_s: float) -> None:
    print(f"\n  [live] {time.monotonic() - began_s:5.1f} s: {what}")


async def test_a_ramp_a_killed_leader_an_upgrade_and_an_uninstall_lose_no_request(
    serve: LocalServe, tmp_path: Path
) -> None:
    began_s = time.monotonic()
    service = objects.ray_service(
        annotations={"leadtime.dev/enabled": "true", "leadtime.dev/max-replicas": str(HIGHEST)},
        serve_config=SERVE_CONFIG,
    )
    with contextlib.ExitStack() as second_head:
        coming = asyncio.ensure_future(asyncio.to_thread(_start, second_head))
        given = [serve]

        async def heads() -> LocalServe:
            return given.pop() if given else await asyncio.shield(coming)

        try:
            async with (
                installed(tmp_path, values("chat/LLMServer:*", 2), "no token is asked for") as release,
                LiveOperator(
                    release.api, service, release.addresses, heads, (LLM.app, LLM.deployment)
                ) as operator,
                Users(operator, "/chat?seconds=0.4") as users,
            ):  # fmt: skip
                first = operator.now_active
                await release.start("pod-0")
                await until(lambda: release.holder() == "pod-0", SLOW_S)
                await release.start("pod-1")

                # the ramp: from one replica to as many as the annotation allows
                for rate_rps in (3.0, 8.0, 16.0):
                    users.rate_rps = rate_rps
                    await asyncio.sleep(1.5)
                await until_target(first.target, HIGHEST)
                report("ramped up", began_s)

                # a user upgrades; while the second cluster is built the leader dies in mid-plan: traffic went down, its
                # write has arrived, and is never answered
                operator.change_spec("2.61.0")
                first.relay.hold = True
                users.rate_rps = 3.0
                await until(lambda: first.relay.held > 0, SLOW_S)
                await release.kill("pod-0")
                first.relay.hold = False
                assert await first.target() == HIGHEST, "what was not answered was not done"
                await until(lambda: release.holder() == "pod-1", SLOW_S)
                await until(lambda: bool(first.relay.written) and _level(first.relay.written[-1]) < HIGHEST, SLOW_S)
                await release.start("pod-2")
                report("the next leader has scaled down", began_s)

                # the switch: the new cluster was brought to the level of the old one before anybody is sent there
                await until(lambda: operator.pending is not None and operator.pending.serve is not None, SLOW_S)
                second = operator.pending
                assert second is not None
                report("the new cluster is there", began_s)
                users.rate_rps = 6.0
                await until(lambda: bool(second.relay.written), SLOW_S)
                await until_settled(first.target, second.target)
                report("the new cluster is prepared", began_s)
                operator.switch()
                await until(lambda: first.name not in operator.clusters, SLOW_S)
                report("switched", began_s)
                sent = users.sent
                await until(lambda: users.sent >= sent + 10, SLOW_S)
                users.rate_rps = 0.0
                await until(lambda: users.waiting == 0, SLOW_S)
                report("everybody is answered", began_s)

                # the uninstall: targets stay, and everything that the chart and its pods made is gone
                await until(lambda: "pages on" in release.log("pod-2"), SLOW_S)
                assert await release.uninstall() == [0, 0]
                kept = await second.target()
                await asyncio.sleep(1.0)
                assert await second.target() == kept >= LOWEST
                assert release.left() == {("RayService", "llm", "chat-llm"), ("RayCluster", "llm", second.name)}
                report("uninstalled", began_s)
        finally:
            with contextlib.suppress(Exception):  # its failure is told where it was waited for
                await coming

    assert users.answers == {"200": users.sent}, "a request was lost"
    assert release.refused == []
    # a repeated event is patched after five minutes only
    assert release.unused <= {("patch", "events")}
    writes = check_journals(release, HIGHEST)
    assert min(writes["pod-0"], writes["pod-1"]) > 0
    everything = first.relay.written + second.relay.written
    assert {name for name, _ in everything} == {LLM.deployment}
    assert all(LOWEST <= _level(one) <= HIGHEST for one in everything)


def _start(stack: contextlib.ExitStack) -> LocalServe:
    """The second Ray head, with the application at the configured one replica."""
    head = stack.enter_context(local_serve(cpus=4))
    head.deploy(CHAT)
    head.wait("the application runs", lambda: head.running(LLM.app, LLM.deployment) == 1, SLOW_S)
    return head


def _level(written: tuple[str, dict[str, int]]) -> int:
    return written[1]["target_num_replicas"]


async def until_target(target, wanted: int) -> None:  # type: ignore[no-untyped-def]
    ends_at_s = time.monotonic() + SLOW_S
    while await target() != wanted:
        assert time.monotonic() < ends_at_s, f"the target never became {wanted}"
        await asyncio.sleep(0.1)


async def until_settled(one, other) -> None:  # type: ignore[no-untyped-def]
    """Both targets are the same, and were so a moment ago."""
    ends_at_s, same = time.monotonic() + SLOW_S, 0
    while same < 3:
        assert time.monotonic() < ends_at_s, "the new cluster never had the level of the old one"
        same = same + 1 if await one() == await other() else 0
        await asyncio.sleep(0.2)
