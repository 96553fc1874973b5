"""Two tenants of one controller, one of them hostile in whatever it writes and answers: the other's plan is the same.

Connections are recorded where they are made, by virtual addresses: nothing is asked outside of a tenant's own Service
and pods, and no token turns up where it does not belong.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from aiohttp import connector, web
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core import journal
from autoscaler.core.build import new_controller
from autoscaler.core.types import DeploymentPlan, DeploymentSettings, PauseState, SourceStatus
from autoscaler.kuberay.fleet import KubeRayFleet
from autoscaler.kuberay.reach import Reach
from autoscaler.kuberay.tokens import Tokens
from autoscaler.runtime.assembly import Held, assemble
from autoscaler.sources import names
from tests.autoscaler.build import config
from tests.autoscaler.kuberay.test_fleet import World
from tests.autoscaler.sources.test_kuberay import found
from tests.fakes.kubernetes import objects

CANARY = "canary-4711"
GOOD, EVIL = "10.1.0.1", "10.2.0.1"
PODS = {("good", "good-1"): frozenset([GOOD]), ("evil", "evil-1"): frozenset([EVIL, "10.2.0.2"])}
OUTSIDE = (GOOD, "127.0.0.1", "169.254.169.254", "34.1.2.3", "metadata.google.internal", "[fe80::1]", "localhost",
           "good-1-head-svc.good.svc")  # fmt: skip


def replica(i: int) -> dict[str, Any]:
    return {"replica_id": f"r{i}", "state": "RUNNING", "start_time_s": 1.0, "worker_id": f"w{i}", "node_id": "n"}


def applications(*names_of_apps: str, replicas: int = 2, status: str = "RUNNING") -> dict[str, Any]:
    one = {
        "deployment_config": {"max_ongoing_requests": 8}, "target_num_replicas": replicas, "status": status,
        "replicas": [replica(i) for i in range(replicas)], "message": status, "required_resources": {"GPU": 1},
    }  # fmt: skip
    made = {"status": status, "external_scaler_enabled": True, "deployments": {"llm": one}}
    return {"controller_info": {"a": "b"}, "applications": dict.fromkeys(names_of_apps, made)}


def page(requests: str) -> str:
    own = 'application="chat",deployment="llm",handle="h",WorkerId="p"'
    return f"{names.SERVE_ROUTED}{{{own}}} {requests}\n{names.SERVE_QUEUED}{{{own}}} {requests}\n"


class Answers:
    """What the hostile head answers, by path: (status, body, headers)."""

    def __init__(self, listed: Any, targets: Any, pages: str, redirect: int | None, location: str) -> None:
        self.bodies = {"applications": json.dumps(listed), "sd": json.dumps(targets), "metrics": pages}
        self.redirect, self.location = redirect, location
        self.tokens: list[str] = []

    async def __call__(self, request: web.Request) -> web.Response:
        self.tokens += request.headers.getall("Authorization", [])
        if self.redirect is not None:
            return web.Response(status=self.redirect, headers={"Location": self.location})
        return web.Response(text=self.bodies.get(request.path.rstrip("/").rpartition("/")[2], ""))


class Good:
    """The other tenant's head: it answers who has its token, and its page to anybody."""

    async def __call__(self, request: web.Request) -> web.Response:
        kind = request.path.rstrip("/").rpartition("/")[2]
        if kind == "metrics":
            return web.Response(text=page("7"))
        if request.headers.get("Authorization") != f"Bearer {CANARY}":
            return web.Response(status=403)
        return web.json_response(applications("chat") if kind == "applications" else [{"targets": [f"{GOOD}:8080"]}])


@asynccontextmanager
async def network(*heads: tuple[frozenset[str], Any], asked: list[str]) -> AsyncIterator[None]:
    """Virtual addresses with servers behind them; every connection that is begun is in `asked`."""
    runners, places = [], {}
    for addresses, handler in heads:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        places.update(dict.fromkeys(addresses, runner.addresses[0]))

    async def start_connection(addr_infos: Any, **options: Any) -> socket.socket:
        address = str(addr_infos[0][4][0])
        asked.append(address)
        if address not in places:
            raise ConnectionRefusedError
        made = socket.socket()
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, places[address])
        return made

    try:
        with mock.patch.object(connector.aiohappyeyeballs, "start_connection", start_connection):
            yield
    finally:
        for runner in runners:
            await runner.cleanup()


