"""Draws a chart into character cells: bars of traffic, the forecast's fan, what the replicas carry, who was late.

Each cell has a character and a kind; colours belong to `view`. Pure. y starts at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from leadtime.demo.scene import Chart

Kind = Literal["text", "traffic", "expected", "band", "usual", "carries", "carries_on_bar", "now", "lead", "late"]
_EIGHTHS = " ▁▂▃▄▅▆▇█"
GUTTER = 5
"""Columns left of the plot, for labels."""


@dataclass(frozen=True, slots=True)
class Cell:
    char: str = " "
    kind: Kind = "text"


Row = list[Cell]


def draw(chart: Chart, rows: int, unit: str = "req/s") -> list[Row]:
    """`rows` of plot, then the time axis, then the late users; each GUTTER + chart.columns cells wide."""
    top = nice_top(chart.most)
    plot = [[Cell() for _ in range(chart.columns)] for _ in range(rows)]
    for column in range(chart.columns):
        _draw_column(plot, chart, column, top)
    labels = [f"{top:g}", *[""] * (rows - 2), "0"] if rows > 1 else [f"{top:g}"]
    result = [_text(f"{label:>{GUTTER - 1}} ") + row for label, row in zip(labels, plot, strict=True)]
    return [*result, _axis(chart), _late(chart)]


def nice_top(most: float) -> float:
    """A round number with some air above the largest value."""
    wanted = max(most * 1.1, 1.0)
    step = 10.0 ** math.floor(math.log10(wanted))
    return next(step * f for f in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * f >= wanted - 1e-9)


def _draw_column(plot: list[Row], chart: Chart, column: int, top: float) -> None:
    rows = len(plot)
    past = column <= chart.now_column
    fan = chart.fan[column]
    if past:
        _bar(plot, column, chart.traffic[column], top, "traffic")
    elif fan is not None:
        _bar(plot, column, fan[0], top, "expected")
        for row in range(_row(fan[0], top, rows) + 1, _row(fan[1], top, rows) + 1):
            _put(plot, row, column, Cell("░", "band"))
    else:
        _put(plot, _row(chart.usual[column], top, rows), column, Cell("·", "usual"))
    carries = chart.carries[column]
    if carries is not None:
        row = _row(carries, top, rows)
        if 0 <= row < rows:
            on_bar = plot[rows - 1 - row][column].char == "█"
            _put(plot, row, column, Cell("─" if past else "╌", "carries_on_bar" if on_bar else "carries"))


def _bar(plot: list[Row], column: int, value: float | None, top: float, kind: Kind) -> None:
    if value is None:
        _put(plot, 0, column, Cell("?", "text"))
        return
    rows = len(plot)
    eighths = round(value / top * rows * 8)
    if value > 0:
        eighths = max(eighths, 1)
    for row in range(rows):
        filled = min(max(eighths - 8 * row, 0), 8)
        if filled:
            _put(plot, row, column, Cell(_EIGHTHS[filled], kind))


def _row(value: float, top: float, rows: int) -> int:
    """The row (0 = bottom) that holds this value."""
    return min(int(value / top * rows), rows - 1)


def _put(plot: list[Row], row: int, column: int, cell: Cell) -> None:
    if 0 <= row < len(plot):
        plot[len(plot) - 1 - row][column] = cell


def _text(text: str) -> Row:
    return [Cell(char) for char in text]


def _axis(chart: Chart) -> Row:
    """Where time begins and ends, where now is, and where one lead time from now is."""
    row = [Cell() for _ in range(GUTTER + chart.columns)]

    def write(at: int, text: str, kind: Kind) -> None:
        for i, char in enumerate(text):
            if 0 <= at + i < len(row):
                row[at + i] = Cell(char, kind)

    begin, end = _clock(chart.begin_s), _clock(chart.end_s)
    marks = [chart.now_column]
    if chart.lead_column is not None and chart.lead_column < chart.columns:
        marks.append(chart.lead_column)
        _mark(write, chart, chart.lead_column, "lead", "lead")
    _mark(write, chart, chart.now_column, "now", "now")
    if min(marks) > len(begin):
        write(GUTTER, begin, "text")
    if max(marks) + len("▲ lead ") < chart.columns - len(end):
        write(GUTTER + chart.columns - len(end), end, "text")
    return row


def _mark(write: Callable[[int, str, Kind], None], chart: Chart, column: int, word: str, kind: Kind) -> None:
    """An arrow under the column, its word on the side that has room (the lead's must leave room for "now")."""
    if column + len(word) + 2 <= chart.columns:
        write(GUTTER + column, f"▲ {word}", kind)
    elif kind == "now" or column - chart.now_column > len("▲ now ") + len(word):
        write(GUTTER + column - len(word) - 1, f"{word} ▲", kind)
    else:
        write(GUTTER + column, "▲", kind)


def _late(chart: Chart) -> Row:
    if not any(chart.late):
        return [Cell() for _ in range(GUTTER + chart.columns)]
    cells = [Cell(str(n) if n < 10 else "+", "late") if n else Cell() for n in chart.late]
    return [Cell(char, "late") for char in "late "] + cells


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
