"""Which count of a deployment's arrivals is believed: the first of several that agrees with what its engines count.

Ray counts requests at other places on other paths (docs/ray-paths.md): handles when they come, the front of the
application and the replicas when they end. What is in flight makes a count of ends one of arrivals: those that came
are those that ended and those by which the number in flight has grown. So do engines count, and they are the witness;
without engine metrics the replicas are. See docs/decisions/0044-who-counts-arrivals.md.

Pure. `rates.ingest` makes rates of the chosen count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Literal

from autoscaler.core.demand.knowledge import Reports, engine_gauges
from autoscaler.core.state import HANDLES, DemandMemory, WitnessMemory
from autoscaler.core.types import DeploymentMetrics
from autoscaler.core.types.observation import ArrivalsSource

Source = Literal["handles", "front", "replicas", "engines"]
SOURCES: tuple[Source, ...] = ("handles", "front", "replicas", "engines")
"""In the order in which they are asked."""
_BY_NAME: dict[str, Source] = {one: one for one in SOURCES}
_WINDOW_S = 60.0
_LAG_S = 15.0
"""Processes report so far apart: a change of the rate is seen so much earlier by one than by another."""
_EVIDENCE_S = 30.0
"""A count that begins is held against the witness from then on."""
_LOOK_EVERY_S = 25.0
"""Time (s) between two comparisons while handles are in force and agree; else every reading is compared."""
_EVERY_S = 4.0
"""Looks that are closer to each other share a row."""
_FRACTION, _DEVIATIONS = 0.05, 3.0
"""Counts differ by more than this share of them, and by so many standard deviations of a count, or they agree."""
_NONE_BY_CHANCE = 2.0
"""A source that counts nothing where the witness counts so many does not agree, whatever the deviation."""
_UNLIKE_S = 60.0
"""A minute that differs may be one replica that died: so long every last minute must have differed."""
_TAKEN_BACK_S = 300.0
"""Handles that were left have to count, and to agree, for so long."""
_WAIT_FRACTION = 0.1
"""Where more wait, clients leave that no engine ever sees."""
_GAP_S = 60.0
_ROW = Struct("<8d")
"""When; then cumulative counts: of the four sources, of the witness by ends and by beginnings, and of failures."""
_TIME = Struct("<d")
_ENDS, _BEGINNINGS, _FAILED = 5, 6, 7
Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the counters of one interval added."""

    counted: float
    """Arrivals, by handles."""
    ended: float
    """Requests that engines ended well."""
    first_tokens: float
    failed: float


def arrivals(memory: DemandMemory, metrics: DeploymentMetrics, reports: Reports, counts: Counts, now_s: float) -> float:
    """The arrivals of this interval by the source in force, which this chooses (`memory.witness.source`)."""
    witness, since_s = memory.witness, memory.as_of_s
    blind = _is_blind(memory, metrics, reports, 0.0 if since_s is None else now_s - since_s)
    looked_at_s = witness.looked_at_s
    if looked_at_s is not None and not blind and now_s - looked_at_s < _LOOK_EVERY_S and _is_settled(memory):
        pending = witness.pending
        pending[0] += counts.counted
        pending[1] += counts.ended
        pending[2] += counts.first_tokens
        pending[3] += counts.failed
        return counts.counted
    witness.looked_at_s = now_s
    ends = [
        counter.advance(current, now_s, looked_at_s, metrics.baseline) if current or counter.series else None
        for counter, current in (
            (witness.front, metrics.at_front_total),
            (witness.replicas, metrics.at_replicas_total),
            (witness.early, metrics.ended_early_total),
        )
    ]
    before, witness.in_flight = witness.in_flight, _in_flight(metrics)
    names, lost = [one.replica_id for one in metrics.replicas], False
    if names != witness.names:
        lost, witness.names = not set(witness.names) <= set(names), names
    pending, witness.pending = witness.pending, [0.0, 0.0, 0.0, 0.0]
    if not before or since_s is None:
        return counts.counted
    counts = Counts(
        counts.counted + pending[0], counts.ended + pending[1],
        counts.first_tokens + pending[2], counts.failed + pending[3],
    )  # fmt: skip
    every, at_replicas, in_engines, waiting = (
        now - then if now >= 0.0 and then >= 0.0 else None for now, then in zip(witness.in_flight, before, strict=True)
    )
    ended = counts.ended + (ends[2] or 0.0) if metrics.finished_total else None
    added = (
        counts.counted if metrics.arrivals_total else None,
        _sum(ends[0], every),
        _sum(ends[1], at_replicas),
        _sum(ended, in_engines),
    )
    by_ends = added[2] if added[3] is None else added[3]
    begun = _sum(counts.first_tokens, waiting) if metrics.ttft else None
    if by_ends is None or lost or blind:
        witness.rows.clear()
        witness.unlike_since_s = witness.alike_since_s = None
    else:
        row = (*added, by_ends, by_ends if begun is None else begun, counts.failed)
        _append(witness, now_s, row)
        _choose(memory, witness, [one is not None for one in added])
    return max(0.0, _of_source(witness, added, lost) - pending[0])


