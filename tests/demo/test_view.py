"""What the demo draws: golden text of whole screens, and that nothing is ever wider than its terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from leadtime.demo import plot, view
from leadtime.demo.scene import Chart, Decision, Lane, Scene
from leadtime.demo.screens import PlainScreen

COLUMNS = 42


def chart(now: int = 10, lead: int | None = 17) -> Chart:
    return Chart(
        now_column=now,
        lead_column=lead,
        traffic=tuple(0.5 + i / 20 if i <= now else None for i in range(COLUMNS)),
        usual=tuple(0.5 + i / 20 for i in range(COLUMNS)),
        fan=tuple((1.6, 2.4) if lead is not None and now < i <= lead + 2 else None for i in range(COLUMNS)),
        carries=tuple(1.1 if i < now else 2.2 if i < now + 4 else 3.3 for i in range(COLUMNS)),
        late=tuple(3 if i == 5 else 0 for i in range(COLUMNS)),
        begin_s=0.0,
        end_s=150.0,
    )


LANE = Lane("chat", chart(), 1.0, 2.4, 1.1, 3, 2, 1, 0, 14.2, 25.1, 2.0, 0.41, 0.958)
CALM = Lane("code", chart(38, 45), 0.4, 0.9, 0.8, 1, 1, 0, 1, None, 26.0, 0.0, 0.1, 1.0)
UNKNOWN = Lane("code", replace(chart(), carries=(None,) * COLUMNS, fan=(None,) * COLUMNS, lead_column=None))
SCENE = Scene(
    title="leadtime scales a real local Ray Serve",
    elapsed_s=42.3,
    total_s=150.0,
    page="http://127.0.0.1:8080",
    words=("One day of traffic takes 150 s.",),
    lanes=(LANE, CALM),
    decisions=(
        Decision(41.0, "chat", "2 → 3", "2.4 req/s expected within 25 s; 2 replicas carry 2.2"),
        Decision(30.0, "chat", "", "learned: a replica was RUNNING 23.4 s after it was asked for"),
    ),
    so_far="so far  31 requests, 3 got their first token later than 1 s (9.7 %) · 65 replica-seconds",
)


def drawn(scene: Scene, width: int = 96, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(view.screen(scene, width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_whole_screen() -> None:
    assert drawn(SCENE) == [
        "leadtime demo  leadtime scales a real local Ray Serve       0:42 of 2:30   http://127.0.0.1:8080",
        "One day of traffic takes 150 s.",
        "",
        "     chat  req/s; a replica carries 1.1 req/s         code  req/s; a replica carries 0.8 req/s",
        "   4                                                3",
        "                   ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌                                         ▁▂▃▄─╌╌╌",
        "                ░░░░░░░░░                ······                                ▁▂▃▃▄▅▆▇██████░░░",
        "               ─╌╌╌░░░░░░     ···········                              ▁▂▃▄▅▆▇███████████████▆▆▆",
        "                ▆▆▆▆▆▆▆▆▆·····                        ──────────────────────────────────────████",
        "     ──────────▆█████████                             ▁▂▃▄▅▆▇███████████████████████████████████",
        "   0 ▇███████████████████                           0 ██████████████████████████████████████████",
        "     0:00      ▲ now  ▲ lead               2:30       0:00                              now ▲",
        "late      3                                      late      3",
        "",
        "  deployment  now → by lead time  replicas                     lead p90  queue     KV  in time",
        "↑ chat        1.0 →  2.4 req/s    2 → 3 ██▒ 1 starting, 14 s       25 s      2   41 %   95.8 %",
        "↓ code        0.4 →  0.9 req/s    1 █░ 1 draining                  26 s      0   10 %  100.0 %",
        "",
        " 0:41  chat 2 → 3     2.4 req/s expected within 25 s; 2 replicas carry 2.2",
        " 0:30  chat           learned: a replica was RUNNING 23.4 s after it was asked for",
        "",
        "so far  31 requests, 3 got their first token later than 1 s (9.7 %) · 65 replica-seconds",
    ]


def test_what_is_unknown_is_a_question_mark_and_never_zero() -> None:
    lines = drawn(replace(SCENE, lanes=(LANE, UNKNOWN), decisions=(), so_far=""))
    assert lines[16] == "? code          ? →    ? req/s    ?                                   ?      ?      ?        ?"
    assert "code  req/s; learning" in lines[3]
    assert lines[-1] == "no change yet"


def test_a_source_that_is_down_is_said_at_the_top() -> None:
    assert drawn(replace(SCENE, alarm="node_metrics is down: no answer"))[2] == "! node_metrics is down: no answer"


@pytest.mark.parametrize("width", [70, 80, 96, 200])
def test_nothing_is_wider_than_the_terminal_nor_than_96(width: int) -> None:
    columns = view.columns_for(width, 2)

    def cut(lane: Lane) -> Lane:
        c = lane.chart
        parts = {n: getattr(c, n)[:columns] for n in ("traffic", "usual", "fan", "carries", "late")}
        return replace(lane, chart=replace(c, now_column=min(c.now_column, columns - 1), **parts))

    lines = drawn(replace(SCENE, lanes=(cut(LANE), cut(CALM))), width)
    assert max(len(line) for line in lines) <= min(width, 96)


def test_a_low_terminal_gets_a_lower_chart_and_keeps_the_figures() -> None:
    low, high = drawn(SCENE, height=24), drawn(SCENE, height=60)
    assert len(low) < 24
    assert len(low) < len(high) + 1
    assert any("lead p90" in line for line in low)


def test_a_line_of_text_tells_the_same() -> None:
    assert view.plain_line(SCENE) == (
        "0:42  chat 1.0 → 2.4 req/s, 2 running, 1 starting, queue 2  |  code 0.4 → 0.9 req/s, 1 running, 1 draining, "
        "queue 0  |  so far  31 requests, 3 got their first token later than 1 s (9.7 %) · 65 replica-seconds"
    )
    assert view.plain_head(SCENE) == [
        f"{SCENE.title}  {SCENE.page}",
        SCENE.words[0],
        "req/s: now → expected within one lead time",
    ]
    assert view.plain_decision(SCENE.decisions[0]).startswith("0:41  chat 2 → 3: 2.4 req/s expected")
    assert view.plain_decision(SCENE.decisions[1]).startswith("0:30  chat: learned: a replica was RUNNING")


@pytest.mark.parametrize(("most", "top"), [(0.0, 1.0), (0.9, 1.0), (1.0, 1.5), (2.6, 3.0), (9.0, 10.0), (12.0, 15.0)])
def test_the_axis_ends_at_a_round_number_above_everything(most: float, top: float) -> None:
    assert plot.nice_top(most) == top


def test_a_little_traffic_is_seen_and_none_is_not() -> None:
    quiet = replace(chart(), traffic=(0.001, 0.0, *(None,) * (COLUMNS - 2)), now_column=1, carries=(None,) * COLUMNS)
    bottom = plot.draw(quiet, 4)[3]
    assert [cell.char for cell in bottom[plot.GUTTER : plot.GUTTER + 2]] == ["▁", " "]


def test_forecast_and_past_have_kinds_of_their_own() -> None:
    kinds = [{cell.kind for cell in column} for column in zip(*plot.draw(chart(), 6)[:6], strict=True)]
    assert "traffic" in kinds[plot.GUTTER + 3]
    assert {"expected", "band"} <= kinds[plot.GUTTER + 17]
    assert "usual" in kinds[plot.GUTTER + 30]


def test_without_a_terminal_a_pass_begins_with_what_one_is_looking_at() -> None:
    out = io.StringIO()
    screen = PlainScreen(out, 2, clock=lambda: 0.0)
    for _ in range(2):
        screen.scene(SCENE, ())
    assert out.getvalue().splitlines() == [*view.plain_head(SCENE), view.plain_line(SCENE)]
    screen.end_pass()
    screen.scene(SCENE, ())
    assert out.getvalue().count(SCENE.title) == 2
