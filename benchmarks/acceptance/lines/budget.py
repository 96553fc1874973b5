"""e: two models surge over a GPU budget that cannot carry both; and one waits for nodes that nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.acceptance.counting import changes, reversals, started, stopped, too_late
from benchmarks.acceptance.runs import Case, Found
from benchmarks.acceptance.section import Check, Finder, Line, Section, percent, table
from benchmarks.acceptance.worlds import DAY_S, GPU, GPUS, HOUR_S, Service, Start, world

_LEAD_S = 120.0
_HOURS = 3.5
_BUDGET = 8
"""Replicas that the budget holds."""
_OWN = {"high/llm": 4, "low/llm": 2}
"""Replicas that are guaranteed."""
_LOW_S, _HIGH_S = (0.75 * HOUR_S, 2.75 * HOUR_S), (1.25 * HOUR_S, 2.0 * HOUR_S)
"""When each surges."""
_DRAIN_S = 300.0
_TAKEN_S = 2 * _LEAD_S + _DRAIN_S
"""Until what was lent can be back: what drains has so long, and what starts then."""


_HISTORIES = {"surges of every day": 3 * DAY_S, "no history": 0.0}


def _surge(during: tuple[float, float], factor: float) -> dict[str, object]:
    return {"spikes": [{"at_s": during[0], "width_s": during[1] - during[0], "factor": factor, "every_s": DAY_S}]}


_HIGH = Service(
    "high/llm",
    4.0,
    Start(_LEAD_S),
    8,
    2,
    shape=_surge(_HIGH_S, 4.0),
    rights={"priority": 1, "guaranteed_gpus": _OWN["high/llm"] * GPUS},
)
_LOW = Service(
    "low/llm",
    4.0,
    Start(_LEAD_S),
    8,
    2,
    shape=_surge(_LOW_S, 4.0),
    rights={"priority": 0, "guaranteed_gpus": _OWN["low/llm"] * GPUS},
)
_SCARCE = {"scarce": {"stockouts": [{"start_s": _HIGH_S[0], "end_s": _HIGH_S[1]}]}}


def _name(what: str, history: str, seed: int) -> str:
    return f"{what}, {history}, seed {seed}"


def _case(what: str, history: str, seed: int) -> Case:
    high, low = (replace(one, start_s=_HISTORIES[history]) for one in (_HIGH, _LOW))
    if what == "two models":
        both = world(what, _HOURS, [high, low], seed, gpu_budget={GPU: _BUDGET * GPUS})
        return Case(_name(what, history, seed), both, decisions=True)
    pools = _SCARCE if what == "stock-out" else {}
    return Case(_name(what, history, seed), world(what, _HOURS, [replace(high, pool="scarce"), low], seed, pools=pools))


def _cases(seeds: Sequence[int]) -> list[Case]:
    return [_case(what, history, seeds[0]) for what in ("two models", "stock", "stock-out") for history in _HISTORIES]


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    checks, rows = [], []
    for history in _HISTORIES:
        both = found[_name("two models", history, seeds[0])]
        stock, out = (found[_name(what, history, seeds[0])] for what in ("stock", "stock-out"))
        own = [*_rights(both), *_order(both), _unfrozen(stock, out)]
        checks += [replace(check, what=f"{history}: {check.what}") for check in own]
        for key, track in both.tracks.items():
            made = changes(track.time_s, track.target)
            share = both.result["deployments"][key]["slo_attainment_fraction"]
            row = [history, key, percent(share), max(w or 0 for w in both.proposed[key]), max(track.running)]
            rows.append([*row, started(made), stopped(made), len(reversals(made, _LEAD_S))])
    names = ["", "model", "within SLO", "most wanted", "most running", "asked for", "given up", "taken back in 120 s"]
    return Section(tuple(checks), (table(names, rows),))


def _rights(both: Found) -> list[Check]:
    """Guarantees, priority, the budget itself."""
    time_s = both.tracks["high/llm"].time_s
    owed = 0
    for key, own in _OWN.items():
        wanted = [(w or 0) >= own for w in both.proposed[key]]
        held = [(p or 0) >= own for p in both.planned[key]]
        owed += too_late(time_s, wanted, held, _TAKEN_S)
    high, low = ([w or 0 for w in both.proposed[key]] for key in ("high/llm", "low/llm"))
    clash = [_HIGH_S[0] <= t < _HIGH_S[1] and a + b > _BUDGET for t, a, b in zip(time_s, high, low, strict=False)]
    due = [min(wants, _BUDGET - _OWN["low/llm"]) for wants in high]
    lacks = [c and (p or 0) < d for c, p, d in zip(clash, both.planned["high/llm"], due, strict=False)]
    without = too_late(time_s, lacks, [False] * len(lacks), _TAKEN_S)
    held = [
        sum(getattr(track, what)[i] for track in both.tracks.values() for what in ("running", "starting", "draining"))
        for i in range(len(time_s))
    ]
    return [
        Check(
            "each holds its guarantee whenever it wants it, as soon as what was lent can be back",
            f"{owed} ticks without",
            not owed,
        ),
        Check(
            "while both want more than there is, the higher priority has what it wants but the other's guarantee, "
            "as soon as that can be back",
            f"{without} of {sum(clash)} ticks without",
            not without if any(clash) else None,
        ),
        Check(
            "the budget is never exceeded, draining replicas counted", f"{max(held)} of {_BUDGET}", max(held) <= _BUDGET
        ),
    ]


def _order(both: Found) -> list[Check]:
    """What happens after the surge, and whether anything swings."""
    low = both.tracks["low/llm"]
    before = max((low.running[i] for i in low.at(_LOW_S[0], _HIGH_S[0])), default=0)
    after = low.at(_HIGH_S[1], _LOW_S[1])
    back_s = next((low.time_s[i] - _HIGH_S[1] for i in after if low.running[i] >= before), None)
    swings = sum(len(reversals(changes(t.time_s, t.target), _LEAD_S)) for t in both.tracks.values())
    return [
        Check(
            f"after the other's surge the lower one has its {before} replicas again before its own ends",
            "never" if back_s is None else f"after {back_s:.0f} s",
            back_s is not None,
        ),
        Check("no change is taken back within the break-even time (120 s)", str(swings), not swings),
    ]


def _unfrozen(stock: Found, out: Found) -> Check:
    """The lower one has nodes of its own pool; whether the other one gets its own must not matter to it."""
    levels = [run.tracks["low/llm"].target for run in (stock, out)]
    differ = sum(a != b for a, b in zip(*levels, strict=True))
    waited = max(out.tracks["high/llm"].starting)
    return Check(
        "replicas of one that wait for nodes which nobody has leave the other one as it is",
        f"{waited} waited; the other's level differs in {differ} of {len(levels[0])} ticks",
        waited > 0 and differ == 0,
    )


LINE = Line(
    "e",
    "Two models over one GPU budget",
    "Eight replicas for both. *low* (priority 0, two guaranteed) has four times its traffic from 0:45 to 2:45, *high* "
    "(priority 1, four guaranteed) from 1:15 to 2:00; together they want ten and more. Nobody announces it; once it "
    "was so on each of three days before, once there is no history. A lead time of 120 s, replicas drain for up to "
    "300 s. For the last promise each has a pool of its own and there is no budget; once the pool of *high* has "
    "nothing to give during its surge.",
    _cases,
    _judge,
)
