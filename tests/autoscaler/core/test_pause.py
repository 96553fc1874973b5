"""The kill switch: persisted before it takes effect, and on when in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.common.errors import StateError
from autoscaler.core.pause import PauseSwitch
from autoscaler.core.types import PauseState
from autoscaler.runtime.store import StateStore
from policies.base import DeploymentKey

LLM, OTHER = DeploymentKey.parse("chat/llm"), DeploymentKey.parse("chat/other")


def test_a_deployment_and_everything_are_paused_and_resumed() -> None:
    switch = PauseSwitch(None)
    assert switch.set(LLM, True).covers(LLM)
    assert not switch.state.covers(OTHER)
    assert switch.set(None, True).covers(OTHER)
    assert switch.set(LLM, False) == PauseState(True, frozenset())
    switch.set(OTHER, True)
    assert switch.set(None, False) == PauseState()


def test_it_survives_a_restart(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s.sqlite")
    PauseSwitch(store).set(LLM, True)
    assert PauseSwitch(store).state == PauseState(False, frozenset({LLM}))


def test_what_cannot_be_read_counts_as_paused(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s.sqlite")
    store._save("pause", b"{nonsense")
    switch = PauseSwitch(store)
    assert switch.state.covers(LLM)
    assert "counts as paused" in switch.notice


def test_what_cannot_be_saved_does_not_take_effect(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "s.sqlite")
    switch = PauseSwitch(store)
    store.close()
    with pytest.raises(StateError):
        switch.set(LLM, True)
    assert switch.state == PauseState()
