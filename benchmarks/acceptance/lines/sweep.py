"""c: the same traffic on replicas that take from no time at all to ten minutes to come. No cliff anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from benchmarks.acceptance.lines.repeating import STARTS_S, SWEEP, case, name, pairs
from benchmarks.acceptance.runs import Case, Found
from benchmarks.acceptance.section import Check, Finder, Line, Section, percent, table
from benchmarks.acceptance.worlds import TARGET_FRACTION

_REACTIVE = "hpa_ongoing"
_SMOOTH = 1.1
"""The most that cost may grow by from one start-up time to the next."""


def _cases(seeds: Sequence[int]) -> list[Case]:
    return [*pairs(SWEEP, seeds), *(case(shape, lead_s, _REACTIVE, seeds[0]) for shape, lead_s in SWEEP)]


def _judge(found: Finder, seeds: Sequence[int]) -> Section:
    rows, costs, shares = [], [], []
    for lead_s in STARTS_S:
        own = [found[name("steps", lead_s, "predictive", seed)] for seed in seeds]
        oracle = [found[name("steps", lead_s, "oracle_lead", seed)] for seed in seeds]
        reactive = found[name("steps", lead_s, _REACTIVE, seeds[0])]
        costs.append(_mean(own, "cost_usd"))
        shares += [run.value("slo_attainment_fraction") for run in own]
        rows.append(
            [
                f"{lead_s:g}",
                f"{costs[-1]:.0f}",
                f"{costs[-1] / _mean(oracle, 'cost_usd'):.2f}",
                ", ".join(percent(run.value("slo_attainment_fraction")) for run in own),
                f"{max(run.result['ttft_s']['p90'] for run in own):.2f}",
                f"{max(run.result['ttft_s']['p99'] for run in own):.2f}",
                f"{reactive.value('cost_usd'):.0f}",
                percent(reactive.value("slo_attainment_fraction")),
                f"{reactive.result['ttft_s']['p90']:.1f}",
            ]
        )
    steps = [after / before for before, after in pairwise(costs)]
    names = ["start-up, s", "USD", "cost / oracle_lead", "within SLO, by seed", "TTFT p90, s", "p99, s"]
    names += ["HPA: USD", "within SLO", "TTFT p90, s"]
    return Section(
        (
            Check("attainment stays at 99 % or more at every start-up time", percent(min(shares)), _reached(shares)),
            Check(
                f"cost grows by at most {100 * (_SMOOTH - 1):.0f} % from one start-up time to the next",
                f"{100 * (max(steps) - 1):+.1f} % at most",
                max(steps) <= _SMOOTH,
            ),
            Check(
                "the longest start-up costs at most 25 % more than none",
                f"{100 * (costs[-1] / costs[0] - 1):+.1f} %",
                costs[-1] <= 1.25 * costs[0],
            ),
        ),
        (table(names, rows),),
    )


def _mean(runs: Sequence[Found], what: str) -> float:
    return sum(run.value(what) for run in runs) / len(runs)


def _reached(shares: Sequence[float]) -> bool:
    return min(shares) >= TARGET_FRACTION


LINE = Line(
    "c",
    "Start-up times from 0 to 600 s",
    'Eight hours of the service "steps" (see d). The start-up time is the median from asking for a replica, over '
    "a node that is not there yet, until it serves; half of it is the node's, and the 99th percentile of each "
    "stage is 1.5 times its median. Beside it the HPA on ongoing requests at its defaults, on the first seed.",
    _cases,
    _judge,
)
