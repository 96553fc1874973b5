"""What happened tick by tick: rows of timeline.csv, written as they come.

`slo_misses` and `ttft_p99_s` are of the requests that ended in the tick; `cost_usd` is what the pools that the
deployment can run on have cost so far (pools may be shared). An unknown value is an empty cell.
"""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Protocol

from autoscaler.common.escaping import no_formula
from autoscaler.common.safe_files import create_output


@dataclass(frozen=True, slots=True)
class Row:
    """One tick of one deployment; the fields are the columns."""

    time_s: float
    deployment: str
    arrivals_rps: float
    forecast_q50_rps: float | None
    forecast_q90_rps: float | None
    forecast_q95_rps: float | None
    forecast_q99_rps: float | None
    target: int
    running: int
    starting: int
    draining: int
    waiting: int
    ongoing: int
    kv_usage_fraction: float | None
    nodes_ready: int
    nodes_starting: int
    nodes_prewarmed: int
    ttft_p99_s: float | None
    slo_misses: int
    cost_usd: float | None


COLUMNS = tuple(f.name for f in fields(Row))


class Sink(Protocol):
    """Takes rows in order of time."""

    def write(self, row: Row) -> None: ...


class CsvSink:
    """Writes rows to a CSV file; a context manager that closes it."""

    def __init__(self, path: Path) -> None:
        self._file = io.TextIOWrapper(create_output(path), encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def __enter__(self) -> CsvSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, row: Row) -> None:
        self._writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])


def _cell(value: float | int | str | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:.6g}"
        if isinstance(value, float) and not value.is_integer()
        else f"{value:.10g}"
        if isinstance(value, float)
        else no_formula(value)
        if isinstance(value, str)
        else str(value)
    )


@dataclass(slots=True)
class Strip:
    """A deployment's day for pictures: a few columns as packed arrays, memory by the tick and not by the request.

    NaN: unknown.
    """

    time_s: array[float] = field(default_factory=lambda: array("d"))
    arrivals_rps: array[float] = field(default_factory=lambda: array("f"))
    forecast_q50_rps: array[float] = field(default_factory=lambda: array("f"))
    forecast_q95_rps: array[float] = field(default_factory=lambda: array("f"))
    forecast_q99_rps: array[float] = field(default_factory=lambda: array("f"))
    running: array[int] = field(default_factory=lambda: array("i"))
    starting: array[int] = field(default_factory=lambda: array("i"))
    draining: array[int] = field(default_factory=lambda: array("i"))
    target: array[int] = field(default_factory=lambda: array("i"))
    slo_misses: array[int] = field(default_factory=lambda: array("i"))
    nodes_ready: array[int] = field(default_factory=lambda: array("i"))
    nodes_starting: array[int] = field(default_factory=lambda: array("i"))
    nodes_prewarmed: array[int] = field(default_factory=lambda: array("i"))
    waiting: array[int] = field(default_factory=lambda: array("i"))
    ttft_p99_s: array[float] = field(default_factory=lambda: array("f"))

    def add(self, row: Row) -> None:
        for name in self.__slots__:
            value = getattr(row, name)
            getattr(self, name).append(math.nan if value is None else value)


class StripSink:
    """Keeps a Strip for each deployment."""

    def __init__(self) -> None:
        self.strips: dict[str, Strip] = {}

    def write(self, row: Row) -> None:
        self.strips.setdefault(row.deployment, Strip()).add(row)


class Tee:
    """Writes each row to several sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write(self, row: Row) -> None:
        for sink in self._sinks:
            sink.write(row)
