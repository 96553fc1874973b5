"""One deployment's sizing by shadow rules: fed once a bin, it says which rule is followed and what that rule wants.

Everything in replicas; what a replica carries, lead times and forecasts come from outside. Not for backlog and
saturation, which nobody forecasts (predictive/terms.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from policies.shadow.clock import Clock, ClockMemory
from policies.shadow.fleet import ROWS, SHORT, Quantiles, Shadow, ShadowMemory, missed_share
from policies.shadow.noise import Felt
from policies.shadow.price import Account, PriceSettings, choose
from policies.shadow.rules import Family, Floats

CHOOSE_EVERY_S = 900.0
"""How long a rule is followed before another may be chosen."""
_FIRST_RULE = "hold 0.95"
_ENOUGH_S = 3600.0
"""Of record, before which the first rule is followed."""
_DRIFT = 0.1
"""How far the usable share moves, in logarithms, for a day's allowed misses that came more or fewer than the model
said."""
_EARLY = 1.5
_LONGEST_KEEP_S = 2400.0
_LEAST_USE, _MOST_USE = 0.6, 1.3


@dataclass(slots=True)
class SizingMemory:
    """Plain data of one deployment."""

    shadow: ShadowMemory = field(default_factory=ShadowMemory)
    clock: ClockMemory = field(default_factory=ClockMemory)
    account: Account = field(default_factory=Account)
    closed_at_s: float | None = None
    """End of the newest bin."""
    bins: int = 0
    """Since a rule was chosen last."""
    use: float = 0.0
    """Share of what a replica carries at the SLO that is planned with; 0 = none yet."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a bin is judged by. Quantiles by the family's levels, in replicas at the SLO; bounds: least, most."""

    lead_bins: int
    bin_s: float
    bounds: tuple[int, int]
    allowed_share: float
    """Of requests, that may miss."""
    quantum: int = 1
    """Replicas are wanted in multiples of it: those that a node holds, where one more on it costs nothing."""
    stop_bins: int = 0
    """For how long a replica that was given up stays on the bill: it drains, its node idles."""
    patience_s: float = 2.0
    """A queue that takes longer than this to serve is a miss."""
    serve_bins: int = 0
    """After how many bins a start serves in the replay, on average; 0: after `lead_bins`, which rules plan with."""
    lasts_s: float = 0.0
    """How long demand is felt: requests stay. 0: they end at once, or nobody knows."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Quantiles of the largest demand, by the family's levels, in replicas at the SLO.

    Until a replica asked for now serves; until half a lead time later; until one given up now would have paid.
    """

    lead: Floats
    early: Floats
    keep: Floats

    @classmethod
    def of(
        cls, rows: Floats, horizons_s: tuple[float, ...], lead_s: float, stop_s: float = 0.0, felt: Felt | None = None
    ) -> Ahead:
        """From a forecast's rows (horizons, levels); `stop_s`: for how long what is given up stays on the bill.

        `felt`: how what is forecast in counts is felt; None: as it is counted.
        """
        pays_s = max(lead_s, stop_s)
        reaches_s = (lead_s, _EARLY * lead_s, min(lead_s + pays_s, max(_LONGEST_KEEP_S, lead_s)))
        at = [_at_horizon(rows, horizons_s, reach_s) for reach_s in reaches_s]
        if felt is not None:
            about = felt.about(rows[0], horizons_s[0])
            at = [felt.quantiles(row, *about, reach_s) for row, reach_s in zip(at, reaches_s, strict=True)]
        return cls(*at)


def _at_horizon(rows: Floats, horizons_s: tuple[float, ...], horizon_s: float) -> Floats:
    """Row of this horizon, interpolated linearly."""
    after = min(int(np.searchsorted(horizons_s, horizon_s)), len(horizons_s) - 1)
    if after == 0 or horizon_s >= horizons_s[after]:
        return np.asarray(rows[after])
    share = (horizon_s - horizons_s[after - 1]) / (horizons_s[after] - horizons_s[after - 1])
    return np.asarray(rows[after - 1] * (1.0 - share) + rows[after] * share)


@dataclass(frozen=True, slots=True)
class Got:
    """What users got in a bin: replicas that ran; share of requests that missed the SLO (None: nobody knows)."""

    running: float
    missed_share: float | None


