"""Published request traces and benchmark results to our `requests` CSV.

| format | file |
| --- | --- |
| azure | Azure LLM inference 2023 and 2024: CSV `TIMESTAMP,ContextTokens,GeneratedTokens` |
| burstgpt | BurstGPT: CSV with `Timestamp,Request tokens,Response tokens` among its columns |
| mooncake | Mooncake: JSON Lines with `timestamp` (ms), `input_length`, `output_length` |
| vllm-bench | `vllm bench serve --save-result --save-detailed`: JSON with lists `start_times`, `input_lens`, .. |

Times count from the first request; rows are sorted by time. Requests without prompt or output tokens (failures of the
traced service) are left out and counted. A bad row is an error naming file and row. Our own formats are in traces.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler.common.errors import TraceError
from autoscaler.common.safe_files import read_maybe_packed
from simulator.workload.traces import Floats, Ints, write_requests, write_text

Row = tuple[float, int, int]
"""Seconds, prompt tokens, output tokens."""
_MAX_TOKENS = 2**31 - 1
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Converted:
    """Requests sorted by time, the first at 0, and how many had no tokens."""

    time_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    left_out: int


def convert(form: str, source: Path, out: Path) -> Converted:
    """Read `source` in one of FORMATS, write a requests trace. Errors: TraceError naming file, row, column, value."""
    made = _collect(source, FORMATS[form](source))
    write_requests(out, made.time_s, made.prompt_tokens, made.output_tokens)
    return made


def _collect(source: Path, rows: Iterable[Row]) -> Converted:
    times, prompts, outputs, left_out = array("d"), array("i"), array("i"), 0
    for time_s, prompt, output in rows:
        if prompt < 1 or output < 1:
            left_out += 1
            continue
        times.append(time_s)
        prompts.append(prompt)
        outputs.append(output)
    if not times:
        raise TraceError(f"{source}: no request with tokens in it")
    order = np.argsort(np.array(times), kind="stable")
    sorted_s = np.array(times)[order]
    tokens = [np.array(column, dtype=np.int32)[order] for column in (prompts, outputs)]
    return Converted(sorted_s - sorted_s[0], tokens[0], tokens[1], left_out)


# ---------------------------------------------------------------- CSV


def _azure(path: Path) -> Iterator[Row]:
    for where, row in _csv_rows(path, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        text = row["TIMESTAMP"].strip()
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            allowed = "a time like 2023-11-16 18:15:46.68"
            raise TraceError(f"{where}: TIMESTAMP: {text!r}; allowed: {allowed}") from None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        yield seconds, _tokens(where, row, "ContextTokens"), _tokens(where, row, "GeneratedTokens")


def _burstgpt(path: Path) -> Iterator[Row]:
    for where, row in _csv_rows(path, ("Timestamp", "Request tokens", "Response tokens")):
        tokens = _tokens(where, row, "Request tokens"), _tokens(where, row, "Response tokens")
        yield _number(where, row, "Timestamp"), *tokens


def _csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """('FILE: row N', cells by column) of every row; the header is row 1."""
    reader = csv.DictReader(_text(path))
    try:
        header = reader.fieldnames or ()
    except csv.Error as error:
        raise TraceError(f"{path}: row 1: not a CSV row: {error}") from None
    for name in needed:
        if name not in header:
            raise TraceError(f"{path}: row 1: column {name!r} is missing; needed: {','.join(needed)}")
    for where, row in _rows_of(path, reader):
        if None in row or any(row[name] is None for name in needed):
            raise TraceError(f"{where}: not as many columns as the header ({len(header)})")
        yield where, row


def _rows_of(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        for row in reader:
            yield f"{path}: row {reader.line_num}", row
    except csv.Error as error:
        raise TraceError(f"{path}: row {reader.line_num}: not a CSV row: {error}") from None


# ---------------------------------------------------------------- JSON


def _mooncake(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_text(path), 1):
        if not line.strip():
            continue
        where = f"{path}: row {number}"
        row = _json(where, line)
        if not isinstance(row, dict):
            raise TraceError(f"{where}: expected a JSON object with timestamp, input_length, output_length")
        tokens = _tokens(where, row, "input_length"), _tokens(where, row, "output_length")
        yield _number(where, row, "timestamp") / 1e3, *tokens


def _vllm_bench(path: Path) -> Iterator[Row]:
    document = read_bench(path)
    for i in range(len(document["start_times"])):
        where = f"{path}: request {i + 1}"
        row = {name: document[name][i] for name in _BENCH}
        yield _number(where, row, "start_times"), _tokens(where, row, "input_lens"), _tokens(where, row, "output_lens")


_BENCH = ("start_times", "input_lens", "output_lens")


def read_bench(path: Path, also: Sequence[str] = ()) -> dict[str, list[Any]]:
    """The lists of a detailed benchmark result, all of one length. Errors: TraceError naming file and key."""
    document = _json(str(path), _text(path).read())
    if not isinstance(document, dict):
        raise TraceError(f"{path}: expected one JSON object, as `vllm bench serve --save-result` writes it")
    lists = {}
    for name in (*_BENCH, *also):
        if not isinstance(document.get(name), list):
            raise TraceError(
                f"{path}: {name}: missing; allowed: a list (`vllm bench serve --save-result --save-detailed`)"
            )
        lists[name] = document[name]
        if len(lists[name]) != len(lists["start_times"]):
            count = len(lists["start_times"])
            raise TraceError(f"{path}: {name}: {len(lists[name])} entries, start_times has {count}")
    return lists


def write_observed(source: Path, out: Path) -> int:
    """A detailed benchmark result as the CSV that `leadtime fidelity` reads; how many requests. Errors: TraceError."""
    lists = read_bench(source, ("ttfts", "itls"))
    if not lists["start_times"]:
        raise TraceError(f"{source}: start_times: no requests in it")
    first_s = min(_number(f"{source}: start_times", {"": t}, "") for t in lists["start_times"])
    lines = ["arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,mean_itl_s,status"]
    for i in range(len(lists["start_times"])):
        where, row = f"{source}: request {i + 1}", {name: values[i] for name, values in lists.items()}
        output, ttft_s = _tokens(where, row, "output_lens"), _number(where, row, "ttfts")
        if not isinstance(row["itls"], list):
            raise TraceError(f"{where}: itls: {row['itls']!r}; allowed: a list of seconds")
        gaps_s = sum(_number(where, {"itls": gap}, "itls") for gap in row["itls"])
        mean_s = f"{gaps_s / (output - 1):.7g}" if output > 1 else ""
        ok = output > 0 and ttft_s > 0
        cells = (f"{_number(where, row, 'start_times') - first_s:.4f}", _tokens(where, row, "input_lens"), output)
        times = (f"{ttft_s:.6g}", f"{ttft_s + gaps_s:.7g}", mean_s, "ok") if ok else ("", "", "", "failed")
        lines.append(",".join(map(str, (*cells, *times))))
    write_text(out, "\n".join(lines) + "\n")
    return len(lines) - 1


# ---------------------------------------------------------------- cells


def _text(path: Path) -> io.TextIOBase:
    try:
        return io.StringIO(read_maybe_packed(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if "row" in where else f" row {error.lineno}:"
        raise TraceError(f"{where}:{line} not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise TraceError(f"{where}: not JSON that can be read: {error}") from None


def _number(where: str, row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise TraceError(f"{where}: {f'{name}: ' if name else ''}{_brief(value)}; allowed: a number >= 0")
    return number


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _tokens(where: str, row: Mapping[str, Any], name: str) -> int:
    number = _number(where, row, name)
    if number != int(number) or number > _MAX_TOKENS:
        raise TraceError(f"{where}: {name}: {row[name]!r}; allowed: a whole number >= 0")
    return int(number)


FORMATS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "azure": _azure,
    "burstgpt": _burstgpt,
    "mooncake": _mooncake,
    "vllm-bench": _vllm_bench,
}
