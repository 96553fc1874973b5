"""A lasting failure costs at most ten lines a minute, and nothing new is hidden."""

from __future__ import annotations

import logging

import pytest

from autoscaler.common.log_limits import IN_ALL, KIND, PER_KIND, LogLimiter
from autoscaler.core.types import Applied, DeploymentPlan, Plan, Signals, SourceStatus
from autoscaler.runtime.messages import TickLog
from policies.base import DeploymentKey


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.at: list[tuple[float, str]] = []
        self.addFilter(LogLimiter(lambda: self.now_s))

    def emit(self, record: logging.LogRecord) -> None:
        self.at.append((self.now_s, record.getMessage()))

    def within(self, since_s: float, until_s: float) -> list[str]:
        return [text for at_s, text in self.at if since_s <= at_s < until_s]


@pytest.fixture
def lines() -> Lines:
    handler = Lines()
    logger = logging.getLogger("leadtime")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler  # type: ignore[misc]
    logger.removeHandler(handler)


def test_sources_that_flap_every_tick_cost_at_most_ten_lines_a_minute(lines: Lines) -> None:
    log = TickLog()
    for tick in range(360):
        lines.now_s = 5.0 * tick
        up = tick % 2 == 0
        log.sources(Signals(sources=tuple(SourceStatus(f"s{i}", up, None, "no answer") for i in range(20))))
    for minute in range(1, 29):
        assert len(lines.within(60.0 * minute, 60.0 * minute + 60.0)) <= IN_ALL
    assert any("similar lines were left out" in text for _, text in lines.at)


def test_a_hundred_deployments_that_cannot_be_written_cost_at_most_ten_lines_a_minute(lines: Lines) -> None:
    log = TickLog()
    keys = [DeploymentKey.parse(f"a{i}/llm") for i in range(100)]
    plan = Plan(1, 0.0, True, False, tuple(DeploymentPlan(key, 3, 2, 3) for key in keys))
    for tick in range(120):
        lines.now_s = 5.0 * tick
        why = f"no answer within {tick % 7} s"
        log.decisions(plan, {str(k): Applied("ray_serve", str(k), "unavailable", 3, why) for k in keys})
    for minute in range(10):
        assert len(lines.within(60.0 * minute, 60.0 * minute + 60.0)) <= IN_ALL


def test_the_first_line_of_a_new_trouble_is_written_whatever_else_is_going_on(lines: Lines) -> None:
    logger = logging.getLogger("leadtime")
    for i in range(500):
        logger.warning("old trouble %d", i, extra={KIND: "old"})
    logger.error("new trouble", extra={KIND: "new"})
    assert lines.at[-1][1] == "new trouble"
    assert len(lines.at) == PER_KIND + 1


def test_the_first_line_of_a_new_subject_is_written_while_others_of_its_kind_flap(lines: Lines) -> None:
    log = TickLog()
    for tick in range(60):
        lines.now_s = 5.0 * tick
        log.say("writing to a/llm", f"a/llm: no answer {tick}", logging.WARNING)
        log.say("writing to b/llm", f"b/llm: no answer {tick}", logging.WARNING)
    lines.now_s = 301.0
    log.say("writing to new/llm", "new/llm: forbidden", logging.WARNING)
    assert lines.at[-1][1].startswith("new/llm: forbidden")


def test_lines_of_different_places_in_the_code_are_different_kinds(lines: Lines) -> None:
    logger = logging.getLogger("leadtime")
    for i in range(20):
        logger.warning("%s", f"one {i}")
    logger.warning("%s", "another")
    assert lines.at[-1][1] == "another"


def test_what_was_left_out_is_counted_with_the_next_line(lines: Lines) -> None:
    logger = logging.getLogger("leadtime")
    for at_s in (*[0.0] * 10, 61.0):
        lines.now_s = at_s
        logger.warning("trouble")
    assert lines.at[-1][1] == f"trouble ({10 - PER_KIND} similar lines were left out)"


def test_ordinary_work_is_never_left_out(lines: Lines) -> None:
    for i in range(100):
        logging.getLogger("leadtime").info("chat/llm: %d -> %d", i, i + 1)
    assert len(lines.at) == 100


def test_a_level_that_is_accepted_at_each_tick_and_never_done_is_said_once(lines: Lines) -> None:
    log, key = TickLog(), DeploymentKey.parse("chat/llm")

    def tick(number: int, target: int, outcome: str) -> None:
        sentence = f"5 → {target}: {number} too many wait"
        plan = Plan(number, 5.0 * number, True, False, (DeploymentPlan(key, target, 5, 9, sentence=sentence),))
        log.decisions(plan, {str(key): Applied("ray_serve", str(key), outcome, target)})

    for number in range(60):
        tick(number, 8, "ok")
    tick(60, 7, "ok")
    tick(61, 7, "unchanged")
    tick(62, 7, "ok")
    said = ["5 → 8: 0 too many wait", "5 → 7: 60 too many wait", "5 → 7: 62 too many wait"]
    assert [text for _, text in lines.at] == [f"chat/llm: {one}" for one in said]
