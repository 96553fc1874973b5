"""Readings that are off: each gauge by a random share, and so each rise of a counter from one reading to the next.

The rises of a histogram's counts are off by one share together, so that it stays a histogram. Counters never fall but
where the true one does (a process began anew).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autoscaler.core.types import Histogram
from autoscaler.sources.exposition import Sample
from simulator.kernel.draws import Draws

_COUNTS = ("_total", "_bucket", "_sum")
Value = float | Histogram


class Noise:
    """Of one reader. `fraction`: the largest share by which a reading is off; uniform, of mean 0."""

    def __init__(self, fraction: float, seed: int, component: str) -> None:
        self._fraction = fraction
        self._draws = Draws(seed, component)
        self._before: dict[tuple[str, str], tuple[Value, Value]] = {}
        """By name and labels of a counter of the last read: the true value and the one that was shown."""

    @property
    def remembered(self) -> int:
        """Counters that it holds."""
        return len(self._before)

    def on(self, pages: Mapping[str, Iterable[Sample]]) -> dict[str, tuple[Sample, ...]]:
        """All pages of one read, by node, as they are read. What is on none of them is forgotten."""
        before, self._before = self._before, {}
        return {node: tuple(Sample(s.series, self._read(s, before)) for s in page) for node, page in pages.items()}

    def _read(self, sample: Sample, before: Mapping[tuple[str, str], tuple[Value, Value]]) -> Value:
        factor = 1.0 + self._fraction * (2.0 * self._draws.uniform() - 1.0)
        if not sample.name.endswith(_COUNTS):
            assert not isinstance(sample.value, Histogram)
            return sample.value * factor
        key = (sample.name, sample.series.id)
        true, shown = before.get(key, (None, None))
        read = _risen(sample.value, true, shown, factor)
        self._before[key] = (sample.value, read)
        return read


def _risen(value: Value, true: Value | None, shown: Value | None, factor: float) -> Value:
    """What is shown of a counter that was `true` when `shown` was shown; its first reading is what it is."""
    if isinstance(value, Histogram):
        if not (isinstance(true, Histogram) and isinstance(shown, Histogram) and true.edges == value.edges):
            return value
        if value.counts[-1] < true.counts[-1]:
            return value
        rises = zip(shown.counts, value.counts, true.counts, strict=True)
        return Histogram(value.edges, tuple(s + (now - before) * factor for s, now, before in rises))
    if true is None or shown is None or isinstance(true, Histogram) or isinstance(shown, Histogram) or value < true:
        return value
    return shown + (value - true) * factor
