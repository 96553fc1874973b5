"""Calling a benchmark as from a command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def call(main: Callable[[], object], monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    """The status that it ends with."""
    monkeypatch.setattr("sys.argv", [main.__module__, *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code
