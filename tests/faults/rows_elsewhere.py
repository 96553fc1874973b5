"""Rows of what else the controller talks to: an MQTT broker (a real one), a Prometheus, the Kubernetes API (a fake)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.server import FakeApi
from tests.fakes.kubernetes.traffic import Fault as ApiFault
from tests.faults.play import Play
from tests.faults.row import Fault, Row, Rows
from tests.faults.rows_metrics import both, load
from tests.faults.wire import Answer, Request, Wire
from tests.faults.world import LLM
from tests.kube.helpers import kubeconfig
from tests.mqtt.broker import Mosquitto
from tests.mqtt.messages import moment

TOPIC = "leadtime/hints/default/local/chat/llm"
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lt", "namespace": "leadtime"}}
MQTT = "mqtt: {host: 127.0.0.1, port: {port}, tls: false, timeout_s: 2, max_rps_per_deployment: 200}"
PROMETHEUS = 'prometheus: {url: "http://127.0.0.1:{port}", history_s: 86400, timeout_s: 1, signals: {signals}}'
KUBERNETES = "kubernetes: {kubeconfig: {folder}/kubeconfig, watch_namespaces: [llm], name: lt, namespace: leadtime}"
ELECTION = "\nleader_election: {enabled: true, lease_s: 3, renew_deadline_s: 2}"
RENEW_DEADLINE_TICKS = 20
"""Two seconds, of which a tick takes a tenth: so long after the last renewal a write may start (docs/kubernetes.md)."""

# ---------------------------------------------------------------- MQTT


@contextlib.asynccontextmanager
async def broker(play: Play) -> AsyncIterator[None]:
    mosquitto = Mosquitto(play.folder / "broker")
    play.notes["broker"], play.notes["port"] = mosquitto, mosquitto.port
    await mosquitto.start()
    for topic, payload in play.notes.get("retained", ()):
        await mosquitto.publish(topic, payload, retain=True)
    try:
        yield
    finally:
        if mosquitto.process is not None:
            await mosquitto.stop()


def published(topic: str, *payloads: bytes, retain: bool = False) -> Callable[[Play], Awaitable[None]]:
    async def publish(play: Play) -> None:
        async with play.notes["broker"].client() as client:
            for payload in payloads:
                await client.publish(topic, payload, qos=1, retain=retain)
        await asyncio.sleep(0.2)

    return publish


async def broker_gone(play: Play) -> None:
    await play.notes["broker"].kill()


async def broker_back(play: Play) -> None:
    await play.notes["broker"].start()


async def broker_comes_and_goes(play: Play) -> None:
    if play.tick % 10 == 0:
        await play.notes["broker"].kill()
    if play.tick % 10 == 5:
        with contextlib.suppress(AssertionError):
            await play.notes["broker"].start()
    await asyncio.sleep(0.05)


async def broker_there(play: Play) -> None:
    if play.notes["broker"].process is None:
        await play.notes["broker"].start()


def hint(play: Play, number: int = 0, **changes: object) -> bytes:
    now_s = play.wall_s()
    said = {"id": f"h{number}", "start_at": moment(now_s), "end_at": moment(now_s + 1800), "rps": 40.0}
    return json.dumps(said | changes).encode()


async def flood(play: Play) -> None:
    """Some 100 hints a tick, each of which wants much."""
    async with play.notes["broker"].client() as client:
        for number in range(100):
            await client.publish(TOPIC, hint(play, play.tick * 100 + number, rps=1e5))
    await asyncio.sleep(0.02)


def garbage(seed: int) -> tuple[bytes, ...]:
    draw = random.Random(f"garbage {seed}")
    return (
        b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 50_000, b'{"id": "\\ud83d"}', b"9" * 100_000,
        b'{"id": "a", "rps": NaN}', b'{"id": "a", "start_at": "1e9", "rps": 1e308}', draw.randbytes(5000),
    )  # fmt: skip


async def beyond(play: Play) -> None:
    await published(TOPIC, hint(play, 1, rps=1e9), hint(play, 2, rps=-5), hint(play, 3, multiplier=1e12))(play)


# ---------------------------------------------------------------- Prometheus


def prometheus(answer: Callable[[Request], Answer], fresh: bool = True) -> Callable[[Play], object]:
    """A server that is one by its address only. `fresh`: without a state, so that history is asked for."""

    @contextlib.asynccontextmanager
    async def serve(play: Play) -> AsyncIterator[None]:
        def say(request: Request) -> Answer:
            play.notes["asked"] = play.notes.get("asked", 0) + 1
            return answer(request)

        if fresh:
            (play.state / "leadtime.sqlite").unlink()
        async with Wire(say) as wire:
            play.notes["port"] = wire.port
            yield

    return serve


def matrix(*values: object) -> bytes:
    """An answer to a range query with these values, a minute apart until now."""
    ends_s = 1_800_001_800
    points = [[ends_s - 60 * at, value] for at, value in enumerate(reversed(values))]
    result = [{"metric": {"application": "chat", "deployment": "llm"}, "values": points[::-1]}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def was_asked(play: Play) -> list[str]:
    return [] if play.notes.get("asked") else ["nobody asked it"]


# ---------------------------------------------------------------- Kubernetes


@contextlib.asynccontextmanager
async def cluster(play: Play) -> AsyncIterator[None]:
    with FakeApi(crds=KUBERAY, namespaces=("default", "llm", "leadtime")) as api:
        play.notes["api"] = api
        kubeconfig(play.folder / "kubeconfig", api.url, "t")
        api.add(LEASE)
        yield


def api_says(fault: ApiFault) -> Callable[[Play], None]:
    """Every request is answered so."""

    def begin(play: Play) -> None:
        api = play.notes["api"]
        api.traffic.hooks.append(lambda request: fault)
        api.cut_watches()

    return begin


def api_well(play: Play) -> None:
    play.notes["api"].traffic.hooks.clear()


def watches_cut(play: Play) -> None:
    play.notes["api"].cut_watches()


def history_gone(play: Play) -> None:
    """What was watched is compacted away, and watches begin anew: 410."""
    play.notes["api"].compact()
    play.notes["api"].cut_watches()


async def _real_time(play: Play) -> None:
    """Leases run in real time: a tick takes a tenth of a second."""
    await asyncio.sleep(0.1)


def steal(play: Play) -> None:
    """Somebody else holds the lease, and renews it for as long as the fault lasts."""
    api = play.notes["api"]
    spec = api.read(LEASE)["spec"]
    api.change(LEASE, {"spec": {**spec, "holderIdentity": "thief", "leaseTransitions": 99 + play.tick}})


async def stolen(play: Play) -> None:
    """Taken without waiting for its end, which no elector does: until the renew deadline we may write. Demand doubles
    when that has passed, so that there is something to write."""
    if play.tick + 1 == play.first_faulty + RENEW_DEADLINE_TICKS:
        play.world.of(LLM).load *= 2.0
    steal(play)
    await _real_time(play)


def nobody_writes(grace_ticks: int) -> Callable[[Play], list[str]]:
    """Without the lease nothing is posted, some ticks after it was lost."""

    def check(play: Play) -> list[str]:
        since = play.first_faulty + grace_ticks
        late = [post for post in play.posts if since <= post.tick <= play.last_faulty]
        return [f"{len(late)} posts without the lease, the first at tick {late[0].tick}"] if late else []

    return check


def build(rows: Rows, seed: int = 0) -> None:
    doubled, halved = load(2.0), load(0.5)
    mqtt = {"settings": MQTT, "beside": broker}
    rows.add(
        Row("mqtt: no broker at all, and demand doubles", Fault(begin=doubled, end=halved), "rises",
            settings=MQTT.replace("{port}", "9"), back=None),
        Row("mqtt: the broker dies", Fault(begin=broker_gone, end=broker_back), back=None, **mqtt),
        Row("mqtt: the broker comes and goes", Fault(tick=broker_comes_and_goes, end=broker_there), minutes=4.0,
            back=None, **mqtt),
        Row("mqtt: malformed messages",
            Fault(tick=lambda play: published(TOPIC, *garbage(seed))(play) if play.tick % 10 == 0 else None),
            minutes=4.0, **mqtt),
        Row("mqtt: retained garbage on every topic",
            Fault(begin=published("leadtime/hints/default/local/a/b/c/d", b"\xff", retain=True),
                  tick=lambda play: published(f"{TOPIC}%2F{play.tick}", b"{", retain=True)(play)
                  if play.tick % 10 == 0 else None), minutes=4.0, **mqtt),
        Row("mqtt: a flood of hints", Fault(tick=flood), "not down", minutes=3.0, back=None, **mqtt,
            why="a hint raises demand to its ceiling and no further"),
        Row("mqtt: hints beyond every bound", Fault(begin=beyond), "not down", minutes=4.0, back=None, **mqtt),
    )  # fmt: skip
    for name, answer in (
        ("answers 500", lambda request: Answer(b"oops", 500)),
        ("answers 503 with a page", lambda request: Answer(b"<html>", 503)),
        ("hangs", lambda request: Answer(how="hang")),
        ("resets", lambda request: Answer(how="reset")),
        ("says half", lambda request: Answer(matrix(*["91"] * 600), how="half")),
        ("is a login page", lambda request: Answer(b"<html>Sign in</html>")),
        ("is empty", lambda request: Answer(b'{"status": "success", "data": {"resultType": "matrix", "result": []}}')),
        ("says null", lambda request: Answer(b"null")),
        ("says NaN and infinity", lambda request: Answer(matrix(*["NaN", "+Inf", "-Inf"] * 200))),
        ("says 1e308", lambda request: Answer(matrix(*["1e308"] * 600))),
        ("says negative rates", lambda request: Answer(matrix(*["-91"] * 600))),
        ("says text", lambda request: Answer(matrix(*["many"] * 600))),
        ("says points without values", lambda request: Answer(matrix(*[None, {}, []] * 200))),
        ("redirects", lambda request: Answer(b"", 302, location="http://127.0.0.1:9/")),
    ):  # fmt: skip
        settings = PROMETHEUS.replace("{signals}", "false")
        rows.add(
            Row(f"prometheus: at start it {name}", Fault(), "not down", most=8, minutes=4.0, settings=settings,
                beside=prometheus(answer), check=was_asked),
        )  # fmt: skip
    rows.add(
        Row("prometheus: pages gone, and what is left answers NaN",
            Fault(answer=lambda request, answer: answer if request.page is None else answer.but(how="reset")),
            settings=PROMETHEUS.replace("{signals}", "true"),
            beside=prometheus(lambda request: Answer(matrix(*["NaN"] * 60)), fresh=False), back=None),
    )  # fmt: skip
    kube = {"settings": KUBERNETES, "beside": cluster}
    rows.add(
        Row("kubernetes: the API is away, and demand doubles",
            Fault(begin=both(api_says(ApiFault(drop=True)), doubled), end=both(api_well, halved)), "rises",
            back=None, **kube),
        Row("kubernetes: the API hangs", Fault(begin=api_says(ApiFault(hang=True)), end=api_well), minutes=3.0,
            back=None, **kube),
    )  # fmt: skip
    for status, words in ((401, None), (403, None), (409, None), (410, None), (429, None), (500, None),
                          (503, "<html>"), (200, "garbage")):  # fmt: skip
        fault = ApiFault(status=status, text=words, retry_after_s=1 if status == 429 else None)
        rows.add(
            Row(f"kubernetes: the API answers {status}{' and a page' if words else ''}",
                Fault(begin=api_says(fault), end=api_well), minutes=4.0, back=None, others=True, **kube),
        )  # fmt: skip
    rows.add(
        # How soon a watch is back is a matter of real seconds: the client waits longer each time.
        Row("kubernetes: watches are cut at each tick", Fault(tick=watches_cut), minutes=4.0, back=None, **kube),
        Row("kubernetes: what is watched is compacted away", Fault(tick=history_gone), minutes=4.0, back=None, **kube),
        Row("kubernetes: the lease is stolen, and demand doubles", Fault(tick=stolen, end=halved), "free",
            minutes=8.0, settings=KUBERNETES + ELECTION, beside=cluster, back=None,
            check=nobody_writes(RENEW_DEADLINE_TICKS), why="nothing is written after its renew deadline"),
        Row("kubernetes: the API is away, and the lease runs out",
            Fault(begin=both(api_says(ApiFault(drop=True)), doubled), tick=_real_time, end=both(api_well, halved)),
            "free", minutes=10.0, settings=KUBERNETES + ELECTION, beside=cluster, back=None,
            check=nobody_writes(40), why="writes go on to the renew deadline and no longer"),
    )  # fmt: skip
