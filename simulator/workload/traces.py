"""Readers and writers of trace files: `requests` and `rates` CSV, plain or .gz, as numpy arrays.

For files only: what becomes of rows (scaling, Poisson, lengths) is in workload.py, and JSON Lines and ISO times are in
trace_text.py. A file that is wrong anywhere is refused as a whole by a TraceError that names the file and the row (line
1 is the header). Bins that a rates file does not have are no mistake: they are marked as gaps.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoscaler.common.errors import TraceError
from autoscaler.common.safe_files import write_output
from policies.options import exact
from simulator.workload.trace_text import TIME, read_text, row_number

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_REQUEST_COLUMNS = ("timestamp_s", "prompt_tokens", "output_tokens")
_REQUEST_OPTIONAL = ("deployment", "cached_prompt_tokens")
_RATE_COLUMNS = ("timestamp_s", "rps")
_RATE_OPTIONAL = ("prompt_tokens", "output_tokens")
_MAX_TOKENS = 2**31 - 1
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
MAX_REQUESTS_PER_BIN = 1e8
"""The arrivals of a bin are drawn at once, in memory."""
_MAX_TIME_S = 1e11
"""Three thousand years: what is later is in milliseconds."""
_BIN_TOLERANCE_S = 1e-3
"""How far a bin's start may lie from the grid: files print times with three or more decimals."""
_MAX_BINS = 10_000_000
"""All bins are held at once, those of gaps too."""
_NO_RATE = re.compile(r"\s*(nan|null)?\s*", re.IGNORECASE)
"""A cell of a bin of which nothing is known, as exports write it."""
_EMPTY_CELL = re.compile(r",[ \t]*(nan|null)?[ \t\r]*(,|$)|^[ \t]*(nan|null)?[ \t]*,", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """Requests sorted by time (seconds from the file's own zero). Arrays of one length; optional ones may be None."""

    source: str
    time_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    cached_prompt_tokens: Ints | None = None
    deployment: NDArray[np.str_] | None = None

    @property
    def end_s(self) -> float:
        return float(self.time_s[-1])


@dataclass(frozen=True, slots=True)
class RateTrace:
    """Mean requests/s per bin of constant width, from `start_s` on; optional mean lengths per bin.

    Factors (of made-up traffic) multiply the lengths that the workload states. `gaps` are the bins (first, one past the
    last) that were not recorded: there `rps` is a straight line between the neighbours, and the lengths are too.
    """

    source: str
    start_s: float
    bin_s: float
    rps: Floats
    prompt_tokens: Floats | None = None
    output_tokens: Floats | None = None
    prompt_factor: Floats | None = None
    output_factor: Floats | None = None
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def end_s(self) -> float:
        return self.start_s + self.bin_s * len(self.rps)

    @property
    def gap_s(self) -> float:
        """Seconds that were not recorded."""
        return self.bin_s * sum(end - first for first, end in self.gaps)

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Whether each bin was recorded."""
        known = np.ones(len(self.rps), dtype=bool)
        for first, end in self.gaps:
            known[first:end] = False
        return known


def read_requests(path: Path, before_s: float | None = None) -> RequestTrace:
    """A requests trace; about a second per million rows. Errors: TraceError naming file and row.

    `before_s`: rows from that time on are cut off before anything is parsed, so nothing in them can matter.
    """
    text, header = _open(path, _REQUEST_COLUMNS, _REQUEST_OPTIONAL)
    text = _cut(path, text, header, before_s)
    numeric = [name for name in header if name != "deployment"]
    columns = _columns(path, text, header, numeric)
    time_s = columns["timestamp_s"]
    _check_sorted(path, text, time_s)
    tokens = {name: _tokens(path, text, name, columns[name]) for name in numeric if name != "timestamp_s"}
    cached = tokens.get("cached_prompt_tokens")
    if cached is not None and (bad := np.flatnonzero(cached > tokens["prompt_tokens"])).size:
        raise TraceError(f"{_row(path, text, int(bad[0]))}: cached_prompt_tokens is larger than prompt_tokens")
    names = _names(path, text, header) if "deployment" in header else None
    return RequestTrace(str(path), time_s, tokens["prompt_tokens"], tokens["output_tokens"], cached, names)


def read_rates(path: Path, before_s: float | None = None) -> RateTrace:
    """A rates trace. Errors: TraceError naming file and row; a single row has no bin width and is refused too.

    `before_s`: rows from that time on are cut off before anything is parsed, and so is a bin that reaches past it.
    """
    text, header = _open(path, _RATE_COLUMNS, _RATE_OPTIONAL)
    text = _without_unknown(_cut(path, text, header, before_s), header)
    columns = _columns(path, text, header, list(header))
    time_s = columns[TIME]
    if len(time_s) < 2:
        raise TraceError(f"{path}: one row only: the bin width is the distance between two rows")
    _check_sorted(path, text, time_s)
    at, bin_s = _bins(path, text, time_s)
    for name in header:
        _check_not_negative(path, text, name, columns[name])
    if (much := np.flatnonzero(columns["rps"] * bin_s > MAX_REQUESTS_PER_BIN)).size:
        rps = columns["rps"][much[0]]
        raise TraceError(
            f"{_row(path, text, int(much[0]))}: rps: {exact(rps)} for {exact(bin_s)} s; "
            f"allowed: at most {exact(MAX_REQUESTS_PER_BIN)} requests in a bin (are the units requests/s and seconds?)"
        )
    if before_s is not None and time_s[-1] + bin_s > before_s + _BIN_TOLERANCE_S:
        columns, at = {name: values[:-1] for name, values in columns.items()}, at[:-1]
    return rate_trace(str(path), float(time_s[0]), bin_s, at, columns)


def rate_trace(
    source: str, start_s: float, bin_s: float, at: NDArray[np.int64], columns: Mapping[str, Floats]
) -> RateTrace:
    """A trace from recorded bins: `at` are their numbers, ascending from 0, shape (n,); `columns` have `rps` and maybe
    mean lengths, each of shape (n,). Bins between them are gaps.
    """
    full = np.arange(int(at[-1]) + 1 if len(at) else 0)
    filled = {name: values if len(full) == len(at) else np.interp(full, at, values) for name, values in columns.items()}
    missing = np.flatnonzero(np.diff(at) > 1)
    gaps = tuple((int(at[i]) + 1, int(at[i + 1])) for i in missing)
    means = {name: filled.get(name) for name in _RATE_OPTIONAL}
    return RateTrace(source, start_s, bin_s, filled["rps"], means["prompt_tokens"], means["output_tokens"], gaps=gaps)


def _bins(path: Path, text: str, time_s: Floats) -> tuple[NDArray[np.int64], float]:
    """The number of each row's bin, counted from the first, and the width of bins (s).

    The width is the smallest distance between two rows, and at least half of the distances are one bin: a file with
    more holes than rows has no grid that can be told. Errors: TraceError for rows that are on no such grid.
    """
    steps_s = np.diff(time_s)
    least_s = float(steps_s.min())
    if least_s > 0:
        counts = np.rint(steps_s / least_s)
        at = np.concatenate(([0.0], np.cumsum(counts)))
        bin_s = float(time_s[-1] - time_s[0]) / float(at[-1])
        off = np.abs(time_s - (time_s[0] + bin_s * at)) > _BIN_TOLERANCE_S + 1e-9 * bin_s
        if not off.any() and 2 * int((counts == 1).sum()) >= len(counts):
            if at[-1] >= _MAX_BINS:
                i = int(np.argmax(counts)) + 1
                allowed = f"at most {exact(float(_MAX_BINS))} bins in all, of {exact(bin_s)} s"
                raise TraceError(f"{_after(path, text, time_s, i)}; allowed: {allowed}")
            return at.astype(np.int64), bin_s
    allowed = f"bins of one width, {steps_s[0]:g} s between the first two, or gaps of whole bins"
    raise TraceError(f"{_after(path, text, time_s, _first_odd_step(time_s))}; allowed: {allowed}")


def _after(path: Path, text: str, time_s: Floats, i: int) -> str:
    step_s = time_s[i] - time_s[i - 1]
    return f"{_row(path, text, i)}: {TIME}: {exact(time_s[i])} comes {step_s:g} s after the row before"


def write_rates(path: Path, trace: RateTrace) -> None:
    """Writes a rates trace (.gz by its name), byte for byte the same for the same trace."""
    names = [n for n in _RATE_OPTIONAL if getattr(trace, n) is not None]
    lines = [",".join([*_RATE_COLUMNS, *names])]
    columns = [trace.rps, *(getattr(trace, n) for n in names)]
    for i in range(len(trace.rps)):
        time_s = trace.start_s + trace.bin_s * i
        lines.append(",".join([f"{time_s:.10g}", *(f"{column[i]:.6g}" for column in columns)]))
    write_text(path, "\n".join(lines) + "\n")


def write_requests(path: Path, time_s: Floats, prompt_tokens: Ints, output_tokens: Ints) -> None:
    """Writes a requests trace (.gz by its name)."""
    lines = [",".join(_REQUEST_COLUMNS)]
    rows = zip(time_s.tolist(), prompt_tokens.tolist(), output_tokens.tolist(), strict=True)
    lines.extend(f"{t:.4f},{p},{o}" for t, p, o in rows)
    write_text(path, "\n".join(lines) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text, compressed where the name ends in .gz, without the time of day in it."""
    data = text.encode()
    write_output(path, gzip.compress(data, compresslevel=6, mtime=0) if path.suffix == ".gz" else data)


def kind_of(path: Path) -> str:
    """'requests' or 'rates', by the header. Errors: TraceError."""
    text, header = _read(path)
    kind = "rates" if "rps" in header else "requests"
    columns = (_RATE_COLUMNS, _RATE_OPTIONAL) if kind == "rates" else (_REQUEST_COLUMNS, _REQUEST_OPTIONAL)
    _check_header(path, text, header, *columns)
    return kind


# ---------------------------------------------------------------- reading


def _open(path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The file's text and its header, checked."""
    text, header = _read(path)
    _check_header(path, text, header, required, optional)
    return text, header


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    text = read_text(path)
    return text, tuple(cell.strip() for cell in text.partition("\n")[0].strip().split(","))


def _check_header(
    path: Path, text: str, header: tuple[str, ...], required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    if header == ("",):
        raise TraceError(f"{path}: the file is empty; expected a header {','.join(required)}")
    allowed = (*required, *optional)
    unknown = [name for name in header if name not in allowed]
    missing = [name for name in required if name not in header]
    if unknown or missing or len(set(header)) < len(header):
        what = (
            f"unknown column {unknown[0]!r}"
            if unknown
            else f"column {missing[0]!r} is missing"
            if missing
            else "a column twice"
        )
        also = f" (and optionally {', '.join(optional)})" if optional else ""
        raise TraceError(f"{path}: row 1: {what}; the header must be {','.join(required)}{also}")
    if not text.partition("\n")[2].strip():
        raise TraceError(f"{path}: no rows after the header")


def _cut(path: Path, text: str, header: tuple[str, ...], before_s: float | None) -> str:
    """The text up to the first row at or after `before_s`."""
    if before_s is None:
        return text
    at, end = header.index("timestamp_s"), text.find("\n") + 1
    start = end
    for line in text[start:].splitlines(keepends=True):
        cell = line.split(",")[at].strip() if line.count(",") >= at else ""
        try:
            if float(cell) >= before_s:
                break
        except ValueError:
            pass  # a bad row before the end is named by the reader
        end += len(line)
    if end == start:
        raise TraceError(f"{path}: no row before {before_s:g} s, where the workload starts: nothing to learn from")
    return text[:end]


def _without_unknown(text: str, header: tuple[str, ...]) -> str:
    """The text with a blank line for each bin whose rate is empty or NaN: it was not recorded."""
    if not _EMPTY_CELL.search(text):
        return text  # a sound file is looked at as a whole, not row by row
    at = header.index("rps")
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        if len(cells) == len(header) and _NO_RATE.fullmatch(cells[at]):
            lines[i] = "\n"
    return "".join(lines)


def _columns(path: Path, text: str, header: tuple[str, ...], numeric: list[str]) -> dict[str, Floats]:
    """The numeric columns as floats, all finite."""
    usecols = [header.index(name) for name in numeric]
    try:
        table = np.loadtxt(io.StringIO(text), delimiter=",", skiprows=1, usecols=usecols, comments=None, ndmin=2)
    except (ValueError, IndexError):
        raise _first_bad_cell(path, text, header, numeric) from None
    if not np.isfinite(table).all() or text.rstrip("\n\r").count(",") > (len(header) - 1) * (len(table) + 1):
        raise _first_bad_cell(path, text, header, numeric)
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(numeric)}


def _first_bad_cell(path: Path, text: str, header: tuple[str, ...], numeric: list[str]) -> TraceError:
    """The slow way, taken only for a file that is wrong: find the row to name."""
    for line, cells in _numbered_rows(path, text):
        row = row_number(path, line)
        if len(cells) != len(header):
            return TraceError(f"{path}: row {row}: {len(cells)} columns, the header has {len(header)}")
        for name in numeric:
            cell = cells[header.index(name)].strip()
            try:
                value = float(cell)
            except ValueError:
                return TraceError(f"{path}: row {row}: {name}: {cell!r} is not a number")
            if not math.isfinite(value):
                return TraceError(f"{path}: row {row}: {name}: {cell!r}; allowed: a finite number")
            if not _PLAIN_NUMBER.fullmatch(cell):  # float() takes 1_000 and other scripts' digits, numpy does not
                return TraceError(f"{path}: row {row}: {name}: {cell!r}; allowed: digits, such as 12 or 0.5")
    if '"' in text:
        row = row_number(path, text[: text.index('"')].count("\n") + 1)
        return TraceError(f"{path}: row {row}: a cell in quotes ('\"'); allowed: plain cells")
    return TraceError(f"{path}: cannot be read as numbers")


def _numbered_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not blank, the header left out. Errors: TraceError."""
    reader = csv.reader(io.StringIO(text))
    try:
        return [(i, cells) for i, cells in enumerate(reader, start=1) if cells and i > 1]
    except csv.Error as error:
        raise TraceError(f"{path}: row {reader.line_num}: not a CSV row: {error}") from None


def _row(path: Path, text: str, index: int) -> str:
    """'FILE: row N' of the index-th data row (blank lines count as lines, not as rows)."""
    return f"{path}: row {row_number(path, _numbered_rows(path, text)[index][0])}"


def _check_sorted(path: Path, text: str, time_s: Floats) -> None:
    back = np.flatnonzero(np.diff(time_s) < 0)
    if back.size:
        i = int(back[0]) + 1
        raise TraceError(
            f"{_row(path, text, i)}: timestamp_s: {exact(time_s[i])} after {exact(time_s[i - 1])}; "
            "allowed: rows sorted by time"
        )
    _check_not_negative(path, text, "timestamp_s", time_s)
    if time_s[-1] > _MAX_TIME_S:
        first = int(np.searchsorted(time_s, _MAX_TIME_S, side="right"))
        raise TraceError(
            f"{_row(path, text, first)}: timestamp_s: {exact(time_s[first])}; "
            f"allowed: at most {exact(_MAX_TIME_S)} (is the unit seconds?)"
        )


def _check_not_negative(path: Path, text: str, name: str, values: Floats) -> None:
    bad = np.flatnonzero(values < 0)
    if bad.size:
        raise TraceError(f"{_row(path, text, int(bad[0]))}: {name}: {exact(values[bad[0]])}; allowed: a number >= 0")


def _tokens(path: Path, text: str, name: str, values: Floats) -> Ints:
    _check_not_negative(path, text, name, values)
    bad = np.flatnonzero((values != np.floor(values)) | (values > _MAX_TOKENS))
    if bad.size:
        shown = exact(values[bad[0]])
        raise TraceError(f"{_row(path, text, int(bad[0]))}: {name}: {shown}; allowed: a whole number >= 0")
    return values.astype(np.int32)


def _names(path: Path, text: str, header: tuple[str, ...]) -> NDArray[np.str_]:
    at = header.index("deployment")
    return np.array([cells[at].strip() for _, cells in _numbered_rows(path, text)], dtype=np.str_)


def _first_odd_step(time_s: Floats) -> int:
    """Index of the first row whose distance to the one before differs from the first distance."""
    steps = np.diff(time_s)
    odd = np.flatnonzero(np.abs(steps - steps[0]) > 2 * _BIN_TOLERANCE_S)
    return int(odd[0]) + 1 if odd.size else len(time_s) - 1
