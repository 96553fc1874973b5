"""The fluid benchmark of the flagship's sizing: what somebody pays who knows it all, and what the flagship pays."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.attainment_fluid import Fleet, Material, Variant, case_of, oracle, play
from policies.shadow.rules import LEVELS


def steps(bins: int = 3000) -> Material:
    """Half an hour at 2 req/s, half an hour at 6; the forecast knows what comes until each of its horizons."""
    rates = np.where(np.arange(bins) % 360 < 180, 2.0, 6.0)
    said = np.zeros((bins, 8, len(LEVELS)), dtype=np.float32)
    for j in range(8):
        width = 2**j
        ahead = [rates[i + 1 : i + 1 + width].max(initial=rates[i]) for i in range(bins)]
        said[:, j] = np.array(ahead)[:, None]
    return Material("steps", rates, said)


def test_who_knows_it_all_pays_for_need_gaps_shorter_than_a_start_and_starts() -> None:
    need = np.array([1] * 10 + [2] * 5 + [1] * 3 + [2] * 5 + [1] * 30)
    cost, starts = oracle(need, 60.0)
    assert cost == pytest.approx(len(need) + 6 + 10 + 3 + 6)
    assert starts == 2


def test_a_fleet_misses_what_comes_before_its_replicas_serve() -> None:
    fleet = Fleet([1] * 128)
    fleet.tell(3, 0.5, 10)
    shares = [fleet.serve(2.0, 4)]
    for _ in range(8):
        fleet.tell(3, 2.0, 10)
        shares.append(fleet.serve(2.0, 4))
    assert shares[:4] == [1.0] * 4
    assert shares[-1] == 0.0
    assert fleet.cost >= 3 * len(shares)


def test_the_flagship_keeps_its_target_near_the_bill_of_who_knows_it_all_where_the_forecast_is_right() -> None:
    material = steps()
    figures, rules = play(material, case_of(material, 60.0, 6.0), [Variant("all"), Variant("some", without=("clock",))])
    assert [f.variant for f in figures] == ["all", "some"]
    assert figures[0].missed_share <= 0.01
    assert figures[0].cost < 1.25
    assert rules["cost"].shape == rules["missed_share"].shape
    assert rules["cost"].min() < figures[0].cost
