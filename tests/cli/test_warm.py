"""How the actuators that pre-warm are wired."""

from __future__ import annotations

import pytest

from autoscaler.wiring.prewarm import within_s


@pytest.mark.parametrize("tick_s", [0.5, 1.0, 1.2, 2.0, 5.0, 60.0])
def test_a_pool_that_is_slow_says_so_before_the_runtime_gives_up(tick_s: float) -> None:
    assert 0.0 < within_s(tick_s) < max(1.0, 0.9 * tick_s)
    assert within_s(60.0) == 4.0
