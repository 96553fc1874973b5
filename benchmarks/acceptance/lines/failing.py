"""f: requests that fail are demand all the same, and a level that somebody else sets is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.acceptance.runs import Case, Found
from benchmarks.acceptance.section import Check, Finder, Line, Section, percent, table
from benchmarks.acceptance.worlds import DAY_S, HOUR_S, TICK_S, Service, Start, world

_SERVICE = Service("chat/llm", 11.0, Start(240.0), 12, 5, 3 * DAY_S)
_HOURS = 4.0
_FAULT_S = (1.5 * HOUR_S, 2.5 * HOUR_S)
_EVERY_S = 120.0
_SHORT_S = 8.0
_REDEPLOYED = 2


def _crashes() -> list[dict[str, Any]]:
    count = int((_FAULT_S[1] - _FAULT_S[0]) / _EVERY_S)
    return [
        {"at_s": _FAULT_S[0] + k * _EVERY_S, "kind": "replica_crash", "deployment": _SERVICE.name} for k in range(count)
    ]


_REDEPLOY = {
    "at_s": _FAULT_S[0],
    "kind": "redeploy",
    "deployment": _SERVICE.name,
    "replicas": _REDEPLOYED,
    "max_surge_fraction": 1.0,
}


def _name(what: str, seed: int) -> str:
    return f"{what}, seed {seed}"


def _cases(seeds: Sequence[int]) -> list[Case]:
    hasty = replace(_SERVICE, request_timeout_s=_SHORT_S)
    variants: list[tuple[str, Service, list[dict[str, Any]]]] = [
        ("calm", _SERVICE, []),
        ("crashes", _SERVICE, _crashes()),
        ("time-outs", hasty, []),
        ("redeploy", _SERVICE, [_REDEPLOY]),
    ]
    return [
        Case(_name(what, seed), world(what, _HOURS, [service], seed, faults=faults))
        for seed in seeds[:1]
        for what, service, faults in variants
    ]


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    calm, crashes, hasty, redeploy = (
        found[_name(what, seeds[0])] for what in ("calm", "crashes", "time-outs", "redeploy")
    )
    least = _least(calm)
    back_s = _back_s(redeploy, least)
    reset = int(redeploy.result["dropped_by_guard"].get("target_reset", 0))
    rows = [[_words(run), _failed(run), _least(run), _most(run)] for run in (calm, crashes, hasty, redeploy)]
    return Section(
        (
            Check(
                f"a replica crashes every {_EVERY_S:.0f} s for an hour: no lower level than without",
                f"{_least(crashes)}, without {least}; {_failed(crashes)} failed",
                _least(crashes) >= least and crashes.value("failed") > 0,
            ),
            Check(
                f"clients give up after {_SHORT_S:.0f} s, so that most requests fail: no lower level than without",
                f"{_least(hasty)}, without {least}; {_failed(hasty)} failed",
                _least(hasty) >= least,
            ),
            Check(
                "the same: no higher level than without",
                f"{_most(hasty)}, without {_most(calm)}",
                _most(hasty) <= _most(calm),
            ),
            Check(
                f"a redeploy sets {_REDEPLOYED}: seen (guard `target_reset`) and put back by the next tick",
                "never put back" if back_s is None else f"seen {reset} times, put back after {back_s:.0f} s",
                reset > 0 and back_s is not None and back_s <= TICK_S,
            ),
        ),
        (table(["run", "failed or timed out", "lowest level after an hour", "highest"], rows),),
    )


def _words(run: Found) -> str:
    return str(run.result["scenario"])


def _failed(run: Found) -> str:
    return percent((run.value("failed") + run.value("timed_out")) / run.value("requests"))


def _least(run: Found) -> int:
    """The lowest level once it has settled; of the redeploy what the controller wants, so without its first tick."""
    return min(run.track.target[i] for i in run.track.at(HOUR_S, _HOURS * HOUR_S))


def _most(run: Found) -> int:
    return max(run.track.target)


def _back_s(run: Found, least: int) -> float | None:
    rows = run.track.at(_FAULT_S[0], _FAULT_S[1])
    return next((run.track.time_s[i] - _FAULT_S[0] for i in rows if run.track.target[i] >= least), None)


LINE = Line(
    "f",
    "Failing requests, and somebody else's hand",
    "Constant demand of 11 requests a second, three days of history, a lead time of 240 s. A request takes about "
    f"25 s, so that clients who give up after {_SHORT_S:.0f} s mostly get nothing.",
    _cases,
    _judge,
)
