"""The kill switch: paused deployments keep what they have. It is persisted before it takes effect.

What cannot be read back counts as paused: whoever pulled the switch must not be surprised by a restart.
"""

from __future__ import annotations

from typing import Protocol

from autoscaler.errors import StateError
from autoscaler.model import PauseState
from policies.base import DeploymentKey


class PauseStore(Protocol):
    """Where the switch is kept; both raise StateError when they cannot."""

    def load_pause(self) -> PauseState: ...

    def save_pause(self, pause: PauseState) -> None: ...


class PauseSwitch:
    """`state` is what holds now; `notice` says what was odd at the start, if anything was."""

    def __init__(self, store: PauseStore | None) -> None:
        """`store` None: the switch is forgotten at the end of the process."""
        self._store = store
        self.notice = ""
        try:
            self.state = store.load_pause() if store is not None else PauseState()
        except StateError as error:
            self.state = PauseState(everything=True)
            self.notice = f"{error}; everything counts as paused: resume it to go on"

    def set(self, key: DeploymentKey | None, paused: bool) -> PauseState:
        """Pause or resume one deployment, or everything (None). Errors: StateError; then nothing has changed.

        Resuming everything also resumes the deployments that were paused one by one.
        """
        if key is None:
            wanted = PauseState(paused, self.state.deployments if paused else frozenset())
        else:
            others = self.state.deployments - {key}
            wanted = PauseState(self.state.everything, others | {key} if paused else others)
        if self._store is not None:
            self._store.save_pause(wanted)
        self.state = wanted
        return wanted
