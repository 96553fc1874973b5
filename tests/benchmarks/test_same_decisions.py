"""What counts as a changed decision: numbers, guards and terms do, words do not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.same_decisions import first_difference, scenarios

TICK: dict[str, Any] = {
    "kind": "tick",
    "tick": 1,
    "now_s": 10.0,
    "plan": {"deployments": {"chat/llm": 3}, "observed": {"chat/llm": 2}, "pools": {"h100": 2}},
    "proposals": {"chat/llm": 4},
    "forecast": {"chat/llm": {"forecaster": "mixture", "quantiles": [[1.0, 2.0]], "why": "young"}},
    "lead_times": {"chat/llm": {"new_node": 200.0}},
    "capacity_rps": {"chat/llm": 2.5},
    "guards": [{"name": "max_replicas", "deployment": "chat/llm", "from": 4, "to": 3, "why": "replicas.max is 3"}],
    "reasons": {"chat/llm": {"sentence": "2 -> 3", "terms": [{"name": "forecast", "wants": 4, "why": "soon"}]}},
}


def journal(path: Path, *ticks: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in ({"kind": "checkpoint"}, *ticks)))
    return path


def changed(where: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    tick = copy.deepcopy(TICK)
    at: Any = tick
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = value
    return tick


@pytest.mark.parametrize(
    "where",
    [
        ("plan", "deployments", "chat/llm"),
        ("plan", "pools", "h100"),
        ("proposals", "chat/llm"),
        ("capacity_rps", "chat/llm"),
        ("lead_times", "chat/llm", "new_node"),
        ("forecast", "chat/llm", "quantiles", 0, 1),
        ("guards", 0, "name"),
        ("guards", 0, "to"),
        ("reasons", "chat/llm", "terms", 0, "wants"),
    ],
)
def test_a_number_or_a_name_that_changes_is_found(tmp_path: Path, where: tuple[str | int, ...]) -> None:
    old, new = journal(tmp_path / "old", TICK, TICK), journal(tmp_path / "new", TICK, changed(where, 7))
    count, words = first_difference(old, new)
    assert count == 1
    assert "7" in words


@pytest.mark.parametrize(
    "where",
    [
        ("guards", 0, "why"),
        ("reasons", "chat/llm", "sentence"),
        ("reasons", "chat/llm", "terms", 0, "why"),
        ("forecast", "chat/llm", "why"),
    ],
)
def test_words_may_change(tmp_path: Path, where: tuple[str | int, ...]) -> None:
    old, new = journal(tmp_path / "old", TICK), journal(tmp_path / "new", changed(where, "other words"))
    assert first_difference(old, new) == (1, "")


def test_a_missing_tick_is_a_difference(tmp_path: Path) -> None:
    old, new = journal(tmp_path / "old", TICK, TICK), journal(tmp_path / "new", TICK)
    assert first_difference(old, new) == (1, "tick 2: only one of them has it")


def test_both_fleets_and_every_preset_are_played(tmp_path: Path) -> None:
    names = dict(scenarios(tmp_path, 300))
    assert {"ten", "hundred", "quickstart", "two-tenants"} <= names.keys()