@dataclass(frozen=True)
class Sizing:
    """Rules and constants; `use`: the usable share to begin with, `learn_use`: whether it follows what users get."""

    family: Family = field(default_factory=Family)
    settings: PriceSettings = field(default_factory=PriceSettings)
    use: float = 1.0
    learn_use: bool = True
    soft: float = 0.12
    """How far from what it carries a fleet begins to miss (`missed_share`)."""

    def close(
        self, memory: SizingMemory, end_s: float, demand: float, ahead: Ahead, s: Frame,
        got: Got | None,
    ) -> None:  # fmt: skip
        """A bin that ended at `end_s` closed: rules are judged by it and decide for the next; one of them is chosen."""
        memory.use = memory.use or self.use
        if got is not None and got.missed_share is not None:
            memory.account.book(demand, got.missed_share * demand, s.bin_s, self.settings)
            self._learn_use(memory, demand, got.running, got.missed_share, s)
        shadow = self.advance(memory, end_s, demand, ahead, s)
        memory.bins += 1
        if memory.bins * s.bin_s >= CHOOSE_EVERY_S or memory.account.rule < 0:
            self._choose(memory, shadow, s)

    def advance(self, memory: SizingMemory, end_s: float, demand: float, ahead: Ahead, s: Frame) -> Shadow:
        """The replay alone: what the bin costs every rule, and what each tells its fleet for the next."""
        lead_bins = min(s.lead_bins, ROWS - 2)
        shadow = self.shadow(memory, s)
        if memory.shadow.rows:
            serve_bins = min(s.serve_bins or lead_bins, lead_bins)
            shadow.score(demand, serve_bins, s.bin_s, memory.use, self.soft, s.patience_s, s.lasts_s)
        number = round(end_s / s.bin_s)
        clock = Clock(memory.clock, s.bin_s)
        clock.learn(number, demand, lead_bins + 1)
        at = clock.quantiles(number, lead_bins + 1, self.family.array_of_levels)
        quantiles = Quantiles(ahead.lead, ahead.early, ahead.keep, ahead.lead if at is None else at)
        shadow.decide(demand, quantiles, lead_bins, s.bin_s, memory.use, s.bounds, s.quantum, s.lasts_s)
        memory.closed_at_s = end_s
        return shadow

    def ready(self, memory: SizingMemory, bin_s: float) -> bool:
        """There is record enough to go by."""
        return memory.shadow.weights[SHORT] * bin_s >= _ENOUGH_S and memory.account.rule >= 0

    def shadow(self, memory: SizingMemory, s: Frame) -> Shadow:
        return Shadow(memory.shadow, self.family, max(1, s.bounds[0]))

    def _choose(self, memory: SizingMemory, shadow: Shadow, s: Frame) -> None:
        memory.bins = 0
        shadow.end_block(s.bin_s)
        if memory.shadow.weights[SHORT] * s.bin_s < 0.99 * _ENOUGH_S:
            memory.account.rule = self.family.names.index(_FIRST_RULE)
            return
        choose(shadow, memory.account, s.allowed_share, s.bin_s, s.lead_bins, self.settings, stop_bins=s.stop_bins)

    def _learn_use(self, memory: SizingMemory, demand: float, running: float, share: float, s: Frame) -> None:
        """The fluid model is right where it counts as many misses as users had."""
        if not self.learn_use:
            return
        model = demand * float(missed_share(demand, np.array(running * memory.use), self.soft))
        day = memory.shadow.demand_sums[SHORT] / max(memory.shadow.weights[SHORT], 1.0) * 86400.0 / s.bin_s
        moved = _DRIFT * (model - share * demand) / max(day * s.allowed_share, 1e-9)
        memory.use = min(max(memory.use * (1.0 + min(max(moved, -0.05), 0.05)), _LEAST_USE), _MOST_USE)

    def target(self, memory: SizingMemory, rule: int | None = None) -> int | None:
        """What a rule (None: the followed one) tells its fleet; None before the first bin."""
        rule = memory.account.rule if rule is None else rule
        if not memory.shadow.rows or not 0 <= rule < self.family.size:
            return None
        at = ((memory.shadow.rows - 1) % ROWS * self.family.size + rule) * 2
        return int.from_bytes(memory.shadow.targets[at : at + 2], "little", signed=True)

    def rule(self, memory: SizingMemory) -> str:
        """Name of the followed rule."""
        return self.family.names[memory.account.rule] if memory.account.rule >= 0 else "none"
