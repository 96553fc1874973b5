"""The pause switch: paused deployments keep their levels. It is saved before it takes effect.

A switch that cannot be read back counts as paused, so that a restart never resumes what a person paused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from autoscaler.common.errors import LeadtimeError, StateError
from autoscaler.core.audit import Audit
from autoscaler.core.types import PauseState
from policies.base import DeploymentKey


class PauseStore(Protocol):
    """Storage of the switch. Both methods raise StateError on failure."""

    def load_pause(self) -> PauseState: ...

    def save_pause(self, pause: PauseState) -> None: ...


class ClusterSwitch(Protocol):
    """The switch shared by all controllers of a release."""

    async def set(self, key: DeploymentKey | None, paused: bool) -> PauseState:
        """Errors: LeadtimeError; then nothing has changed."""
        ...

    def command(self, key: DeploymentKey | None, paused: bool) -> str:
        """Command that a person types instead."""
        ...


class NotPulled(LeadtimeError):
    """The cluster's switch could not be set, so nothing is paused or resumed. The message has the command to type
    instead.
    """


class PauseSwitch:
    """`state` is what holds now; `notice` says what was unexpected at the start, if anything."""

    def __init__(self, store: PauseStore | None, cluster: ClusterSwitch | None = None) -> None:
        """`store` None: the switch is lost at the end of the process. `cluster` None: there is no shared switch."""
        self._store = store
        self.cluster = cluster
        self.audit: Audit | None = None
        """Where changes of the switch are recorded; None: nowhere."""
        self.notice = ""
        self.pulls = 0
        """Number of changes made here. A decision from before the last change is not carried out."""
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
        self.pulls += 1
        return wanted

    async def pull(self, key: DeploymentKey | None, paused: bool, who: Mapping[str, str] | None = None) -> PauseState:
        """`set` for every controller of the release, if there may be several: pausing one pod alone would not stop the
        others.

        `who` asked for it, in the audit's form. Errors: NotPulled, StateError; then nothing has changed.
        """
        before = self.state
        after = await self._pull(key, paused)
        if self.audit is not None:
            known = before if self.cluster is None else None  # the cluster's is told by whoever reads it
            self.audit.note("pause", "everything" if key is None else key.full, who or {}, _plain(known), _plain(after))
        return after

    async def _pull(self, key: DeploymentKey | None, paused: bool) -> PauseState:
        if self.cluster is None:
            return self.set(key, paused)
        try:
            found = await self.cluster.set(key, paused)
        except LeadtimeError as error:
            done = "paused" if paused else "resumed"
            words = f"nothing is {done}: the cluster's switch cannot be written from here ({error})"
            raise NotPulled(f"{words}; use: {self.cluster.command(key, paused)}") from None
        self.pulls += 1
        own = self.state if paused else self.set(key, False)
        return PauseState(found.everything or own.everything, found.deployments | own.deployments)


def _plain(state: PauseState | None) -> dict[str, object] | None:
    if state is None:
        return None
    return {"everything": state.everything, "deployments": sorted(str(key) for key in state.deployments)}
