"""Progress is shown on a terminal, and nothing at all elsewhere."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from autoscaler.cli.progress import at_work, share_done
from autoscaler.cli.text import loudness


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_work_that_cannot_say_how_much_is_done_shows_what_it_is_and_for_how_long() -> None:
    with redirect_stderr(Terminal()) as seen, at_work("fit", "engine steps of vllm.log"):
        pass
    assert "fit engine steps of vllm.log" in seen.getvalue()
    assert "0:00:00" in seen.getvalue()


def test_a_share_done_is_shown_in_per_cent() -> None:
    with redirect_stderr(Terminal()) as seen, share_done("forecast", "rates.csv") as progress:
        assert progress is not None
        progress(0.25)
    assert "forecast rates.csv" in seen.getvalue()
    assert "25%" in seen.getvalue()


def test_where_nobody_watches_nothing_is_written() -> None:
    with redirect_stderr(io.StringIO()) as seen, at_work("fit", "steps"), share_done("forecast", "rates") as progress:
        assert progress is None
    assert seen.getvalue() == ""


def test_on_a_terminal_quiet_shows_nothing_either() -> None:
    loudness.choose(quiet=True, verbose=False)
    try:
        with redirect_stderr(Terminal()) as seen, at_work("fit", "steps"), share_done("forecast", "rates") as progress:
            assert progress is None
    finally:
        loudness.choose(quiet=False, verbose=False)
    assert seen.getvalue() == ""
