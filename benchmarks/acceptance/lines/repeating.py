"""The services of which c, d and g speak: traffic whose structure repeats, with its runs and those of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.acceptance.runs import Case
from benchmarks.acceptance.worlds import DAY_S, HOUR_S, TARGET_FRACTION, Document, Service, Start, world

HOURS = 8.0
_DAYS = 5
STARTS_S = (0.0, 30.0, 60.0, 120.0, 240.0, 480.0, 600.0)
TARGETS = {"chat/llm": TARGET_FRACTION}
_DAY = {"amplitude_fraction": 0.4, "peak_hour": 13}


@dataclass(frozen=True, slots=True)
class Shape:
    """Traffic of a kind: from which hour of the sixth day on it is played."""

    about: str
    base_rps: float
    from_hour: float
    shape: Mapping[str, Any]


SHAPES = {
    "steps": Shape(
        "a day's wave, and every two hours 20 minutes of 1.8 times as much",
        14.0,
        6.0,
        {"day": _DAY, "spikes": [{"at_s": 900, "every_s": 7200, "width_s": 1200, "factor": 1.8}]},
    ),
    "wave": Shape("a day's wave alone", 16.0, 6.0, {"day": {"amplitude_fraction": 0.7, "peak_hour": 13}}),
    "lunch": Shape(
        "a day's wave, and at noon 45 minutes of 2.2 times as much",
        10.0,
        8.0,
        {"day": _DAY, "spikes": [{"at_s": 43200, "every_s": DAY_S, "width_s": 2700, "factor": 2.2}]},
    ),
    "crawler": Shape(
        "a day's wave, and two minutes after every hour five minutes of 1.7 times as much",
        12.0,
        7.0,
        {"day": _DAY, "spikes": [{"at_s": 120, "every_s": HOUR_S, "width_s": 300, "factor": 1.7}]},
    ),
}


def name(shape: str, lead_s: float, policy: str, seed: int) -> str:
    return f"{shape}, {lead_s:g} s, {policy}, seed {seed}"


def _world(shape: str, lead_s: float, seed: int) -> Document:
    one = SHAPES[shape]
    noisy = {**one.shape, "noise_fraction": 0.03}
    start_s = _DAYS * DAY_S + one.from_hour * HOUR_S
    return world(shape, HOURS, [Service("chat/llm", one.base_rps, Start(lead_s), 16, 4, start_s, noisy)], seed)


def case(shape: str, lead_s: float, policy: str, seed: int) -> Case:
    decides = policy == "predictive"
    return Case(name(shape, lead_s, policy, seed), _world(shape, lead_s, seed), policy, decisions=decides)


def pairs(worlds: Sequence[tuple[str, float]], seeds: Sequence[int]) -> list[Case]:
    """`predictive` and `oracle_lead` on each."""
    return [case(*one, policy, seed) for one in worlds for seed in seeds for policy in ("predictive", "oracle_lead")]


SWEEP = [("steps", lead_s) for lead_s in STARTS_S]
KINDS = [(shape, 240.0) for shape in SHAPES]
