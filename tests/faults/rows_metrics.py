"""Rows of metric pages: absent, frozen, contradictory, impossible, too late, too long."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.faults.play import Play
from tests.faults.row import Fault, Pages, Row, Rows
from tests.faults.wire import Answer, How, Request
from tests.faults.world import LLM, NODES

ARRIVALS = "ray_serve_num_router_requests"
COUNTERS = r"\S*(_total|_bucket|_sum)\{"
OF_LLM = r'.*(deployment="llm"|model_name="llm")'
OTHER_EXPORTER = "# TYPE node_load1 gauge\nnode_load1 0.4\nup 1\n"


def changed(pattern: str, value: Callable[[float], object] | None) -> Pages:
    """Lines that match have another value; None: are gone."""

    def bend(text: str, node: int) -> str:
        lines = []
        for line in text.splitlines():
            name, _, number = line.rpartition(" ")
            if not re.match(pattern, line):
                lines.append(line)
            elif value is not None:
                lines.append(f"{name} {value(float(number))}")
        return "\n".join(lines) + "\n"

    return bend


class Frozen:
    """Lines that match stay as they were when the fault began."""

    def __init__(self, pattern: str = "ray_") -> None:
        self.pattern = pattern

    def begin(self, play: Play) -> None:
        play.notes["frozen"] = {}
        self.kept: dict[str, str] = play.notes["frozen"]

    def pages(self, text: str, node: int) -> str:
        lines = []
        for line in text.splitlines():
            name = f"{node}/{line.rpartition(' ')[0]}"
            lines.append(self.kept.setdefault(name, line) if re.match(self.pattern, line) else line)
        return "\n".join(lines) + "\n"

    def fault(self, **more: Any) -> Fault:
        return Fault(pages=self.pages, begin=self.begin, **more)


class Turns:
    """Lines that match are multiplied by each factor in turn, page by page."""

    def __init__(self, pattern: str, *factors: float) -> None:
        self.pattern, self.factors, self.looks = pattern, factors, 0

    def __call__(self, text: str, node: int) -> str:
        factor = self.factors[self.looks // NODES % len(self.factors)]
        self.looks += 1
        return str(changed(self.pattern, lambda value: factor * value)(text, node))


class Once:
    """The first page of the fault has another factor, and all others theirs."""

    def __init__(self, pattern: str, first: float, then: float) -> None:
        self.pattern, self.first, self.then, self.looks = pattern, first, then, 0

    def __call__(self, text: str, node: int) -> str:
        factor = self.first if self.looks < NODES else self.then
        self.looks += 1
        return str(changed(self.pattern, lambda value: factor * value)(text, node))


class Mixed:
    """Pages hold those of all nodes; or they go round from node to node."""

    def __init__(self, together: bool) -> None:
        self.together = together
        self.last: dict[int, str] = {}
        self.looks = 0

    def __call__(self, text: str, node: int) -> str:
        self.last[node] = text
        self.looks += 1
        if self.together:
            return "".join(self.last.values())
        return self.last.get((node + self.looks // NODES) % NODES, text)


def on_node(node: int, pages: Pages) -> Pages:
    return lambda text, here: pages(text, here) if here == node else text


def page_is(how: How) -> Callable[[Request, Answer], Answer]:
    return lambda request, answer: answer if request.page is None else answer.but(how=how)


def one_page_is(how: How, node: int = 1) -> Callable[[Request, Answer], Answer]:
    return lambda request, answer: answer.but(how=how) if request.page == node else answer


def load(factor: float, key: str = LLM) -> Callable[[Play], None]:
    """The truth changes when the fault begins, and goes back when it ends."""

    def change(play: Play) -> None:
        play.world.of(key).load *= factor

    return change


def seeded(play: Play, low: float, high: float) -> float:
    """A value of this seed's, between the two."""
    import random

    return random.Random(f"{play.row.name} {play.seed}").uniform(low, high)


def both(*changes: Callable[[Play], None]) -> Callable[[Play], None]:
    def change(play: Play) -> None:
        for one in changes:
            one(play)

    return change


