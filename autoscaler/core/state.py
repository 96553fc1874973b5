"""What the controller remembers of deployments and pools between ticks: plain data, saved by store.py."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

import msgspec

from autoscaler.common.errors import LeadtimeError
from autoscaler.core.policy_host import plain_state
from policies.base import Forecaster, Totals
from policies.capacity.lead_times import StageBook

_MOST_COUNTED = 1e15
"""No counter of requests or tokens gets that far."""
_MANY_SERIES = 32
_FEW_COUNTED, _SPURT = 10.0, 8.0
"""A series that begins anew has counted no more than a few, or so many times what was counted in that time lately."""
_STEADY_S = 120.0
"""A series that went back and rises again for so long is believed: what it counted meanwhile is not known."""
_ANEW_S = 900.0
"""A series that began anew and is back at once where it was within this time had not begun anew."""
WITHIN = "<"
"""At the end of the id of a series that counts what was within a limit."""
_FLOAT64_BYTES = 8
_FORGET_AFTER_S = 3600.0
"""Where there are many, series that nobody exported for so long are dropped."""


@dataclass(slots=True)
class CounterMemory:
    """Cumulative counters by series: what was seen last, and when. Resets, gaps and new series are ordinary here.

    A counter that goes back has either begun anew, and is small then, or its exporter is not to be trusted: such a
    series adds nothing until it passes its old value, or has been steady for long enough to be believed.
    """

    series: dict[str, list[float]] = field(default_factory=dict)
    """Series id -> [value, seen_at_s]."""
    started: bool = False
    pace: float = 0.0
    """The most that was added in a second lately (falls by a twentieth a reading)."""
    fallen: dict[str, list[float]] = field(default_factory=dict)
    """Series that went back: id -> [the value to pass, since when it has not gone back further, when it was well]."""
    odd_at_s: float | None = None
    """When a series last went back, or held no possible value; None: that is long over."""
    anew: dict[str, list[float]] = field(default_factory=dict)
    """Series that seem to have begun anew lately: id -> [what they had counted, when that was seen, what they have
    counted since and is not added yet]. It is with the next reading, if that does not take it back."""
    of_before: float = 0.0
    """Of what the last reading added, the part that came before the reading before it."""
    quiet: bool = False
    """After the last reading no series was odd and there were few: a step asks a thousand counters, and looking at each
    of the fields that say so is a wait for memory."""

    def advance(
        self,
        current: Mapping[str, float],
        at_s: float,
        since_s: float | None,
        baseline: Collection[str] = (),
        renamed_is_old: bool = False,
        none_is_zero: bool = True,
    ) -> float:
        """What was added in (since_s, at_s].

        The first reading ever is a baseline and adds nothing; nor does a new series in `baseline`, whose count may have
        begun long before we first saw it. A series that was missing for a while adds only the share of its growth that
        belongs to this interval: traffic of the past is no spike of today. `renamed_is_old`: where every series is new,
        and there were others before, their counts are as old as those. So is that of a new one which holds more than
        can have been counted since the last reading. `none_is_zero`: a reading without any series says that nothing
        was counted so far; else it says nothing, and is not the first.
        """
        self.of_before = 0.0
        if not current:
            self.started = self.started or none_is_zero
            return 0.0
        series = self.series
        begun_s = at_s if since_s is None else since_s
        if self.quiet and len(current) == 1:
            # Most counters have one series that was there at the last reading and did not fall.
            ((name, value),) = current.items()
            seen = series.get(name)
            if seen is not None and seen[1] >= begun_s:
                growth = value - seen[0]
                if 0.0 <= growth <= _MOST_COUNTED:
                    seen[0], seen[1] = value, at_s
                    if begun_s < at_s:
                        self._learn_pace(growth / (at_s - begun_s))
                    return growth
        fallen, anew = self.fallen, self.anew
        odd = bool(fallen or anew)
        grown: list[float] = []
        fresh: list[float] = []
        started = self.started
        news = 0
        for name, value in current.items():
            before = series.get(name)
            if before is None:
                if 0.0 <= value <= _MOST_COUNTED:
                    if started and name not in baseline:
                        fresh.append(value)
                    series[name] = [value, at_s]
                    news += 1
                else:
                    self.odd_at_s = at_s
                continue
            last, seen_at_s = before
            growth = value - last
            if odd or not 0.0 <= growth <= _MOST_COUNTED:  # nor is NaN
                growth = self._growth(name, value, before, at_s)
                odd = bool(fallen or anew)
                if growth < 0.0:
                    continue
            if seen_at_s < begun_s < at_s:
                growth *= (at_s - begun_s) / (at_s - seen_at_s)
            grown.append(growth)
            before[0], before[1] = value, at_s
        self.started = True
        if fresh and not (renamed_is_old and news == len(current) and len(series) > news):
            grown += fresh if len(series) == news else self._new(fresh, at_s, since_s)
        # Added the same in any order: a page has its own, the journal another.
        added = grown[0] if len(grown) == 1 else fsum(grown)
        if begun_s < at_s:
            self._learn_pace(added / (at_s - begun_s))
        if anew:
            for name in [name for name, found in anew.items() if found[1] < at_s - _ANEW_S]:
                del anew[name]
        if self.odd_at_s is not None:
            self._settle(at_s)
        if len(series) > _MANY_SERIES:
            self.forget(at_s - _FORGET_AFTER_S)
        self.quiet = not (fallen or anew) and self.odd_at_s is None and len(series) <= _MANY_SERIES
        return added

    def _learn_pace(self, pace: float) -> None:
        """`pace`: what the newest reading added in a second. What jumps further is no measure of what can be."""
        lately = self.pace
        if pace <= lately:
            self.pace = 0.95 * lately
        else:
            self.pace = min(pace, _SPURT * lately + _FEW_COUNTED) if lately > 0.0 else pace

    def _growth(self, name: str, value: float, before: list[float], at_s: float) -> float:
        """What counts of a series while some went back; below 0: its value is none, and is passed over.

        Begun anew is what could have been counted since the last look: at most half of what it was (a fall by a few
        per cent is no new beginning), and no more than some times what all of them counted lately.
        """
        last, seen_at_s = before
        if not 0.0 <= value <= _MOST_COUNTED:
            self.odd_at_s = at_s
            return -1.0
        fell, low = value < last, self.fallen.get(name)
        if low is None and not fell:
            return self._growth_anew(name, value, before, at_s)
        if fell and value <= min(0.5 * last, _FEW_COUNTED + _SPURT * self.pace * (at_s - seen_at_s)):
            self.fallen.pop(name, None)
            self.anew.setdefault(name, [last, seen_at_s, 0.0])[2] += value
            return 0.0
        if low is None:
            if not name.endswith(WITHIN):  # those within a limit fall where the limit does
                self.fallen[name] = [last, at_s, seen_at_s]
                self.odd_at_s = at_s
                self.anew.pop(name, None)  # what it held since is as wrong as this
        elif value >= low[0]:
            del self.fallen[name]
            return (value - low[0]) * (at_s - seen_at_s) / (at_s - low[2])
        elif fell:
            low[1] = self.odd_at_s = at_s
        elif at_s - low[1] >= _STEADY_S:
            del self.fallen[name]
        return 0.0

    def _growth_anew(self, name: str, value: float, before: list[float], at_s: float) -> float:
        """What counts of a series that rose. Back at once where it was, it had not begun anew."""
        last, seen_at_s = before
        found = self.anew.get(name)
        if found is None:
            return value - last
        was, was_at_s, held = found
        if value >= was and value - last > _FEW_COUNTED + self.pace * (at_s - seen_at_s):
            del self.anew[name]
            return (value - was) * (at_s - seen_at_s) / (at_s - was_at_s)
        found[2] = 0.0
        self.of_before += held
        return value - last + held

    def _new(self, fresh: Sequence[float], at_s: float, since_s: float | None) -> list[float]:
        """Of new series beside known ones: the counts that are of this interval. The others were hidden before."""
        if since_s is None or at_s <= since_s:
            return list(fresh)
        most = _FEW_COUNTED + _SPURT * self.pace * (at_s - since_s)
        return [value for value in fresh if value <= most]

    def _settle(self, at_s: float) -> None:
        """What nobody exports any more is not waited for; and some time after the last fall all is well again."""
        for name in [name for name in self.fallen if self.series[name][1] < at_s - _STEADY_S]:
            del self.fallen[name]
        if not self.fallen and self.odd_at_s is not None and at_s - self.odd_at_s >= _STEADY_S / 2:
            self.odd_at_s = None

    def forget(self, before_s: float) -> None:
        """Drop series that nobody exported since: replicas die, and their ids never come back."""
        gone = [name for name, (_, seen_at_s) in self.series.items() if seen_at_s < before_s]
        for name in gone:
            del self.series[name]
            self.fallen.pop(name, None)
            self.anew.pop(name, None)


HANDLES = "handles"
"""The source of arrivals that is asked first."""


@dataclass(slots=True)
class WitnessMemory:
    """Behind the choice of whose count of arrivals is believed (demand/witness.py)."""

    source: str = HANDLES
    """Whose count is in force."""
    disagrees: str = ""
    """How it differs from what engines count, where it has for long and no other agrees."""
    counted_rps: float | None = None
    witnessed_rps: float | None = None
    """Over the last minute, by the source and by the engines; None: not enough was seen yet."""
    front: CounterMemory = field(default_factory=CounterMemory)
    replicas: CounterMemory = field(default_factory=CounterMemory)
    early: CounterMemory = field(default_factory=CounterMemory)
    in_flight: list[float] = field(default_factory=list)
    """At the newest look: by all, at replicas, in engines, waiting only; -1: not told."""
    names: list[str] = field(default_factory=list)
    """Replicas of the newest look: what one had in flight that is gone has not ended."""
    looked_at_s: float | None = None
    """When counts were last compared."""
    pending: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """Counted since then: by handles, ended in engines, first tokens, failed."""
    rows: bytearray = field(default_factory=bytearray)
    """float64 (looks, 8) of a little more than the last minute."""
    owed: float = 0.0
    """Below 0: what the counts of the next looks are to make up for."""
    unlike_since_s: float | None = None
    alike_since_s: float | None = None
    """Since when the source does not agree; since when handles, which are not in force, do."""


@dataclass(slots=True)
class MixBefore:
    """The token mix of before its newest reading: what that taught is taken back where counters turn out to be odd."""

    sums: list[float]
    lately: list[float]
    early: list[float]
    spread: list[float]
    moved: float
    watched_s: float
    calm_output: float | None


@dataclass(slots=True)
class DemandMemory:
    """Behind rates, token mix, bins for the forecaster and SLO attainment of one deployment."""

    as_of_s: float | None = None
    arrivals: CounterMemory = field(default_factory=CounterMemory)
    prompt_tokens: CounterMemory = field(default_factory=CounterMemory)
    output_tokens: CounterMemory = field(default_factory=CounterMemory)
    cached_tokens: CounterMemory = field(default_factory=CounterMemory)
    finished: CounterMemory = field(default_factory=CounterMemory)
    errors: CounterMemory = field(default_factory=CounterMemory)
    ttft: CounterMemory = field(default_factory=CounterMemory)
    itl: CounterMemory = field(default_factory=CounterMemory)
    ttft_sum: CounterMemory = field(default_factory=CounterMemory)
    itl_sum: CounterMemory = field(default_factory=CounterMemory)
    totals: Totals = field(default_factory=Totals)
    """Everything that was counted since the first reading."""
    recent: list[list[float]] = field(default_factory=list)
    """The intervals of a state of before they were packed; `demand/rates.py` moves them over."""
    intervals: bytearray = field(default_factory=bytearray)
    """float64 (intervals, 4): end, seconds, arrivals, errors, newest last, as long as the rate window. Packed: with a
    hundred deployments each number that lies by itself is a wait for memory at every tick."""
    interval_sums: list[float] = field(default_factory=list)
    """Of its last three columns; empty where none was made since the state was read."""
    mix_sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    """Faded sums: prompt tokens, output tokens, cached tokens, requests (those in progress count as half done)."""
    mix_lately: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0, 0.0])
    """The same, faded sooner, and the requests that began."""
    mix_spread: list[float] = field(default_factory=lambda: [0.25, 0.25])
    """How far prompts and outputs of lately are from the mix by chance: mean square, for one request."""
    mix_watched_s: float = 0.0
    mix_early: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Requests that ended early, faded as the mix and as that of lately."""
    mix_moved: float = 0.0
    """How many came into progress or left it within half a minute, faded."""
    mix_calm_output: float | None = None
    """Output tokens of a request while few ended early."""
    mix_before: MixBefore | None = None
    """None: the newest reading taught the mix nothing."""
    in_progress: float | None = None
    """Requests that were being served at the newest reading: not those that wait."""
    attained: list[list[float]] = field(default_factory=list)
    """The rows of a state of before they were packed; `demand/slo.py` moves them over."""
    attained_rows: bytearray = field(default_factory=bytearray)
    """float64 (intervals, 5): end, TTFT good, TTFT all, ITL good, ITL all, as long as the attainment window."""
    attained_sums: list[float] = field(default_factory=list)
    """Of its last four columns; empty in a state of before they were kept."""
    bin_end_s: float | None = None
    bin_arrivals: float = 0.0
    bin_covered_s: float = 0.0
    rejected: CounterMemory = field(default_factory=CounterMemory)
    calm_rps: float | None = None
    """Faded demand of the time when few requests failed."""
    failing_since_s: float | None = None
    uncounted_rps: float = 0.0
    """Arrivals of the newest interval that were taken for retries."""
    reporters: dict[str, float] = field(default_factory=dict)
    """Replica id -> when its own metrics were last seen; only of replicas that the inventory still lists."""
    begun_at_s: float | None = None
    """When its metrics were first read."""
    moved_at_s: float | None = None
    """When arrivals were last counted, or last known to be none."""
    served_at_s: float | None = None
    """When anything was last seen to be served, or there was nothing that could be."""
    in_flight: float | None = None
    """Requests that wait or are served, at the newest reading."""
    in_flight_then: float = 0.0
    """The most that can have been in flight when arrivals were last counted."""
    least_in_flight: float | None = None
    """The fewest that were since."""
    ended: float = 0.0
    """Requests that had a first token, or ended, since arrivals were last counted."""
    finished_since: float = 0.0
    """Requests that engines ended since arrivals were last counted."""
    handles_at_s: float | None = None
    """When handles last counted a request or showed one; None: not since this is watched."""
    let_in: float = 0.0
    """The most that handles can have let in, of requests that engines had in flight or ended since."""
    bypassed: bool = False
    """Requests are served that no handle counted or shows: what handles do not count is not known to be none."""
    unknown: str = ""
    """Why arrivals are not known; empty where they are."""
    frozen: bool = False
    """Arrivals are not known while their series are there: they stand still, and others say that they should not."""
    idle: bool = False
    """Nothing arrives, and an independent witness agrees."""
    known_at_s: dict[str, float] = field(default_factory=dict)
    """Quantity -> when a gauge or counter of it was last there."""
    shares: dict[str, float] = field(default_factory=dict)
    """Series of arrivals -> what it counted lately (faded), where there are several."""
    still: dict[str, list[float]] = field(default_factory=dict)
    """Series of arrivals that add nothing while others grow: [requests they should have counted, since when]."""
    unseen_fraction: float = 0.0
    """Share of the arrivals that series which cannot be read now are taken to count."""
    failing: list[float] = field(default_factory=list)
    """Requests that came and that failed, faded; empty while none fails."""
    failed_at_s: float | None = None
    """When most requests last failed."""
    recovered_at_s: float | None = None
    """When they were seen to succeed again."""
    unwell_at_s: float | None = None
    """When Serve last said that the service is not well."""
    witness: WitnessMemory = field(default_factory=WitnessMemory)

    def __post_init__(self) -> None:
        """A saved window that was cut off is refused where it is read. Errors: ValueError."""
        for name, packed, columns in (("intervals", self.intervals, 4), ("attained_rows", self.attained_rows, 5)):
            if len(packed) % (columns * _FLOAT64_BYTES):
                raise ValueError(f"{name} holds {len(packed)} bytes, which are no rows of {columns} numbers")


