"""What users got in each pass, side by side, and what may be said about it. Pure arithmetic and words.

Headlines are computed: when leadtime loses, they say so, and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leadtime.demo.users import Served

LEADTIME, SERVE = "leadtime", "Serve's default"
NOT_AHEAD = "nodes not ahead"
"""leadtime that leaves nodes to the replicas that wait for them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pass. `how` is `live` or `simulated`; latencies (seconds) are of requests that got a first token."""

    who: str
    how: str
    requests: int
    late: int
    """First token later than promised, or never."""
    failed: int
    ttft_s: Mapping[float, float | None]
    """By level (0..1)."""
    itl_p95_s: float | None
    """Of each request's mean time between tokens."""
    replica_seconds: float


LEVELS = (0.5, 0.95, 0.99)


def outcome(
    who: str,
    how: str,
    served: Sequence[Served],
    replica_seconds: float,
    ttft_s: float,
) -> Outcome:
    """Count one pass's users. A request that is still waiting at the end counts as late."""
    first = sorted(one.ttft_s for one in served if one.ttft_s is not None)
    itl = sorted(one.mean_itl_s for one in served if one.mean_itl_s is not None)
    return Outcome(
        who=who,
        how=how,
        requests=len(served),
        late=sum(one.missed(ttft_s) for one in served),
        failed=sum(one.status != "ok" for one in served),
        ttft_s={level: percentile(first, level) for level in LEVELS},
        itl_p95_s=percentile(itl, 0.95),
        replica_seconds=replica_seconds,
    )


def percentile(ascending: Sequence[float], level: float) -> float | None:
    """The smallest value that at least `level` of all do not exceed; None of nothing."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(level * len(ascending) - 1e-9) - 1)]


# ---------------------------------------------------------------- why somebody was late


@dataclass(frozen=True, slots=True)
class Moment:
    """A deployment's replicas when a late request came."""

    running: int
    starting: int
    most: int


def causes(moments: Sequence[Moment]) -> dict[str, int]:
    """Late requests by what the fleet was doing when they came."""
    found: dict[str, int] = {}
    for moment in moments:
        if moment.running >= moment.most:
            cause = "at the most replicas allowed"
        elif moment.starting:
            cause = "while a replica was still starting"
        else:
            cause = "with no start under way"
        found[cause] = found.get(cause, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def causes_words(found: Mapping[str, int]) -> str:
    """In words; empty when nobody was late."""
    return ", ".join(f"{count} came {cause}" for cause, count in found.items())


# ---------------------------------------------------------------- words


def table(outcomes: Sequence[Outcome], ttft_s: float) -> list[str]:
    """The figures side by side, one column a pass."""
    rows = [("", *(o.who for o in outcomes)), ("", *(o.how for o in outcomes))]
    rows.append(("requests", *(str(o.requests) for o in outcomes)))
    for level in LEVELS:
        rows.append((f"first token, p{100 * level:.0f}", *(_seconds(o.ttft_s[level]) for o in outcomes)))
    rows.append((f"first token later than {ttft_s:g} s", *(_share(o.late, o.requests) for o in outcomes)))
    rows.append(("between tokens, p95", *(_seconds(o.itl_p95_s) for o in outcomes)))
    rows.append(("failed or unfinished", *(str(o.failed) for o in outcomes)))
    rows.append(("replica-seconds held", *(f"{o.replica_seconds:,.0f}" for o in outcomes)))
    room = 20 if len(outcomes) <= 3 else 16
    return [f"  {row[0]:<30}" + "".join(f"{cell:>{room}}" for cell in row[1:]) for row in rows]


def verdict(ours: Outcome, theirs: Outcome, why_late: str) -> list[str]:
    """One or two sentences on leadtime against the other, of passes that may be compared."""
    fewer = theirs.late - ours.late
    late = f"{ours.late} late against {theirs.late}"
    change = ours.replica_seconds / theirs.replica_seconds - 1.0 if theirs.replica_seconds else 0.0
    cost = (
        "the same replica-seconds"
        if abs(change) < 0.005
        else (f"{abs(change):.0%} {'more' if change > 0 else 'fewer'} replica-seconds")
    )
    cheaper = change < 0.005
    why = f" Of leadtime's late requests, {why_late}." if why_late else ""
    if fewer > 0 and cheaper:
        return [f"leadtime: fewer users waited ({late}) at {cost}."]
    if fewer > 0:
        return [
            f"leadtime: fewer users waited ({late}), but at {cost}.",
            "It did not win on both: replicas that stand ready before the traffic comes are paid for while they wait.",
        ]
    if fewer == 0 and cheaper:
        return [f"leadtime: as many users waited ({late}), at {cost}."]
    if cheaper:
        return [f"leadtime did not win: more users waited ({late}), at {cost}.{why}"]
    return [f"leadtime lost: no fewer users waited ({late}), at {cost}.{why}"]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f} %)" if total else "–"
