"""Rows of the Ray dashboard: status codes, connections, what it lists, and what becomes of a POST."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.faults.play import Play
from tests.faults.row import Document, Fault, Row, Rows
from tests.faults.rows_metrics import both, load
from tests.faults.wire import Answer, How, Request
from tests.faults.world import LLM

SURROGATE = "\\ud83d"
"""As it stands in JSON."""


def dashboard_says(
    status: int, body: bytes = b"garbage", reads: bool = True, writes: bool = True, **more: str
) -> Fault:
    def answer(request: Request, given: Answer) -> Answer:
        if request.page is not None or not (writes if request.method == "POST" else reads):
            return given
        return Answer(body, status, location=more.get("location", ""))

    return Fault(answer=answer)


def dashboard_is(how: How) -> Fault:
    return Fault(answer=lambda request, answer: answer if request.page is not None else answer.but(how=how))


def posts(change: Callable[[Answer], Answer], **more: Any) -> Fault:
    return Fault(answer=lambda request, answer: change(answer) if request.method == "POST" else answer, **more)


def llm(document: Document) -> Document:
    found: Document = document["applications"]["chat"]["deployments"]["llm"]
    return found


def listed(change: Callable[[Document], Any]) -> Fault:
    """The list with a change made in place."""

    def applications(document: Document) -> object:
        changed = change(document)
        return document if changed is None or changed is document else changed

    return Fault(applications=applications)


def gangs_of(size: object) -> dict[str, object]:
    return {"gang_scheduling_config": {"gang_size": size}}


def with_text(change: Callable[[Document], Any]) -> Fault:
    """The list as text, where the word SURROGATE becomes one half of a pair."""

    def applications(document: Document) -> object:
        change(document)
        return json.dumps(document).replace("SURROGATE", SURROGATE)

    return Fault(applications=applications)


def every_text(value: Any) -> Any:
    """Each text in it ends with half of a pair, but for those that tell the states and who it is."""
    if isinstance(value, dict):
        kept = ("status", "state", "node_id", "worker_id", "replica_id", "name")
        return {k: v if k in kept else every_text(v) for k, v in value.items()}
    if isinstance(value, list):
        return [every_text(one) for one in value]
    return value + "SURROGATE" if isinstance(value, str) else value


def nobody_asks(play: Play) -> None:
    """The service fails all, and so its users go."""
    one = play.world.of(LLM)
    if play.tick - play.first_faulty > 24:
        one.load = 0.0


def unwell(play: Play) -> None:
    one = play.world.of(LLM)
    one.failing, one.status, one.app_status = True, "UNHEALTHY", "UNHEALTHY"


def well(play: Play) -> None:
    one = play.world.of(LLM)
    one.failing, one.status, one.app_status, one.load = False, "HEALTHY", "RUNNING", 4.2


def set_target(value: int) -> Callable[[Play], None]:
    def change(play: Play) -> None:
        play.world.of(LLM).target = value

    return change


def set_back(play: Play) -> None:
    play.world.of(LLM).target = 6


def one_post_to_the_maximum(play: Play) -> list[str]:
    """Or none; what comes after that is as demand says."""
    values = [post.value for post in play.posts if post.key == LLM and play.faulty_tick(post.tick)]
    return [] if values[:1] in ([], [play.max]) else [f"brought down in {len(values)} posts: {values[:8]}"]


def disobey(play: Play) -> None:
    play.world.of(LLM).obeys = False


def obey(play: Play) -> None:
    play.world.of(LLM).obeys = True


def crash(play: Play) -> None:
    one = play.world.of(LLM)
    one.crashes, one.message = True, "A replica failed to start: CUDA out of memory"


def crash_no_more(play: Play) -> None:
    one = play.world.of(LLM)
    one.crashes, one.message, one.load = False, "", 4.2


def forgets_posts(play: Play) -> None:
    """Answers 200 and takes nothing."""
    play.notes["refuse"] = (200, "Scaling request received. Deployment will get scaled asynchronously.")


def refuses(status: int, words: str) -> Callable[[Play], None]:
    def change(play: Play) -> None:
        play.notes["refuse"] = (status, words)

    return change


def takes_again(play: Play) -> None:
    play.notes.pop("refuse", None)
    play.world.of(LLM).load = 4.2


def few_posts(play: Play) -> list[str]:
    """At most one POST for a deployment a tick."""
    ticks = [post.tick for post in play.posts if post.key == LLM]
    most = max((ticks.count(tick) for tick in ticks), default=0)
    return [] if most <= 1 else [f"{most} posts for one deployment in a tick"]


def build(rows: Rows, seed: int = 0) -> None:
    draw = random.Random(f"dashboard {seed}")
    for status in (400, 401, 403, 404, 412, 429, 500, 502, 503, 504):
        rows.add(Row(f"dashboard: answers {status}", dashboard_says(status), minutes=5.0))
    rows.add(
        Row("dashboard: 200 and an empty body", dashboard_says(200, b""), minutes=5.0),
        Row("dashboard: 200 and a login page", dashboard_says(200, b"<html>Sign in</html>"), minutes=5.0),
        Row("dashboard: 200 and null", dashboard_says(200, b"null"), minutes=5.0),
        Row("dashboard: 200 and NaN", dashboard_says(200, b"NaN"), minutes=5.0),
        Row("dashboard: 200 and a list", dashboard_says(200, b"[]"), minutes=5.0),
        Row("dashboard: 200 and an empty object", dashboard_says(200, b"{}"), minutes=5.0),
        Row("dashboard: 200 and text that is no UTF-8", dashboard_says(200, b'{"applications": "\xff\xfe"}'),
            minutes=5.0),
        Row("dashboard: brackets a hundred thousand deep", dashboard_says(200, b"[" * 100_000), minutes=3.0),
        Row("dashboard: a number of a hundred thousand digits",
            dashboard_says(200, b'{"applications": ' + b"9" * 100_000 + b"}"), minutes=3.0),
        Row("dashboard: redirects", dashboard_says(302, b"", location="http://127.0.0.1:9/"), minutes=5.0),
        Row("dashboard: redirects to itself for ever", dashboard_says(307, b"", location="/api/serve/applications/"),
            minutes=5.0),
        Row("dashboard: hangs", dashboard_is("hang"), minutes=2.0, timeout_s=0.3),
        Row("dashboard: hangs after its headers", dashboard_is("headers"), minutes=2.0, timeout_s=0.3),
        Row("dashboard: drips", dashboard_is("drip"), minutes=2.0, timeout_s=0.3),
        Row("dashboard: half answers", dashboard_is("half"), minutes=5.0),
        Row("dashboard: resets", dashboard_is("reset"), minutes=5.0),
        Row("dashboard: speaks no HTTP", dashboard_is("garbage"), minutes=5.0),
        Row("dashboard: an answer of 40 MB", dashboard_says(200, b'{"a": "' + b"x" * 40_000_000 + b'"}'), minutes=1.0),
        Row("dashboard: a list of 3,000 replicas",
            listed(lambda d: llm(d).update(replicas=llm(d)["replicas"] * 500)), "not down", minutes=2.0),
        Row("dashboard: down for one tick in two",
            Fault(answer=_every_other_read), minutes=5.0),
    )  # fmt: skip
    # what it lists
    rows.add(
        Row("dashboard: no applications and no controller",
            Fault(applications=lambda d: {"controller_info": {}, "proxies": {}, "applications": {}})),
        Row("dashboard: no applications, the controller is there",
            Fault(applications=lambda d: {**d, "applications": {}})),
        Row("dashboard: one application is gone", listed(lambda d: d["applications"].pop("chat") and None),
            others=True),
        Row("dashboard: one deployment is renamed",
            listed(lambda d: d["applications"]["chat"].update(deployments={"llm2": llm(d)})), others=True),
        Row("dashboard: the replica list is empty for a while", listed(lambda d: llm(d).update(replicas=[])),
            minutes=5.0, others=True),
        Row("dashboard: no list of replicas", listed(lambda d: llm(d).pop("replicas") and None), others=True),
        Row("dashboard: replicas are an object", listed(lambda d: llm(d).update(replicas={"a": 1})), others=True),
        Row("dashboard: replicas of null", listed(lambda d: llm(d).update(replicas=[None, 7, "r"])), others=True),
        Row("dashboard: no deployment_config", listed(lambda d: llm(d).pop("deployment_config") and None),
            others=True),
        Row("dashboard: a deployment is null",
            listed(lambda d: d["applications"]["chat"]["deployments"].update(llm=None)), others=True),
        Row("dashboard: a deployment is text",
            listed(lambda d: d["applications"]["chat"]["deployments"].update(llm="HEALTHY")), others=True),
        Row("dashboard: an application is a list", listed(lambda d: d["applications"].update(chat=[])), others=True),
        Row("dashboard: applications are a list",
            listed(lambda d: d.update(applications=list(d["applications"].values())))),
        Row("dashboard: a deployment's name is empty",
            listed(lambda d: d["applications"]["chat"]["deployments"].update({"": llm(d)})), others=True),
        Row("dashboard: names with slashes and line breaks",
            listed(lambda d: d["applications"].update({"a/b\nc": {**d["applications"]["chat"], "name": "a/b\nc"}})),
            others=True),
        Row("dashboard: a worker id is a list", listed(lambda d: llm(d)["replicas"][0].update(worker_id=["w"])),
            others=True),
        Row("dashboard: a node id is an object",
            listed(lambda d: llm(d)["replicas"][0].update(node_id={"a": 1})), others=True),
        Row("dashboard: a replica id is a number", listed(lambda d: llm(d)["replicas"][0].update(replica_id=7)),
            "not down", others=True),
        Row("dashboard: two replicas of one id",
            listed(lambda d: llm(d)["replicas"][1].update(replica_id=llm(d)["replicas"][0]["replica_id"])),
            "not down", others=True),
        Row("dashboard: a start time of 1e308",
            listed(lambda d: llm(d)["replicas"][0].update(start_time_s=1e308)), others=True),
        Row("dashboard: a start time that is text",
            listed(lambda d: llm(d)["replicas"][0].update(start_time_s="soon")), others=True),
        Row("dashboard: a state that nobody knows",
            listed(lambda d: llm(d)["replicas"][0].update(state="LEVITATING")), "not down", others=True),
        Row("dashboard: states in small letters",
            listed(lambda d: [r.update(state=r["state"].lower()) for r in llm(d)["replicas"]] and None), "not down"),
        Row("dashboard: GPUs as text", listed(lambda d: llm(d).update(required_resources={"GPU": "one"})),
            others=True),
        Row("dashboard: GPUs of 1e308", listed(lambda d: llm(d).update(required_resources={"GPU": 1e308})),
            others=True),
        Row("dashboard: a target of null", listed(lambda d: llm(d).update(target_num_replicas=None)), others=True),
        Row("dashboard: a target of -3", listed(lambda d: llm(d).update(target_num_replicas=-3)), others=True),
        Row("dashboard: a target of 2.5", listed(lambda d: llm(d).update(target_num_replicas=2.5)), others=True),
        Row("dashboard: a target of true", listed(lambda d: llm(d).update(target_num_replicas=True)), others=True),
        Row("dashboard: a target of 10^30 is shown", listed(lambda d: llm(d).update(target_num_replicas=10**30)),
            "not down", others=True, why="never posted on"),
        Row("dashboard: gangs of 0", listed(lambda d: llm(d)["deployment_config"].update(gangs_of(0))), others=True),
        Row("dashboard: gangs of 10^30",
            listed(lambda d: llm(d)["deployment_config"].update(gangs_of(10**30))), others=True),
        Row("dashboard: gangs of a text",
            listed(lambda d: llm(d)["deployment_config"].update(gangs_of("four"))), others=True),
        Row("dashboard: max_ongoing_requests of 10^400",
            listed(lambda d: llm(d)["deployment_config"].update(max_ongoing_requests=10**400)), others=True),
        Row("dashboard: more targets than replicas, for ever",
            listed(lambda d: llm(d).update(replicas=llm(d)["replicas"][:2])), "not down"),
        Row("dashboard: lone surrogates in all texts", with_text(lambda d: d.update(every_text(d)))),
        Row("dashboard: a lone surrogate in a deployment's message",
            with_text(lambda d: llm(d).update(message="broken SURROGATE here"))),
        Row("dashboard: a lone surrogate in a replica's id",
            with_text(lambda d: llm(d)["replicas"][0].update(replica_id="rSURROGATE")), "not down"),
        Row("dashboard: a lone surrogate in an application's name",
            with_text(lambda d: d["applications"].update(
                {"SURROGATE": {**d["applications"]["chat"], "name": "SURROGATE"}})), others=True),
        Row("dashboard: control characters and colours in a message",
            listed(lambda d: llm(d).update(message="\x1b[2J\x1b]0;owned\x07\r\nfake line\x00")),
            check=lambda play: ["a control character reached the log"] if any(
                "\x1b" in line.text or "\x07" in line.text for line in play.lines) else []),
        Row("dashboard: a message of 5 MB", listed(lambda d: llm(d).update(message="x" * 5_000_000)), minutes=2.0),
    )  # fmt: skip
    # what it does
    high = 30 if seed == 0 else draw.randint(14, 60)
    rows.add(
        Row("dashboard: Serve's target is set to 30 with max 8",
            Fault(begin=set_target(high), end=set_back), "free", minutes=5.0, told=(), before=_max_8,
            check=one_post_to_the_maximum, why="brought to max in one post, or left alone; nothing in between"),
        Row("dashboard: Serve's target is set to 10^30",
            Fault(begin=set_target(10**30), end=set_back), "free", minutes=5.0, check=one_post_to_the_maximum),
        Row("dashboard: somebody sets the target to 1 again and again",
            Fault(tick=lambda play: set_target(1)(play) if play.tick % 4 == 0 else None, end=set_back), "free",
            minutes=6.0, told=("second_writer",), worse=True, check=few_posts),
        Row("dashboard: UNHEALTHY, and its users stop coming",
            Fault(begin=unwell, tick=nobody_asks, end=well), minutes=12.0, others=True, back=72),
        Row("dashboard: all requests fail, and its users stop coming",
            Fault(begin=lambda play: _fails(play), tick=nobody_asks, end=well), minutes=12.0, back=72),
        Row("dashboard: a POST is accepted and never done",
            Fault(begin=both(forgets_posts, load(2.0)), end=takes_again), "free", minutes=6.0, told=("not_done",),
            check=few_posts),
        Row("dashboard: a POST is accepted and no replica ever comes",
            Fault(begin=both(disobey, load(2.0)), end=both(obey, load(0.5))), "rises", minutes=8.0),
        Row("dashboard: new replicas crash, again and again",
            Fault(begin=both(crash, load(2.0)), end=crash_no_more), "not down", minutes=12.0, told=("crash_loop",),
            back=72),
        Row("dashboard: resets in the middle of a POST",
            posts(lambda answer: answer.but(how="reset"), begin=load(2.0), end=load(0.5)), "rises", minutes=6.0,
            check=few_posts, why="the level is posted again until it is there"),
        Row("dashboard: POSTs hang", posts(lambda answer: answer.but(how="hang"), begin=load(2.0), end=load(0.5)),
            "rises", minutes=4.0, timeout_s=0.3),
        Row("dashboard: POSTs answer with half of it",
            posts(lambda answer: answer.but(how="half"), begin=load(2.0), end=load(0.5)), "rises", minutes=4.0),
        Row("dashboard: POSTs answer with a lone surrogate",
            posts(lambda answer: Answer(b'{"error": "no \\ud83d"}', 400), begin=load(2.0), end=load(0.5)), "free",
            minutes=4.0),
        Row("dashboard: POSTs are answered 200 by a login page",
            Fault(begin=both(forgets_posts, load(2.0)), end=takes_again,
                  answer=lambda request, answer: Answer(b"<html>") if request.method == "POST" else answer),
            "free", minutes=4.0),
    )  # fmt: skip
    for status, words in ((400, "bad"), (401, "no"), (403, "no"), (404, "not found"), (412, "switched off"),
                          (429, "slow down"), (500, "oops"), (503, "busy")):  # fmt: skip
        rows.add(
            Row(f"dashboard: POSTs are refused with {status}",
                Fault(begin=both(refuses(status, words), load(2.0)), end=takes_again), "free", minutes=4.0,
                check=few_posts),
        )  # fmt: skip


def _every_other_read(request: Request, answer: Answer) -> Answer:
    _every_other_read.count = count = getattr(_every_other_read, "count", 0) + 1  # type: ignore[attr-defined]
    return answer.but(how="reset") if request.page is None and count // 10 % 2 else answer


def _max_8(play: Play) -> None:
    play.max = 8


def _fails(play: Play) -> None:
    play.world.of(LLM).failing = True
