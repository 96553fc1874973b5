"""Time for a process is what it and its servers were given: a row says the same on a machine that is busy."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.patience import LONGEST_STEP_S, PatientClock, Pulse, hangs, spent_s


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    made = Pulse()
    yield made
    made.close()


class Machine:
    """A monotonic clock, and what the test lets happen."""

    def __init__(self, pulse: Pulse) -> None:
        self.real_s = 100.0
        self.pulse = pulse
        self.clock = PatientClock(pulse, lambda: self.real_s)

    def passes(self, seconds: float, servers_run: bool = True) -> float:
        """What the clock says after that time without a look at it."""
        self.real_s += seconds
        if servers_run:
            self.pulse.beat()
        return self.clock.now_s()


def test_the_clock_goes_on_with_the_machines_while_process_and_servers_run(pulse: Pulse) -> None:
    machine = Machine(pulse)
    for _ in range(100):
        machine.passes(0.01)
    assert machine.clock.now_s() == pytest.approx(1.0)


def test_a_process_that_was_not_let_run_loses_no_time(pulse: Pulse) -> None:
    assert Machine(pulse).passes(40.0) == LONGEST_STEP_S


def test_a_process_whose_servers_were_not_let_run_loses_no_time(pulse: Pulse) -> None:
    machine = Machine(pulse)
    for _ in range(1000):
        assert machine.passes(0.04, servers_run=False) == 0.0
    assert machine.passes(0.04) == LONGEST_STEP_S


@pytest.mark.parametrize(("spent", "real_s", "expected"), [(0.1, 400.0, False), (41.0, 41.0, True), (0.0, 901.0, True)])
def test_a_tick_hangs_when_the_process_had_its_time_or_none_for_very_long(
    spent: float, real_s: float, expected: bool
) -> None:
    assert hangs(spent, real_s) is expected


def test_what_a_process_had_is_its_clock_and_what_it_computed(pulse: Pulse) -> None:
    own = spent_s(pulse, os.getpid())
    assert own > 0.0
    pulse.clock_s = 7.0
    assert spent_s(pulse, os.getpid()) - own >= 7.0
