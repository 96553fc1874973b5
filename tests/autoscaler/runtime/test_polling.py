"""Sources are asked together, none holds up the tick, and none is asked twice at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from autoscaler.core.ports import Reading, Source
from autoscaler.runtime.assembly import Held
from autoscaler.runtime.polling import Polling


@dataclass
class ManualClock:
    time_s: float = 0.0

    def monotonic_s(self) -> float:
        return self.time_s


@dataclass
class ManualSource(Source):
    """Answers when it is told to."""

    name: str = "ray"
    asked: list[float] = field(default_factory=list)
    answers: list[asyncio.Future[Reading]] = field(default_factory=list)
    at_once: bool = True
    failing: bool = False

    async def read(self, now_s: float) -> Reading:
        self.asked.append(now_s)
        if self.failing:
            return Reading(self.name, False, None, None, "answered 503")
        if self.at_once:
            return self.good(now_s)
        future: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        self.answers.append(future)
        return await future

    def good(self, now_s: float) -> Reading:
        return Reading(self.name, True, now_s, f"data of {now_s:g}")


def polling(clock: ManualClock, *sources: ManualSource, wait_s: float = 0.01) -> Polling:
    return Polling(sources, wait_s, slow_s=5.0, give_up_s=30.0, monotonic_s=clock.monotonic_s)


async def one(poll: Polling, now_s: float) -> Held:
    (held,) = await poll.round(now_s)
    return held


async def test_a_source_that_answers_is_up_with_this_ticks_data() -> None:
    held = await one(polling(ManualClock(), ManualSource()), 10.0)
    assert held.last_good is not None
    assert (held.status.up, held.status.as_of_s, held.last_good.data) == (True, 10.0, "data of 10")


async def test_a_slow_source_does_not_hold_up_the_others_and_is_not_asked_twice() -> None:
    slow, quick, clock = ManualSource("slow", at_once=False), ManualSource("quick"), ManualClock()
    poll = polling(clock, slow, quick)
    for now_s in (10.0, 20.0, 30.0):
        held_slow, held_quick = await poll.round(now_s)
        assert (held_slow.status.up, held_slow.last_good) == (False, None)
        assert held_quick.status.as_of_s == now_s
    assert (slow.asked, quick.asked) == ([10.0], [10.0, 20.0, 30.0])
    await poll.close()


async def test_a_late_answer_is_taken_at_the_next_tick_with_the_time_it_was_asked_for() -> None:
    source, clock = ManualSource(at_once=False), ManualClock()
    poll = polling(clock, source)
    await one(poll, 10.0)
    source.answers[0].set_result(source.good(10.0))
    source.at_once = True
    await asyncio.sleep(0)
    held = await one(poll, 20.0)
    assert source.asked == [10.0, 20.0]
    assert held.status.as_of_s == 20.0


async def test_an_answer_that_comes_between_ticks_every_time_still_counts() -> None:
    source, clock = ManualSource(at_once=False), ManualClock()
    poll = polling(clock, source)
    await one(poll, 0.0)
    for now_s in (5.0, 10.0, 15.0):
        source.answers[-1].set_result(source.good(now_s - 5.0))
        await asyncio.sleep(0)
        clock.time_s = now_s
        held = await one(poll, now_s)
        assert (held.status.up, held.status.as_of_s) == (True, now_s - 5.0)
    await poll.close()


async def test_the_last_good_reading_is_kept_through_failures_and_ages() -> None:
    source, clock = ManualSource(), ManualClock()
    poll = polling(clock, source)
    await one(poll, 10.0)
    source.failing = True
    held = await one(poll, 20.0)
    assert held.last_good is not None
    assert (held.status.up, held.status.as_of_s, held.status.why) == (False, 10.0, "answered 503")
    assert held.last_good.data == "data of 10"


async def test_a_read_that_takes_long_makes_the_source_count_as_down() -> None:
    source, clock = ManualSource(), ManualClock()
    poll = polling(clock, source)
    await one(poll, 10.0)
    source.at_once = False
    assert (await one(poll, 11.0)).status.up  # asked just now
    clock.time_s = 7.0
    held = await one(poll, 18.0)
    assert (held.status.up, held.status.as_of_s) == (False, 10.0)
    assert held.status.why == "no answer yet, asked 7.0 s ago"
    await poll.close()


async def test_a_read_that_never_ends_is_abandoned_and_started_anew() -> None:
    source, clock = ManualSource(at_once=False), ManualClock()
    poll = polling(clock, source)
    await one(poll, 0.0)
    clock.time_s = 31.0
    source.at_once = True
    held = await one(poll, 31.0)
    assert (held.status.up, source.asked) == (True, [0.0, 31.0])
    await asyncio.sleep(0)
    assert source.answers[0].cancelled()


async def test_a_source_that_raises_is_down_with_its_bug_in_one_line() -> None:
    class Broken(ManualSource):
        async def read(self, now_s: float) -> Reading:
            raise ValueError("two\nlines")

    held = await one(polling(ManualClock(), Broken("broken")), 1.0)
    assert (held.status.up, held.status.why) == (False, "bug in source broken: ValueError: two lines")


async def test_closing_cuts_off_what_is_under_way() -> None:
    source = ManualSource(at_once=False)
    poll = polling(ManualClock(), source)
    await one(poll, 1.0)
    await poll.close()
    assert source.answers[0].cancelled()


async def test_without_sources_a_round_is_empty() -> None:
    assert await polling(ManualClock()).round(1.0) == ()