@dataclass(slots=True)
class StartMemory:
    """A replica that we saw STARTING."""

    asked_at_s: float
    path: str
    seen_at_s: float
    watched: bool = True
    """It was seen soon after it began: when that was, and by which path, is known."""


@dataclass(slots=True)
class SupplyMemory:
    """Behind starts under way, learned lead times and scale-down decisions of one deployment."""

    starts: dict[str, StartMemory] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    """Replica ids seen in the last inventory, whatever their state."""
    looked_at_s: float | None = None
    """Of when the last inventory was."""
    raised_at_s: float | None = None
    """When the plan last asked for more than Serve had as its target."""
    failed_starts: list[float] = field(default_factory=list)
    """When starts ended before the replica ran, since one last ran; none where a lowered target withdrew it."""
    last_target: int | None = None
    last_observed_target: int | None = None
    moved: int = 0
    """Which way the plan last moved the level (1, -1), since somebody else did; 0: it did not."""
    turns: list[float] = field(default_factory=list)
    """When somebody else lately turned back what the plan did."""
    contested_at_s: float | None = None
    """When a second writer, who turned it back again and again, last set the level; None: there is none."""
    proposals: list[list[float]] = field(default_factory=list)
    """[now_s, replicas] of the stabilisation window."""
    last_proposed: int | None = None
    learned_capacity_rps: float | None = None
    learned_capacity_at_s: float | None = None
    stuck_since_s: float | None = None
    room: list[int] = field(default_factory=list)
    """Replicas that fitted on free GPUs, and on warm nodes, at the last look; empty where nobody sees nodes."""
    most_granted: int | None = None
    """Largest grant of a GPU budget lately, and when it last was that large."""
    most_granted_at_s: float | None = None