def source_of(witness: WitnessMemory) -> ArrivalsSource:
    """Which count is in force and how it compares with the engines', for the observation of this tick."""
    return ArrivalsSource(
        _BY_NAME.get(witness.source, SOURCES[0]), witness.counted_rps, witness.witnessed_rps, witness.disagrees
    )


def _is_settled(memory: DemandMemory) -> bool:
    """Whether handles are in force and nothing speaks against them, so that a comparison can wait."""
    witness = memory.witness
    return (
        witness.source == HANDLES
        and not memory.bypassed
        and not memory.unknown
        and not witness.disagrees
        and witness.unlike_since_s is None
    )


def _in_flight(metrics: DeploymentMetrics) -> list[float]:
    """In flight by all, at replicas, in engines, and waiting only; each with what waits at handles. -1: not told."""
    queued = metrics.queued_at_handles or 0.0
    at_replicas, in_engines, waiting = -1.0, -1.0, 0.0
    for one in engine_gauges(metrics):
        if one.ongoing is not None:
            at_replicas = max(0.0, at_replicas) + one.ongoing
        if one.running is not None or one.waiting is not None:
            waiting += one.waiting or 0.0
            in_engines = max(0.0, in_engines) + (one.running or 0.0) + (one.waiting or 0.0)
    counts = (-1.0 if metrics.ongoing is None else metrics.ongoing, at_replicas, in_engines, waiting)
    return [one + queued if one >= 0.0 else one for one in counts]


def _sum(count: float | None, grown: float | None) -> float | None:
    return None if count is None or grown is None else count + grown


def _is_blind(memory: DemandMemory, metrics: DeploymentMetrics, reports: Reports, seconds: float) -> bool:
    """Whether the added counts cannot be compared: they span a gap, or a page or counter is missing."""
    if seconds > _GAP_S or metrics.silent_pages or reports.missing:
        return True
    witness = memory.witness
    return not (
        memory.arrivals.odd_at_s is None
        and memory.finished.odd_at_s is None
        and memory.ttft.odd_at_s is None
        and witness.front.odd_at_s is None
        and witness.replicas.odd_at_s is None
        and witness.early.odd_at_s is None
    )


def _append(witness: WitnessMemory, now_s: float, added: Sequence[float | None]) -> None:
    rows, size = witness.rows, _ROW.size
    if not rows:
        rows += _ROW.pack(now_s, *(0.0 for _ in added))
        return
    newest = _ROW.unpack_from(rows, len(rows) - size)
    row = _ROW.pack(now_s, *(sum_ + (one or 0.0) for sum_, one in zip(newest[1:], added, strict=True)))
    if len(rows) > size and newest[0] - _ROW.unpack_from(rows, len(rows) - 2 * size)[0] < _EVERY_S:
        del rows[-size:]
    rows += row
    while len(rows) > 2 * size and _ROW.unpack_from(rows, size)[0] <= now_s - _WINDOW_S - _LAG_S:
        del rows[:size]