async def plans(evil: dict[str, Any] | None, answers: Answers | None, stands_for: tuple[str, str]) -> tuple[Any, ...]:
    """(the good tenant's plans of three ticks, addresses that were connected to, everything that is told)."""

    async def resolve(host: str, port: int) -> tuple[str, list[str]]:
        if host == "good-1-head-svc.good.svc":
            return f"{host}.cluster.local", [GOOD]
        assert host.endswith(".evil.svc"), host
        return stands_for[0] or f"{host}.cluster.local", [stands_for[1]]

    good = objects.ray_service(
        "good", namespace="good", cluster=objects.cluster_spec(authOptions={"mode": "token", "secretName": "tok"}),
        status=objects.service_status("good-1"),
    )  # fmt: skip
    world, asked, told, made = World(), list[str](), list[str](), list[DeploymentPlan]()
    world.services_now = found(good, *([] if evil is None else [evil]), patterns=["*/*/*/*"])
    controller = new_controller(config(DeploymentSettings("*/*/chat/llm", max_replicas=8)))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "good" / "tok").mkdir(parents=True)
        (Path(folder) / "good" / "tok" / "auth_token").write_text(CANARY)
        reach = Reach(Tokens(Path(folder)), pods=lambda *place: PODS.get(place), resolve=resolve, timeout_s=30.0)
        fleet = KubeRayFleet(world, reach, wait_s=60.0)
        heads = [(frozenset([GOOD]), Good()), (PODS["evil", "evil-1"], answers or Good())]
        async with network(*heads, asked=asked):
            for now_s in (100.0, 105.0, 110.0):
                readings = [await fleet.inventories.read(now_s), await fleet.metrics.read(now_s)]
                held = [Held(SourceStatus(r.source, True, now_s, ""), r) for r in readings]
                signals = assemble(held, PauseState(), True, now_s)
                plan = controller.step(signals, now_s)
                made += [one for one in plan.deployments if one.key.namespace == "good"]
                told += [r.why for r in readings]
                told.append(journal.encode(journal.tick_record(signals, plan, (), {})).decode())
            await fleet.close()
    return made, asked, told


ALONE, _, _ = asyncio.run(plans(None, None, ("", EVIL)))
TEXT = st.sampled_from(["chat", "u@x", "../good/tok", "tok", "good", "evil-1", "a/b", "", "RUNNING", "x" * 300, "a\nb"])
ANY = TEXT | st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)
LISTED = JSON | st.builds(
    applications, st.sampled_from(["chat", "other"]), replicas=st.sampled_from([0, 2, 300]), status=ANY
) | st.builds(lambda n: applications(*(f"a{i}" for i in range(n))), st.sampled_from([3, 250]))  # fmt: skip
TARGETS = JSON | st.lists(st.sampled_from([*OUTSIDE, EVIL, "10.2.0.2"]), max_size=4).map(
    lambda hosts: [{"targets": [f"{host}:8080" for host in hosts]}]
)
PAGES = ANY | st.sampled_from(["1e308", "NaN", "-5", "7", "x"]).map(page) | st.just(page("9") * 20_000)
STANDS_FOR = st.sampled_from(
    [("", EVIL), ("", EVIL), ("good-1-head-svc.good.svc.cluster.local", GOOD), ("", "169.254.169.254"),
     ("", "127.0.0.1"), ("example.com", "34.1.2.3"), ("", "::ffff:127.0.0.1")]
)  # fmt: skip
ANNOTATIONS = st.dictionaries(
    st.sampled_from(["enabled", "paused", "min-replicas", "max-replicas", "slo-ttft-s", "act", "odd"]).map(
        "leadtime.dev/{}".format
    ),
    st.sampled_from(["true", "false", "1", "100000", "-1", "policy", "nan", "x"]) | st.text(max_size=5),
    max_size=3,
)


@given(
    service=st.sampled_from(["good", "evil"]), cluster=st.sampled_from(["evil-1", "evil-1", "good-1"]) | ANY,
    head=st.none() | ANY, secret=st.none() | ANY, annotations=ANNOTATIONS, listed=LISTED, targets=TARGETS, pages=PAGES,
    redirect=st.sampled_from([None, None, None, 301, 307]),
    location=st.sampled_from([f"http://{GOOD}:8265/", "http://169.254.169.254/", "//x"]), stands_for=STANDS_FOR,
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_others_plan_is_as_without_the_hostile_tenant(
    service: str, cluster: str, head: str | None, secret: str | None, annotations: dict[str, str], listed: Any,
    targets: Any, pages: str, redirect: int | None, location: str, stands_for: tuple[str, str],
) -> None:  # fmt: skip
    auth = {"mode": "disabled"} if secret is None else {"mode": "token", "secretName": secret}
    spec = objects.cluster_spec(authOptions=auth)
    status = objects.service_status(cluster)
    if head is not None:
        spec["headGroupSpec"]["headService"] = {"metadata": {"name": head}}
        status["activeServiceStatus"].pop("rayClusterStatus", None)
    evil = objects.ray_service(service, namespace="evil", annotations=annotations, cluster=spec, status=status)
    answers = Answers(listed, targets, pages, redirect, location)
    made, asked, told = asyncio.run(plans(evil, answers, stands_for))
    assert made == ALONE
    assert set(asked) <= {GOOD, *PODS["evil", "evil-1"]}
    assert not any(CANARY in token for token in answers.tokens)
    assert not any(CANARY in text for text in told)


def test_the_good_tenant_alone_is_planned_for() -> None:
    assert len(ALONE) == 3
    assert all(one.target is not None for one in ALONE)


async def test_what_the_recorder_sees_is_what_is_connected_to() -> None:
    """Else no request outside could be found."""
    answers = Answers(applications("chat"), [{"targets": [f"{EVIL}:1"]}], page("1"), None, "")
    evil = objects.ray_service(
        "evil", namespace="evil", cluster=objects.cluster_spec(authOptions={"mode": "disabled"}),
        status=objects.service_status("evil-1"),
    )  # fmt: skip
    _, asked, told = await plans(evil, answers, ("", EVIL))
    assert {GOOD, EVIL} == set(asked)
    assert not any("cannot be read" in text for text in told)