@dataclass(slots=True)
class Promise:
    """Quantiles of the largest demand in (until_s - window_s, until_s], waiting for that window to end."""

    until_s: float
    window_s: float
    bounds_rps: list[float]
    highest_rps: float = 0.0
    seen_s: float = 0.0


@dataclass(slots=True)
class CoverageMemory:
    """The forecaster's record of one deployment: faded counts of windows, and of those under each level."""

    promises: list[Promise] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    windows: float = 0.0
    shares: tuple[tuple[float, float], ...] = ()
    """(level, share of windows under it), since the last was judged; empty in a state of before they were kept."""
    promised_at_s: float | None = None


@dataclass(slots=True)
class HintMemory:
    """What a hint that multiplies demand is to multiply: what was expected before it began."""

    rate_rps: float | None = None
    quantiles_rps: list[float] = field(default_factory=list)
    """By the forecast's levels, at its farthest horizon."""


@dataclass(slots=True)
class DeploymentMemory:
    demand: DemandMemory = field(default_factory=DemandMemory)
    supply: SupplyMemory = field(default_factory=SupplyMemory)
    hints: dict[str, HintMemory] = field(default_factory=dict)
    """By id, of hints that multiply."""
    coverage: CoverageMemory = field(default_factory=CoverageMemory)
    seen_at_s: float | None = None
    """When signals last told of it."""
    busy_rps: float = 0.0
    """Its mean arrivals over about a day, where that decides who has a forecaster (forecast.py)."""
    busy_at_s: float | None = None