def build(rows: Rows, seed: int = 0) -> None:
    import random

    draw = random.Random(f"metrics {seed}")
    shown = 1.0 if seed == 0 else draw.uniform(0.3, 3.0)
    for name, pages in (
        ("every page empty", lambda text, node: ""),
        ("another exporter's pages", lambda text, node: OTHER_EXPORTER),
        ("every value NaN", changed("ray_", lambda value: "NaN")),
        ("every value infinite", changed("ray_", lambda value: "+Inf")),
        ("every value text", changed("ray_", lambda value: "many")),
        ("every value with a comma", changed("ray_", lambda value: f"{value:.1f}".replace(".", ","))),
        ("negative counters", changed(COUNTERS, lambda value: -shown * value)),
        ("negative arrivals", changed(ARRIVALS, lambda value: -shown * value)),
        ("arrivals gone while engines are busy", changed(ARRIVALS, None)),
        ("arrivals NaN while engines are busy", changed(ARRIVALS, lambda value: "NaN")),
        ("all of Serve's series gone", changed("ray_serve_", None)),
        ("all engines' series gone", changed("ray_vllm_", None)),
        ("gauges of handles gone", changed("ray_serve_(deployment_queued|num_ongoing)", None)),
        ("a histogram falls and rises", Turns(r"\S*_bucket", 1.0, 0.9 if seed == 0 else draw.uniform(0.5, 0.99))),
        ("arrivals fall and rise", Turns(ARRIVALS, 1.0, 0.99, 0.97)),
        ("all counters fall and rise", Turns(COUNTERS, 1.0, 0.5 if seed == 0 else draw.uniform(0.2, 0.9))),
        ("arrivals fall back by 1 %", Once(ARRIVALS, 0.99, 0.99 if seed == 0 else draw.uniform(0.98, 0.995))),
        ("arrivals 1e308 twice", changed(ARRIVALS, lambda value: 1e308)),
        ("all counters 1e308", changed(COUNTERS, lambda value: 1e308)),
        ("a counter of 1e30", changed(ARRIVALS, lambda value: 1e30)),
        ("pages cut within a line", lambda text, node: text[: text.rfind("ray_serve_num_ongoing") + 40]),
        ("renamed metrics", lambda text, node: text.replace("ray_serve_", "ray_serve2_").replace("ray_vllm_", "v1:")),
        ("labels renamed", lambda text, node: text.replace("deployment=", "dep=").replace("ReplicaId=", "Id=")),
        ("an HTML login page", lambda text, node: "<html><body>Sign in</body></html>"),
        ("binary pages", lambda text, node: Answer(bytes(range(256)) * 40, kind="text/plain")),
        ("pages of one long line", lambda text, node: "ray_serve_" * 50_000),
    ):
        rows.add(Row(f"metrics: {name}", Fault(pages=pages)))  # type: ignore[arg-type]
    for name, pages in (
        ("gauges 1e308", changed(r"ray_(serve|vllm)_\S*(queued|ongoing|processing|running|waiting|usage)",
                                 lambda value: 1e308)),
        ("gauges infinite", changed(r"ray_(serve|vllm)_\S*(queued|ongoing|processing|running|waiting|usage)",
                                    lambda value: "Inf")),
    ):  # fmt: skip
        rows.add(Row(f"metrics: {name}", Fault(pages=pages), "not down"))
    rows.add(
        Row("metrics: counters frozen with requests in flight", Frozen(COUNTERS).fault()),
        Row("metrics: whole pages frozen", Frozen().fault()),
        Row("metrics: arrivals frozen while engines are busy", Frozen(ARRIVALS).fault()),
        Row("metrics: one deployment's series gone", Fault(pages=changed(OF_LLM, None)), others=True),
        Row("metrics: one deployment's gauges negative",
            Fault(pages=changed(r'ray_(serve|vllm)_\S*(queued|ongoing|processing|running|waiting|usage)' + OF_LLM[2:],
                                lambda value: -1.0 - shown * value)), others=True),
        Row("metrics: one deployment's values 1e308",
            Fault(pages=changed("ray_" + OF_LLM, lambda value: 1e308)), "not down", others=True),
        Row("metrics: one deployment's values NaN", Fault(pages=changed("ray_" + OF_LLM, lambda value: "NaN")),
            others=True),
        Row("metrics: duplicate series",
            Fault(pages=lambda text, node: text + text), why="a series counts once"),
        Row("metrics: every page holds every node's", Fault(pages=Mixed(True)), why="a series counts once"),
        Row("metrics: unknown labels and metrics",
            Fault(pages=lambda text, node: text.replace("{", '{zone="ä",x="}\\"",') + 'ray_serve_new{a="b"} 1\n'),
            why="series begin anew under other labels: no burst, no fall"),
        Row("metrics: a page of 40 MB",
            Fault(pages=lambda text, node: Answer(b"# padding padding padding padding\n" * 1_200_000)), minutes=1.5,
            why="refused at its limit"),
        Row("metrics: a page of 60,000 foreign series",
            Fault(pages=lambda text, node: text + "".join(f'foreign{{n="{n}"}} 1\n' for n in range(20_000))),
            minutes=2.0),
        Row("metrics: pages hang", Fault(answer=page_is("hang")), minutes=2.0, timeout_s=0.3),
        Row("metrics: pages drip", Fault(answer=page_is("drip")), minutes=2.0, timeout_s=0.3),
        Row("metrics: pages end in the middle", Fault(answer=page_is("half")), minutes=5.0),
        Row("metrics: pages are reset", Fault(answer=page_is("reset")), minutes=5.0),
        Row("metrics: pages are no HTTP", Fault(answer=page_is("garbage")), minutes=5.0),
        Row("metrics: pages answer 500",
            Fault(answer=lambda request, answer: answer if request.page is None else Answer(b"oops", 500)),
            minutes=5.0),
        Row("metrics: pages redirect",
            Fault(answer=lambda request, answer: answer if request.page is None
                  else Answer(b"", 302, location="http://127.0.0.1:9/")), minutes=5.0),
        Row("metrics: no metric targets are listed",
            Fault(answer=lambda request, answer: Answer(b"[]") if "prometheus/sd" in request.path else answer),
            why="the pages that are known are read on"),
        Row("metrics: the list of targets is garbage",
            Fault(answer=lambda request, answer: Answer(b'[{"targets": [{"a": 1}, "\\ud83d:80", "x"]}]')
                  if "prometheus/sd" in request.path else answer)),
    )  # fmt: skip
    # what is missing hides no demand
    rows.add(
        Row("metrics: one silent node of three while demand doubles",
            Fault(answer=one_page_is("reset", draw.randrange(NODES)), begin=load(2.0), end=load(0.5)), "rises",
            told=("node_silent",)),
        Row("metrics: one node of three empty while demand doubles",
            Fault(pages=on_node(1, lambda text, node: ""), begin=load(2.0), end=load(0.5)), "rises"),
        Row("metrics: one silent node of three, steady", Fault(answer=one_page_is("reset"))),
        Row("metrics: one slow node of three, steady", Fault(answer=one_page_is("hang")), minutes=2.0, timeout_s=0.3),
        Row("metrics: nodes serve each other's pages in turn", Fault(pages=Mixed(False)), "not down", most=8,
            why="no more than a third more"),
        Row("metrics: truncated pages", Fault(pages=lambda text, node: text[: len(text) // 3]), "not down", most=8,
            why="what is missing is estimated: no more than a third more"),
        Row("metrics: nothing is wrong", Fault(), why="the play itself changes nothing"),
        Row("metrics: arrivals gone while demand doubles",
            Fault(pages=changed(ARRIVALS, None), begin=load(2.2), end=load(1 / 2.2)), "rises",
            why="what is in flight says enough to add"),
        Row("metrics: a replica's engine restarts",
            Fault(begin=lambda play: _reborn(play)), why="sums of increases, not of levels"),
        Row("metrics: a replica's engine restarts every minute",
            Fault(tick=lambda play: _reborn(play) if play.tick % 12 == 0 else None)),
        Row("metrics: all engines restart at once",
            Fault(begin=lambda play: _all_reborn(play))),
        Row("metrics: all proxies restart at once", Fault(begin=lambda play: _proxies_reborn(play)), "stays"),
    )  # fmt: skip
    # true zero is seen on every path
    for world in ("steady", "no engine metrics", "gauges vanish"):
        words = {"steady": "with engine metrics", "no engine metrics": "without engine metrics",
                 "gauges vanish": "with gauges that vanish"}[world]  # fmt: skip
        rows.add(
            Row(f"quiet night: {words}", Fault(begin=load(0.0)), "falls", minutes=12.0, world=world, back=None),
            Row(
                f"quiet night: restarted in the middle, {words}",
                Fault(begin=load(0.0), tick=_restart_once),
                "falls",
                minutes=14.0,
                world=world,
                back=None,
            ),
        )
    rows.add(
        Row("quiet night: half the users", Fault(begin=load(0.3)), "free", minutes=12.0, back=None,
            check=lambda play: _most(play, 3)),
        Row("quiet night: then a morning", Fault(begin=load(0.0), tick=_morning), "free", minutes=20.0, back=None,
            worse=True, check=lambda play: _least_at_end(play, 5)),
    )  # fmt: skip


async def _restart_once(play: Play) -> None:
    if play.tick == play.first_faulty + 36:
        await play.restart()


def _morning(play: Play) -> None:
    if play.tick == play.first_faulty + 168:
        play.world.of(LLM).load = 4.2


def _most(play: Play, most: int) -> list[str]:
    level = play.levels[play.last_faulty - 1][LLM]
    return [] if level <= most else [f"at the end {level} and not {most} or less"]


def _least_at_end(play: Play, least: int) -> list[str]:
    level = play.levels[play.last_faulty - 1][LLM]
    return [] if level >= least else [f"at the end {level} and not {least} or more"]


def _reborn(play: Play) -> None:
    """A replica whose process began anew: the same name, counters from zero."""
    ready = play.world.of(LLM).ready()
    ready[play.tick % len(ready)].served = 0.0


def _all_reborn(play: Play) -> None:
    for replica in play.world.of(LLM).ready():
        replica.served = 0.0


def _proxies_reborn(play: Play) -> None:
    for one in play.world.deployments:
        one.arrived = [0.0] * NODES
