"""Draws a scene: on a terminal as a screen of at most 96 columns, elsewhere as a line of text.

A sentence first, then pictures, then numbers. Calm has no colour: blue is forecast, amber is starting, red is what
users feel; each has its own shape and word as well. Unknown is `?`, never 0.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from leadtime.demo import plot
from leadtime.demo.scene import Decision, Lane, Scene

WIDTH = 96
_GAP = 2
_CHART_ROWS = 7
_LEAST_COLUMNS = 20
_DECISIONS = 4
_REPLICAS_ROOM = 28
_STYLES: dict[plot.Kind, str] = {
    "text": "",
    "traffic": "",
    "expected": "blue",
    "band": "blue",
    "usual": "dim",
    "carries": "bold",
    "carries_on_bar": "bold reverse",
    "now": "bold",
    "lead": "blue",
    "late": "red",
}


def columns_for(width: int, lanes: int) -> int:
    """How many columns of time each chart has on a terminal of this width."""
    return max((min(width, WIDTH) - _GAP * (lanes - 1)) // lanes - plot.GUTTER, _LEAST_COLUMNS)


def screen(scene: Scene, width: int = WIDTH, height: int = 50) -> RenderableType:
    """The whole screen. A low terminal gets lower charts and fewer decisions."""
    width = min(width, WIDTH)
    spare = max(0, height - 1 - (len(scene.words) + 10 + _CHART_ROWS + _DECISIONS))
    short = max(0, len(scene.words) + 10 + _CHART_ROWS + _DECISIONS - (height - 1))
    rows = max(_CHART_ROWS - short, 3)
    lines: list[Text] = [_head(scene, width)]
    lines += [Text(part, "dim") for words in scene.words for part in textwrap.wrap(words, width)]
    if scene.alarm:
        lines.append(Text(f"! {scene.alarm}", "bold red", no_wrap=True, overflow="ellipsis"))
    lines += [Text(), _chart_titles(scene, width), *_charts(scene, rows), Text(), *_table(scene, width)]
    lines += [Text(), *_decisions(scene.decisions, min(_DECISIONS + spare, 8), width)]
    if scene.nodes:
        lines += [Text(), Text(f"  {scene.nodes}")]
    if scene.so_far:
        lines += [Text(), Text(scene.so_far)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)


def _head(scene: Scene, width: int) -> Text:
    text = Text("leadtime demo", "bold")
    text.append(f"  {scene.title}", "default not bold")
    right = f"{_clock(scene.elapsed_s)} of {_clock(scene.total_s)}"
    if scene.page:
        right += f"   {scene.page}"
    text.append(" " * max(width - len(text) - len(right), 2))
    text.append(right, "default not bold")
    return text


def _chart_titles(scene: Scene, width: int) -> Text:
    columns = columns_for(width, len(scene.lanes)) + plot.GUTTER
    text = Text()
    for i, lane in enumerate(scene.lanes):
        carries = f"a replica carries {_number(lane.capacity_rps)} req/s" if lane.capacity_rps else "learning"
        title = Text(" " * plot.GUTTER)
        title.append(lane.name, "bold")
        title.append(f"  req/s; {carries}", "dim")
        title.truncate(columns, overflow="ellipsis", pad=i + 1 < len(scene.lanes))
        text.append_text(title)
        text.append(" " * _GAP)
    return text


def _charts(scene: Scene, rows: int) -> list[Text]:
    drawn = [plot.draw(lane.chart, rows) for lane in scene.lanes]
    lines = []
    for parts in zip(*drawn, strict=True):
        line = Text()
        for i, cells in enumerate(parts):
            if i:
                line.append(" " * _GAP)
            for cell in cells:
                line.append(cell.char, _STYLES[cell.kind])
        lines.append(line)
    return lines


def _table(scene: Scene, width: int) -> list[Text]:
    room = max(_REPLICAS_ROOM - (WIDTH - width), 12)
    head = f"  deployment  now → by lead time  {'replicas':<{room}} lead p90  queue     KV  in time"
    return [Text(head, "dim"), *(_row(lane, room) for lane in scene.lanes)]


def _row(lane: Lane, room: int) -> Text:
    text = Text()
    mark, style = _mark(lane)
    text.append(mark, style)
    text.append(f" {lane.name:<11} ")
    text.append(f"{_number(lane.rate_rps):>3} → ")
    text.append(f"{_number(lane.by_lead_rps):>4}", "blue")
    text.append(" req/s    ")
    replicas = _replicas(lane)
    replicas.truncate(room, overflow="ellipsis", pad=True)
    text.append_text(replicas)
    text.append(f" {_seconds(lane.lead_p90_s):>8}")
    text.append(f" {_count(lane.queue):>6}", "red" if (lane.queue or 0) >= 1 else "")
    text.append(f" {_percent(lane.kv_usage_fraction):>6}")
    late = lane.within_slo_fraction is not None and lane.within_slo_fraction < 0.99
    text.append(f" {_percent(lane.within_slo_fraction, 1):>8}", "red" if late else "")
    return text


def _mark(lane: Lane) -> tuple[str, str]:
    if lane.running is None or lane.target is None:
        return "?", "dim"
    if lane.starting or lane.target > lane.running:
        return "↑", "yellow"
    return ("↓", "") if lane.draining or lane.target < lane.running else ("○", "dim")


def _replicas(lane: Lane) -> Text:
    if lane.running is None:
        return Text("?")
    text = Text(f"{lane.running}")
    if lane.target is not None and lane.target != lane.running:
        text.append(f" → {lane.target}")
    text.append(" ")
    text.append("█" * lane.running)
    text.append("▒" * (lane.starting or 0), "yellow")
    text.append("░" * (lane.draining or 0), "dim")
    if lane.starting:
        text.append(f" {lane.starting} starting", "yellow")
        if lane.next_ready_in_s is not None:
            text.append(f", {lane.next_ready_in_s:.0f} s", "yellow")
    elif lane.draining:
        text.append(f" {lane.draining} draining", "dim")
    return text


def _decisions(decisions: Sequence[Decision], most: int, width: int) -> list[Text]:
    if not decisions:
        return [Text("no change yet", "dim")]
    lines = []
    for decision in decisions[:most]:
        line = Text(f"{_clock(decision.at_s):>5}  ")
        if decision.change:
            line.append(f"{decision.name} {decision.change}".ljust(13), "bold")
        else:
            line.append(f"{decision.name}".ljust(13))
        line.append(f"  {decision.why}", "" if decision.change else "blue")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


# ---------------------------------------------------------------- plain text


def plain_head(scene: Scene) -> list[str]:
    """What one is looking at, without the legend of a picture that is not there."""
    return [f"{scene.title}  {scene.page}".rstrip(), *scene.words[:1], "req/s: now → expected within one lead time"]


def plain_line(scene: Scene) -> str:
    """One line for logs and pipes."""
    parts = [*(_plain_lane(lane) for lane in scene.lanes), scene.nodes, scene.so_far]
    alarm = f"  ! {scene.alarm}" if scene.alarm else ""
    return f"{_clock(scene.elapsed_s)}  " + "  |  ".join(part for part in parts if part) + alarm


def _plain_lane(lane: Lane) -> str:
    replicas = _count(lane.running) + " running"
    if lane.starting:
        replicas += f", {lane.starting} starting"
    if lane.draining:
        replicas += f", {lane.draining} draining"
    traffic = f"{_number(lane.rate_rps)} → {_number(lane.by_lead_rps)} req/s"
    return f"{lane.name} {traffic}, {replicas}, queue {_count(lane.queue)}"


def plain_decision(decision: Decision) -> str:
    """A change of target, or something learned, in one line."""
    change = f" {decision.change}" if decision.change else ""
    return f"{_clock(decision.at_s)}  {decision.name}{change}: {decision.why}"


# ---------------------------------------------------------------- numbers


def _clock(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f} s"


def _percent(value: float | None, digits: int = 0) -> str:
    return "?" if value is None else f"{100 * value:.{digits}f} %"
