"""Reads Prometheus and OpenMetrics text: only the wanted metrics of a page that may be megabytes long.

Pure and quick: a line is looked at as bytes and thrown away before anything is decoded. Not a validator: a line that
makes no sense is skipped, since one odd series must not blind the controller to the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import inf, isnan, nan
from typing import NamedTuple

from autoscaler.common.fields import MOST_NUMBER
from autoscaler.core.types import Histogram
from autoscaler.sources.names import (
    APPLICATION,
    DEPLOYMENT,
    FINISHED_REASON,
    GOOD_FINISHES,
    REPLICA,
    REPLICA_ID,
    ROLES,
    WORKER_ID,
    is_meant,
)

_LINE = re.compile(
    rb"""([a-zA-Z_:][a-zA-Z0-9_:]*)              # name
         (?:[ \t]*\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?   # labels; a value may hold any character
         [ \t]*([^ \t]+)                         # value; a timestamp or an exemplar may follow""",
    re.VERBOSE,
)
_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

_NOT_IDENTIFYING = ("Component", "Version", "NodeAddress")


class Series:
    """A metric name with its labels. Made once and kept, so that what is derived from the labels is derived once.

    `id` is a short hash of the labels that tell series apart (all but those that say nothing of the process), the
    same in every run. `role` is what the name means (None: nothing to us), `counts` whether a counter counts what is
    meant by it, `deployment` the application and deployment that Serve names, `engine_of` the replica that vLLM names.
    """

    __slots__ = ("_id", "counts", "deployment", "engine_of", "labels", "name", "replica", "role", "worker")

    def __init__(self, name: str, labels: Mapping[str, str]) -> None:
        self.name = name
        self.labels = labels
        self.replica = labels.get(REPLICA)
        self.worker = labels.get(WORKER_ID)
        self.role = ROLES.get(name)
        self.counts = self.role is None or is_meant(self.role, labels)
        self.deployment = (labels.get(APPLICATION), labels.get(DEPLOYMENT))
        self.engine_of = labels.get(REPLICA_ID, "")
        self._id: str | None = None

    @property
    def id(self) -> str:
        if self._id is None:
            # An engine counts ends by reason: before the slash is the id that its other counters have.
            reason = self.labels.get(FINISHED_REASON, "")
            by_reason = reason in GOOD_FINISHES
            kept = sorted(
                (name, value)
                for name, value in self.labels.items()
                if name not in _NOT_IDENTIFYING
                and not name.startswith("otel_")
                and not (by_reason and name == FINISHED_REASON)
            )
            text = "\0".join(f"{name}\0{value}" for name, value in kept)
            engine = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
            self._id = f"{engine}/{reason}" if by_reason else engine
        return self._id

    def __repr__(self) -> str:
        return f"Series({self.name!r}, {dict(self.labels)!r})"


class Sample(NamedTuple):
    """One value of one series; the `_bucket` lines of a histogram are one sample. NaN is passed on as it is."""

    series: Series
    value: float | Histogram

    @property
    def name(self) -> str:
        return self.series.name

    @property
    def labels(self) -> Mapping[str, str]:
        return self.series.labels

    @classmethod
    def of(cls, name: str, value: float | Histogram, **labels: str) -> Sample:
        return cls(Series(name, labels), value)


class Memory:
    """Series by their raw text, kept from page to page: the second page of a node costs a fraction of the first."""

    __slots__ = ("by_raw",)

    def __init__(self) -> None:
        self.by_raw: dict[bytes, tuple[Series, float | None]] = {}


def parse(page: bytes, names: frozenset[bytes], memory: Memory | None = None) -> list[Sample]:
    """The samples of `page` whose metric name is in `names`: plain ones in the page's order, then the histograms.

    A histogram without its `+Inf` bucket (a page that was cut off), or with counts that are none, is left out; so is a
    series that is there twice with different values. A
    caller that reads the same page again and again hands in the same `memory`, and gets the same Series objects.
    """
    by_raw = {} if memory is None else memory.by_raw
    fresh: dict[bytes, tuple[Series, float | None]] = {}
    histograms: dict[tuple[str, str], tuple[Series, dict[float, float]]] = {}
    found = []
    for line in page.splitlines():
        name = line.partition(b"{")[0]
        if name not in names and (b" " not in name or name.split(b" ", 1)[0] not in names):
            continue
        match = _LINE.match(line)
        value = None if match is None else _number(match[3])
        if match is None or value is None:
            continue
        raw = line[: match.end(2) if match[2] is not None else match.end(1)]
        series, edge = fresh[raw] = by_raw.get(raw) or _series(match[1].decode(), _labels(match[2]))
        if edge is None:
            found.append(Sample(series, value))
        else:
            counts = histograms.setdefault((series.name, series.id), (series, {}))[1]
            counts[edge] = value if counts.get(edge, value) == value else nan
    if len(fresh) < len(found) + sum(len(counts) for _, counts in histograms.values()):
        found = _agreeing(found)
    if memory is not None:
        memory.by_raw = fresh
    return found + _grouped(histograms.values())


def _series(name: str, labels: dict[str, str]) -> tuple[Series, float | None]:
    """A series and, for a bucket, its upper edge."""
    edge = _number(labels.pop("le").encode()) if name.endswith("_bucket") and "le" in labels else None
    return Series(name, labels), None if edge is not None and isnan(edge) else edge


def _agreeing(samples: list[Sample]) -> list[Sample]:
    """Those of which a page says one thing only: of two values nobody knows which one is it."""
    names = [(one.name, one.series.id) for one in samples]
    values: dict[tuple[str, str], float | Histogram] = {}
    odd = {name for name, one in zip(names, samples, strict=True) if values.setdefault(name, one.value) != one.value}
    return [one for name, one in zip(names, samples, strict=True) if name not in odd]


def _grouped(histograms: Iterable[tuple[Series, dict[float, float]]]) -> list[Sample]:
    grouped = ((series, histogram_of(counts)) for series, counts in histograms)
    return [Sample(series, histogram) for series, histogram in grouped if histogram is not None]


def histogram_of(by_edge: Mapping[float, float]) -> Histogram | None:
    """Counts by upper edge as one histogram; None where the last edge is not +Inf, or a count or edge is none."""
    edges = tuple(sorted(by_edge))
    counts = tuple([by_edge[edge] for edge in edges])
    total = sum(counts)  # NaN and infinity stay what they are in a sum
    if not edges or edges[-1] != inf or not 0.0 <= total <= MOST_NUMBER or min(counts) < 0.0 or edges[0] == -inf:
        return None
    return Histogram(edges, counts)


def _number(text: bytes) -> float | None:
    try:
        return None if b"_" in text else float(text)
    except ValueError:
        return None


def _labels(raw: bytes | None) -> dict[str, str]:
    if not raw:
        return {}
    return {name.decode(): _unescape(value) for name, value in _LABEL.findall(raw)}


def _unescape(raw: bytes) -> str:
    text = raw.decode(errors="replace")
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: {"n": "\n"}.get(match[1], match[1]), text)
