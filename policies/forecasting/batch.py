"""Forecasters that are shown bins and asked at the same moments, all of them at once.

Mixtures of one kind share a bank (ensemble/bank.py), where a step of all costs little more than that of one; others are
shown and asked one by one. What each says and remembers is the same as on its own. Forecasters come and go as they
like: a new one moves in at the next bin, one that is gone leaves its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from policies.base.forecast import Bin, Forecaster, Past
from policies.forecasting.ensemble.bank import Bank
from policies.forecasting.ensemble.forecaster import MixtureForecaster

Asked = tuple[Forecaster, tuple[float, ...]]
"""Who is asked, and for which horizons (seconds, ascending)."""
T = TypeVar("T")
Member = tuple[MixtureForecaster, T]
"""A mixture with what belongs to it."""


class BatchedEnsemble:
    """Of one controller; plain forecasters remain what they are."""

    def __init__(self) -> None:
        self._banks: dict[object, Bank] = {}

    def observe(self, shown: Sequence[tuple[Forecaster, Sequence[Bin]]]) -> None:
        """Each forecaster sees the bins that closed for it, oldest first."""
        mixtures = []
        for forecaster, bins in shown:
            if isinstance(forecaster, MixtureForecaster):
                mixtures.append((forecaster, bins))
            else:
                for end_s, rate_rps in bins:
                    forecaster.observe(end_s, rate_rps)
        for bank, members in self._by_bank(mixtures).items():
            for turn in range(max(len(bins) for _, bins in members)):
                bank.observe([(one, bins[turn]) for one, bins in members if turn < len(bins)])

    def learn(self, pasts: Sequence[tuple[Forecaster, Sequence[Past]]]) -> None:
        """Each forecaster sees its pasts, one after the other, as by `observe_many`."""
        mixtures = []
        for forecaster, parts in pasts:
            if isinstance(forecaster, MixtureForecaster):
                mixtures.append((forecaster, _walk(forecaster, parts)))
            else:
                for times_s, rates_rps in parts:
                    forecaster.observe_many(times_s, rates_rps)
        for bank, members in self._by_bank(mixtures).items():
            bank.learn(members)

    def ask(self, asked: Sequence[Asked], levels: tuple[float, ...]) -> None:
        """Make ready what `quantiles` of each forecaster will answer for these horizons and levels."""
        mixtures = [
            (one, horizons_s)
            for one, horizons_s in asked
            if isinstance(one, MixtureForecaster) and one.has_to_work_out(horizons_s, levels)
        ]
        for bank, members in self._by_bank(mixtures).items():
            bank.answer(members, levels)

    def _by_bank(self, mixtures: Sequence[Member[T]]) -> Mapping[Bank, list[Member[T]]]:
        """The mixtures of each bank by slot, with what belongs to each; newcomers move in."""
        homes = set(self._banks.values())
        self._ingest([one for one, _ in mixtures if one.bank not in homes])
        found: dict[Bank, list[Member[T]]] = {}
        for member in mixtures:
            found.setdefault(member[0].bank, []).append(member)
        return {bank: sorted(members, key=_slot) for bank, members in found.items()}

    def _ingest(self, newcomers: Sequence[MixtureForecaster]) -> None:
        """Those of one kind move into one bank."""
        kinds: dict[object, list[MixtureForecaster]] = {}
        for one in newcomers:
            kinds.setdefault(one.kind, []).append(one)
        for kind, those in kinds.items():
            bank = self._banks.get(kind)
            if bank is None:
                bank = self._banks[kind] = Bank(those[0].grid, len(those))
            bank.admit(those)


def _walk(forecaster: MixtureForecaster, parts: Sequence[Past]) -> Iterator[tuple[int, float | None]]:
    for part in parts:
        yield from forecaster.walk(*part)


def _slot(member: tuple[MixtureForecaster, object]) -> int:
    return member[0].slot