@dataclass(slots=True)
class NodeMemory:
    """Nodes of a pool whose way to Ready was already learned."""

    learned: list[str] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    """Worker pods whose stages were learned."""
    zones: dict[str, ZoneMemory] = field(default_factory=dict)
    losses: LossMemory = field(default_factory=lambda: LossMemory())


@dataclass(slots=True)
class LossMemory:
    """Nodes of a pool that went with replicas on them; the counts fade."""

    busy: list[str] = field(default_factory=list)
    """Ready nodes that replicas were on, at the last look."""
    seen_at_s: float | None = None
    node_hours: float = 0.0
    """That busy nodes were watched."""
    taken: float = 0.0
    events: float = 0.0
    """In which they were taken: those of one moment are one."""
    taken_at_s: float | None = None


@dataclass(slots=True)
class ZoneMemory:
    """What asking for nodes in a zone came to; both counts fade. Zone "": nobody said which."""

    came: float = 0.0
    refused: float = 0.0
    kind: str = ""
    """Of the last refusal."""
    refused_at_s: float = 0.0
    seen_s: float = 0.0
    """When the counts were last faded."""


STATE_VERSION = 1


@dataclass(slots=True)
class _Saved:
    version: int
    tick: int
    decided_at_s: float | None
    policy_name: str
    policy_state: Any
    deployments: dict[str, DeploymentMemory]
    pools: dict[str, NodeMemory]
    book: StageBook
    forecasters: dict[str, Any]
    pool_nodes: dict[str, int]
    conditions: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class ControllerState:
    """The controller's memory. What was saved of the policy and of forecasters is plain data until a controller adopts
    it.
    """

    tick: int = 0
    decided_at_s: float | None = None
    policy_name: str = ""
    policy_state: Any = None
    deployments: dict[str, DeploymentMemory] = field(default_factory=dict)
    """By full deployment key."""
    pools: dict[str, NodeMemory] = field(default_factory=dict)
    book: StageBook = field(default_factory=StageBook)
    saved_forecasters: dict[str, Any] = field(default_factory=dict)
    """By full deployment key: plain data of forecasters that no controller has adopted yet."""
    pool_nodes: dict[str, int] = field(default_factory=dict)
    """Nodes that the policy last wanted, by pool."""
    conditions: dict[str, float] = field(default_factory=dict)
    """When what is wrong now was first seen (autoscaler.core.conditions.lasting)."""
    forecasters: dict[str, Forecaster] = field(default_factory=dict)
    """By full deployment key."""

    def forecaster_keys(self) -> set[str]:
        """Full keys of deployments of which there is a forecaster, alive or as it was saved."""
        return self.saved_forecasters.keys() | self.forecasters.keys()

    def plain_forecaster(self, full_key: str) -> Any:
        """What there is to save of one."""
        live = self.forecasters.get(full_key)
        return self.saved_forecasters[full_key] if live is None else live.state()

    def to_bytes(self) -> bytes:
        """JSON, keys sorted, floats exact. Errors: PolicyFault when the policy's memory is no plain data."""
        data, _ = self.to_bytes_within(math.inf)
        assert data is not None
        return data

    def to_bytes_within(self, most_bytes: float) -> tuple[bytes | None, int]:
        """`to_bytes` and its length; None and about its length when that is more than `most_bytes`, known early."""
        encode = msgspec.json.Encoder(order="sorted").encode
        forecasters: dict[str, Any] = {}
        length = 0
        there = sorted(self.forecaster_keys())
        for key in there:
            forecasters[key] = msgspec.Raw(encode(self.plain_forecaster(key)))
            length += len(forecasters[key])
            if length > most_bytes:
                return None, length * len(there) // len(forecasters)
        saved = _Saved(
            STATE_VERSION,
            self.tick,
            self.decided_at_s,
            self.policy_name,
            plain_state(self.policy_name, self.policy_state),
            self.deployments,
            self.pools,
            self.book,
            forecasters,
            self.pool_nodes,
            self.conditions,
        )
        data = encode(saved)
        return (data if len(data) <= most_bytes else None), len(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> ControllerState:
        """Errors: LeadtimeError when the bytes are no state of this version."""
        try:
            saved = msgspec.json.decode(data, type=_Saved)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise LeadtimeError(f"saved controller state cannot be read: {error}") from error
        if saved.version != STATE_VERSION:
            raise LeadtimeError(
                f"saved controller state has version {saved.version}; this leadtime reads {STATE_VERSION}"
            )
        return cls(
            saved.tick,
            saved.decided_at_s,
            saved.policy_name,
            saved.policy_state,
            saved.deployments,
            saved.pools,
            saved.book,
            saved.forecasters,
            saved.pool_nodes,
            saved.conditions,
        )

    def memory(self, full_key: str) -> DeploymentMemory:
        found = self.deployments.get(full_key)
        if found is None:
            found = self.deployments[full_key] = DeploymentMemory()
        return found

    def forget_gone(self, now_s: float, after_s: float, most: int | None = None) -> list[str]:
        """Drop deployments that nobody told of for so long: names come and go, and the state stays small. Their keys;
        the policy's memory of them is the policy's to drop.

        `most`: deployments of one namespace that are remembered; beyond it those go first that were not seen for
        longest, and none that was seen now: a head that names others at every look fills up no memory.
        """
        gone = [] if most is None else self._beyond(most, now_s)
        for key, memory in self.deployments.items():
            if memory.seen_at_s is None:
                memory.seen_at_s = now_s
            elif now_s - memory.seen_at_s > after_s:
                gone.append(key)
        gone = list(dict.fromkeys(gone))
        for key in gone:
            del self.deployments[key]
            self.forecasters.pop(key, None)
            self.saved_forecasters.pop(key, None)
            for stage in [stage for stage in self.book.stages if stage.startswith(f"{key}/")]:
                del self.book.stages[stage]
        return gone

    def _beyond(self, most: int, now_s: float) -> list[str]:
        """Of each namespace that remembers more than `most` deployments: those to drop."""
        namespaces: dict[str, list[str]] = {}
        for key in self.deployments:
            namespaces.setdefault(key.partition("/")[0], []).append(key)
        gone: list[str] = []
        for keys in namespaces.values():
            if len(keys) > most:
                unseen = [(seen_s, key) for key in keys if (seen_s := self.deployments[key].seen_at_s or 0.0) < now_s]
                gone += [key for _, key in sorted(unseen)[: len(keys) - most]]
        return gone
