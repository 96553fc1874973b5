"""Slow estimations beside the ticks."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from autoscaler.runtime.refits import Refits


@dataclass
class Slow:
    """A forecaster whose refit takes until `go` is set."""

    due: bool = True
    fails: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    threads: list[int] = field(default_factory=list)

    def needs_refit(self) -> bool:
        return self.due

    def refit(self) -> None:
        self.threads.append(threading.get_ident())
        self.begun.set()
        assert self.go.wait(30.0)
        self.due = False
        self.done.set()
        if self.fails:
            raise ValueError("singular")


async def until_done(*forecasters: Slow) -> None:
    for one in forecasters:
        assert await asyncio.to_thread(one.done.wait, 30.0)


async def test_a_refit_runs_in_a_thread_and_the_loop_goes_on() -> None:
    refits, slow = Refits(), Slow()
    refits.start([slow, Slow(due=False)])
    await asyncio.sleep(0)
    refits.start([slow])
    slow.go.set()
    await until_done(slow)
    assert len(slow.threads) == 1
    assert slow.threads[0] != threading.get_ident()
    await refits.close()


async def test_one_that_fails_does_not_keep_the_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    refits, bad, good = Refits(), Slow(fails=True), Slow()
    bad.go.set()
    good.go.set()
    refits.start([bad, good])
    await until_done(bad, good)
    await refits.close()
    assert "a forecaster's refit failed: ValueError: singular" in caplog.text


async def test_the_end_does_not_wait_for_those_that_have_not_begun() -> None:
    refits, first, second = Refits(), Slow(), Slow()
    refits.start([first, second])
    assert await asyncio.to_thread(first.begun.wait, 30.0)
    first.go.set()
    await refits.close()
    assert second.due
