"""Text of others on a terminal, in a log and in a spreadsheet."""

from __future__ import annotations

import ast
import csv
import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.cli.logs import set_up_logs
from autoscaler.cli.text import console
from autoscaler.common.escaping import csv_cell, for_terminal, in_json, no_formula

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "a\x1b[2J\x9b1A\u202eb\r\nok\x00\u2066\u200b\u2028\ud800"
WAYS_AROUND = {"print", "sys.stdout.write", "sys.stderr.write", "rich.print", "Console", "traceback.print_exception"}
MOVES_THE_SCREEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_a_space_that_does_not_break_is_a_space() -> None:
    assert for_terminal("99.2\N{NO-BREAK SPACE}%\x07") == "99.2\N{NO-BREAK SPACE}%\\x07"
    assert in_json('"99.2\N{NO-BREAK SPACE}%"') == '"99.2\N{NO-BREAK SPACE}%"'


@given(st.text())
@example(HOSTILE)
def test_no_text_moves_the_cursor_or_the_reading_direction(text: str) -> None:
    shown = for_terminal(text)
    assert not {unicodedata.category(c) for c in shown} & MOVES_THE_SCREEN
    shown.encode("utf-8")


def test_what_can_be_read_stays_as_it_is() -> None:
    assert for_terminal("chat/LLMServer:llama-3.1 → 4 %, 東京, é") == "chat/LLMServer:llama-3.1 → 4 %, 東京, é"
    assert for_terminal("one\ttwo\nthree\x1b", keep="\n\t") == "one\ttwo\nthree\\x1b"


@given(st.text(), st.sampled_from([None, 1]))
@example(HOSTILE, None)
@example("\U000e0041 tag", 1)
def test_escaped_json_reads_back_as_the_same_value(text: str, indent: int | None) -> None:
    shown = in_json(json.dumps({text: [text]}, ensure_ascii=False, indent=indent))
    assert json.loads(shown) == {text: [text]}
    assert not {unicodedata.category(c) for c in shown.replace("\n", "")} & MOVES_THE_SCREEN


@given(st.text())
@example('=HYPERLINK("http://x","y")')
@example("@SUM(A1)")
@example("\tx")
@example("-2+3")
@example("a,b")
@example("＝1+1")
def test_a_csv_cell_is_one_cell_and_no_formula(text: str) -> None:
    line = f"{csv_cell(text)},1\n"
    ((cell, number),) = list(csv.reader(io.StringIO(line, newline="")))
    assert (cell.removeprefix("'") if cell != text else cell, number) == (text, "1")
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))


def test_names_stay_names_in_a_csv_cell() -> None:
    assert [csv_cell("chat/llm"), no_formula("2 x"), csv_cell("'quoted'")] == ["chat/llm", "2 x", "'quoted'"]


def test_a_table_shows_a_hostile_name_escaped_and_not_as_markup() -> None:
    from rich.table import Table

    out = io.StringIO()
    table = Table(title=f"title {HOSTILE}")
    table.add_column("name")
    table.add_row("[link=http://x]\x1b]8;;http://y\x07name[/link]")
    screen = console(file=out, width=200)
    screen.print(table)
    screen.print(f"note \x1b[8m{HOSTILE}")
    shown = out.getvalue()
    assert not {unicodedata.category(c) for c in shown.replace("\n", "")} & MOVES_THE_SCREEN
    assert "[link=http://x]\\x1b]8;;http://y\\x07name[/link]" in shown


def _ways_around(path: Path) -> list[str]:
    """Where a file of the command line writes to a terminal without the functions of cli/text.py."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in (
            "print",
            "sys.stdout.write",
            "sys.stderr.write",
            "rich.print",
            "Console",
            "traceback.print_exception",
        ):
            found.append(f"{path.name}:{node.lineno}: {called}")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "autoscaler" / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_every_command_prints_through_the_one_way_out(path: Path) -> None:
    assert path.name == "text.py" or not _ways_around(path)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_line_is_one_line_whatever_it_names(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    try:
        set_up_logs(as_json)
        logging.getLogger("leadtime").warning("source %s is down", f"x\n2026-01-01T00:00:00Z forged {HOSTILE}")
    finally:
        root.handlers[:] = before
    (line,) = capsys.readouterr().err.splitlines()
    assert not {unicodedata.category(c) for c in line} & MOVES_THE_SCREEN
    if as_json:
        assert json.loads(line)["msg"].endswith(f"{HOSTILE} is down")
