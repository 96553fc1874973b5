"""A clock that was wrong by decades costs a moment, not the process."""

from __future__ import annotations

from autoscaler.core.demand.rates import close_bins
from autoscaler.core.state import DemandMemory


def test_a_gap_of_decades_has_bins_for_its_last_weeks_only() -> None:
    memory = DemandMemory()
    list(close_bins(memory, 0.0, 600.0, 60.0, 60.0))
    ends = [at_s for at_s, rate in close_bins(memory, 600.0, 1.8e9, None, 60.0) if rate is None]
    assert 50_000 <= len(ends) <= 60_000
    assert ends[-1] == 1.8e9
    assert memory.bin_end_s == 1.8e9 + 60.0