def _choose(memory: DemandMemory, witness: WitnessMemory, told: Sequence[bool]) -> None:
    """Keep the source in force while it agrees; else take the first that does; else say that none does."""
    rows = witness.rows
    newest = _ROW.unpack_from(rows, len(rows) - _ROW.size)
    then = _at(rows, newest[0] - _WINDOW_S)
    now_s, seconds = newest[0], newest[0] - then[0]
    if seconds < _EVIDENCE_S:
        return
    waits = witness.in_flight[3] > _WAIT_FRACTION * max(witness.in_flight[0], 1.0)
    at = SOURCES.index(witness.source)
    witness.counted_rps = (newest[at + 1] - then[at + 1]) / seconds
    witness.witnessed_rps = (newest[_ENDS] - then[_ENDS]) / seconds
    agrees = told[at] and _agrees(rows, at + 1, newest, then, waits)
    if agrees and not (at == 0 and memory.bypassed):
        witness.unlike_since_s, witness.disagrees = None, ""
    else:
        witness.unlike_since_s = now_s if witness.unlike_since_s is None else witness.unlike_since_s
        lasts = now_s - witness.unlike_since_s >= _UNLIKE_S
        others = [
            i for i in range(1, len(SOURCES)) if i != at and told[i] and _agrees(rows, i + 1, newest, then, waits)
        ]
        if others and (lasts or memory.bypassed) and newest[_ENDS] - then[_ENDS] >= 1.0:
            # Engines alone are only believed where handles count nothing: two that differ may both be wrong.
            moves = told[at] and newest[at + 1] > then[at + 1]
            if SOURCES[others[0]] != "engines" or not moves:
                _take(memory, witness, SOURCES[others[0]])
                return
        if lasts and told[at]:
            words = f"{witness.counted_rps:.2f} requests per second and engines {witness.witnessed_rps:.2f}"
            witness.disagrees = f"for {seconds:.0f} s its {witness.source} counted {words}"
    if at == 0:
        return
    if not (told[0] and newest[1] > then[1] and _agrees(rows, 1, newest, then, waits)):
        witness.alike_since_s = None
    elif witness.alike_since_s is None:
        witness.alike_since_s = now_s
    elif now_s - witness.alike_since_s >= _TAKEN_BACK_S:
        memory.bypassed, memory.handles_at_s = False, now_s
        _take(memory, witness, HANDLES)


def _take(memory: DemandMemory, witness: WitnessMemory, source: str) -> None:
    witness.source, witness.disagrees, witness.owed = source, "", 0.0
    witness.unlike_since_s = witness.alike_since_s = None
    memory.unseen_fraction = 0.0
    memory.shares.clear()
    memory.still.clear()


def _at(rows: bytearray, at_s: float) -> Row:
    """The newest row that is not younger; else the oldest."""
    place, size = 0, _ROW.size
    while place + size < len(rows) and _TIME.unpack_from(rows, place + size)[0] <= at_s:
        place += size
    return _ROW.unpack_from(rows, place)


def _agrees(rows: bytearray, column: int, newest: Row, then: Row, waits: bool) -> bool:
    """Over the last minute, or one of the two one report earlier than the other."""
    if _alike(column, newest, then, newest, then, waits):
        return True
    middle, before = _at(rows, newest[0] - _LAG_S), _at(rows, newest[0] - _LAG_S - _WINDOW_S)
    return _alike(column, middle, before, newest, then, waits) or _alike(column, newest, then, middle, before, waits)


def _alike(column: int, newest: Row, then: Row, witnessed: Row, since: Row, waits: bool) -> bool:
    """Ends and beginnings differ where requests end early: what is between them agrees with both."""
    seconds = witnessed[0] - since[0]
    if seconds <= 0.0 or newest[0] <= then[0]:
        return False
    count = (newest[column] - then[column]) * seconds / (newest[0] - then[0])
    ends, begun = witnessed[_ENDS] - since[_ENDS], witnessed[_BEGINNINGS] - since[_BEGINNINGS]
    least, most = min(ends, begun), max(ends, begun) + witnessed[_FAILED] - since[_FAILED]
    if least >= _NONE_BY_CHANCE and count <= 0.0:
        return False
    return count >= least - _tolerance(least) and (waits or count <= most + _tolerance(most))


def _tolerance(count: float) -> float:
    positive = max(0.0, count)
    deviation: float = positive**0.5
    return max(_FRACTION * positive, _DEVIATIONS * deviation, _NONE_BY_CHANCE)


def _of_source(witness: WitnessMemory, added: Sequence[float | None], lost: bool) -> float:
    """What the source in force counted; where it disagrees the most that any of them did: that only raises.

    Gauges and counters of ends come apart by a report, so that a look may add less than none: later ones owe it.
    """
    count = added[SOURCES.index(witness.source)]
    if witness.disagrees:
        count = max((one for one in added if one is not None), default=0.0)
    elif witness.source == HANDLES:
        return count or 0.0
    owed = (count or 0.0) + witness.owed
    witness.owed = 0.0 if lost else min(0.0, owed)
    return max(0.0, owed)
