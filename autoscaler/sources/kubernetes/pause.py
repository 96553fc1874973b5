"""The kill switch that lives in the cluster: a ConfigMap that every controller reads each tick, and annotations.

ConfigMap data: `paused: "true"` pauses everything; `deployments` lists keys or patterns, one a line. It can be pulled
with kubectl when nothing else works. What cannot be understood counts as paused, and so does a switch that could never
be read; one that cannot be read *now*, or is gone, stays as it was. Not for the controller's own switch: pause.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from autoscaler.common.errors import Conflict, LeadtimeError, NotFound, StateError
from autoscaler.common.fields import mapping
from autoscaler.core.ports import Reading, Source
from autoscaler.core.types import PauseState
from autoscaler.kubernetes.resources import CONFIG_MAPS, ClusterApi, Object, PatchOperation
from autoscaler.sources.readings import Paused
from policies.base import DeploymentKey

PAUSED = "paused"
DEPLOYMENTS = "deployments"
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class ClusterPause:
    """The switch as it stands in the cluster. `patterns` are of keys, in two parts or four."""

    everything: bool = False
    patterns: tuple[str, ...] = ()
    services: frozenset[tuple[str, str]] = frozenset()
    """(namespace, name): paused by annotation."""
    problem: str = ""

    @property
    def said(self) -> dict[str, Any]:
        """In plain data."""
        return {"everything": self.everything, "deployments": list(self.patterns)}

    def state(self, keys: Iterable[DeploymentKey]) -> PauseState:
        """What it means for the deployments that there are."""
        return PauseState(self.everything, frozenset(key for key in keys if self.covers(key)))

    def covers(self, key: DeploymentKey) -> bool:
        paused = self.everything or (key.namespace, key.service) in self.services
        return paused or any(key.matches(pattern) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class SaidPause:
    """What the ConfigMap says; None: it says nothing of that, and what was last known of it holds."""

    everything: bool | None = None
    patterns: tuple[str, ...] | None = None
    problem: str = ""

    def after(self, last: ClusterPause) -> ClusterPause:
        """The switch, where `last` was known before. Only a plain `paused: "false"` takes a pause back."""
        patterns = self.patterns
        if patterns is None:
            patterns = () if self.everything is False else last.patterns
        everything = last.everything if self.everything is None else self.everything
        return ClusterPause(everything or bool(self.problem), patterns, problem=self.problem)


def parse_pause(config_map: Object) -> SaidPause:
    """The ConfigMap's part of the switch."""
    data = mapping(config_map, "data")
    said = str(data.get(PAUSED, "")).strip().lower()
    problem = "" if said in ("true", "false", "") else f"{PAUSED}: {said[:40]!r} is neither true nor false"
    patterns: list[str] = []
    for line in str(data.get(DEPLOYMENTS, "")).splitlines():
        pattern = line.partition("#")[0].strip()
        if not pattern:
            continue
        parts = pattern.split("/")
        if len(parts) not in (2, 4) or not all(parts):
            problem = f"{DEPLOYMENTS}: {pattern[:80]!r} is no APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT"
            continue
        patterns.append(pattern)
    everything = {"true": True, "false": False}.get(said)
    return SaidPause(everything, tuple(patterns) if DEPLOYMENTS in data else None, problem)


class SwitchMemory(Protocol):
    """Keeps the switch as it was last read, over restarts; both raise StateError when they cannot."""

    def load_cluster_switch(self) -> tuple[bool, tuple[str, ...]] | None:
        """(everything, patterns); None: it was never read."""
        ...

    def save_cluster_switch(self, everything: bool, patterns: tuple[str, ...]) -> None: ...


class KubernetesPauseSource(Source):
    """Reads the ConfigMap each tick; `data` of its readings is `Paused`. A failed read leaves the last one in force,
    and so does a ConfigMap that was deleted or emptied: only what says so takes a pause back."""

    name = "kubernetes-pause"

    def __init__(
        self,
        api: ClusterApi,
        namespace: str,
        config_map: str,
        keys: Callable[[], Iterable[DeploymentKey]],
        timeout_s: float = 3.0,
        memory: SwitchMemory | None = None,
        told: Callable[[ClusterPause, ClusterPause, Object], None] = lambda before, now, config_map: None,
    ) -> None:
        """`keys`: all deployments that there are. `memory` None: what was last known ends with the process.

        `told` hears of every change that was read: the switch before it, the switch now, and the ConfigMap.
        """
        self._api, self._namespace, self._config_map = api, namespace, config_map
        self._keys, self._timeout_s, self._memory, self._told = keys, timeout_s, memory, told
        self._read_once = False
        self._unsaved = ""
        self._known = False
        """Some ConfigMap has been read, in this life or one before."""
        self._last = ClusterPause()
        try:
            saved = memory.load_cluster_switch() if memory is not None else None
        except StateError as error:
            saved, self._unsaved = (True, ()), f"{error}: everything counts as paused until the switch says otherwise"
        if saved is not None:
            self._known, self._last = True, ClusterPause(*saved)

    async def read(self, now_s: float) -> Reading:
        where = f"ConfigMap {self._namespace}/{self._config_map}"
        try:
            found = await self._api.get(CONFIG_MAPS, self._namespace, self._config_map, timeout_s=self._timeout_s)
        except NotFound:
            return self._gone(where, now_s)
        except LeadtimeError as error:
            if self._read_once:
                return Reading(self.name, False, None, None, f"{where}: the last value holds: {error}")
            why = f"{where} could not be read yet: until it is, everything counts as paused: {error}"
            return Reading(self.name, True, now_s, Paused(PauseState(everything=True)), why)
        said = parse_pause(found)
        self._take(said.after(self._last), found)
        why = f"{where}: {said.problem}: everything is paused" if said.problem else self._unsaved
        if not why and said.everything is None and self._last.everything:
            why = f"{where} says nothing of {PAUSED}: the last value holds, everything is paused"
        return self._reading(now_s, why)

    def _gone(self, where: str, now_s: float) -> Reading:
        if not self._known:
            self._read_once = True
            return self._reading(now_s, "")  # nobody has made it, so nobody has pulled it
        paused = "everything" if self._last.everything else ", ".join(self._last.patterns) or "nothing"
        mend = f'`helm upgrade` makes it again, and {PAUSED}: "false" in it takes a pause back'
        self._read_once = True
        return self._reading(now_s, f"{where} is gone: the last value holds (paused: {paused}); {mend}")

    def _take(self, now: ClusterPause, config_map: Object) -> None:
        before, self._last, self._read_once = self._last, now, True
        if (before.everything, before.patterns) != (now.everything, now.patterns):
            self._told(before, now, config_map)
        elif self._known and not self._unsaved:
            return
        self._known = True
        if self._memory is not None:
            try:
                self._memory.save_cluster_switch(now.everything, now.patterns)
                self._unsaved = ""
            except StateError as error:
                self._unsaved = f"the switch cannot be remembered over a restart: {error}"

    def _reading(self, now_s: float, why: str) -> Reading:
        return Reading(self.name, True, now_s, Paused(self._last.state(self._keys())), why)


class AnnotationPauseSource(Source):
    """`leadtime.dev/paused` on services, and `paused` of Autoscalers, from the objects that are watched anyway."""

    name = "kubernetes-annotations"

    def __init__(
        self,
        services: Callable[[], frozenset[tuple[str, str]]],
        keys: Callable[[], Iterable[DeploymentKey]],
        patterns: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`services`: (namespace, name) of those that are paused; `keys`: all deployments that there are;
        `patterns`: of keys that Autoscalers pause."""
        self._services, self._keys, self._patterns = services, keys, patterns

    async def read(self, now_s: float) -> Reading:
        pause = ClusterPause(patterns=self._patterns(), services=self._services())
        return Reading(self.name, True, now_s, Paused(pause.state(self._keys())))


class ConfigMapSwitch:
    """The switch as this controller may pull it, for all pods: with the rights of its own account."""

    def __init__(self, api: ClusterApi, namespace: str, release: str) -> None:
        self._api, self._namespace, self._release = api, namespace, release

    async def set(self, key: DeploymentKey | None, paused: bool) -> PauseState:
        """Errors: as ClusterApi; then nothing has changed."""
        pattern = None if key is None else key.full
        found = await set_paused(self._api, self._namespace, f"{self._release}-pause", pattern, paused)
        keys = [DeploymentKey.parse(one) for one in found.patterns]
        return PauseState(found.everything, frozenset(keys))

    def command(self, key: DeploymentKey | None, paused: bool) -> str:
        """What a person types instead."""
        words = ["leadtime", "pause" if paused else "resume", *([] if key is None else [shlex.quote(key.full)])]
        return " ".join([*words, "--cluster", f"{self._namespace}/{self._release}"])


async def set_paused(
    api: ClusterApi, namespace: str, config_map: str, pattern: str | None, paused: bool, timeout_s: float = 5.0
) -> ClusterPause:
    """Pause or resume one key or pattern, or everything (None), for all controllers. Errors: as ClusterApi.

    Resuming everything also resumes what was paused one by one. A change of somebody else's in between is not lost, and
    what the ConfigMap does not say of everything stays unsaid when it is about one key.
    """
    for attempt in range(_ATTEMPTS):
        found = await api.get(CONFIG_MAPS, namespace, config_map, timeout_s=timeout_s)
        said = parse_pause(found)
        now = said.after(ClusterPause())
        data = dict(mapping(found, "data"))
        if pattern is None:
            wanted = ClusterPause(paused, now.patterns if paused else ())
            data[PAUSED] = "true" if paused else "false"
        else:
            others = tuple(p for p in now.patterns if p != pattern)
            wanted = ClusterPause(now.everything, (*others, pattern) if paused else others)
            if said.problem:  # what nobody understands pauses everything: then that is said plainly
                data[PAUSED] = "true"
        data[DEPLOYMENTS] = "\n".join(wanted.patterns)
        operations = [
            PatchOperation("test", "/metadata/resourceVersion", found["metadata"]["resourceVersion"]),
            PatchOperation("add", "/data", data),
        ]
        try:
            await api.patch(CONFIG_MAPS, namespace, config_map, operations, timeout_s=timeout_s)
            return wanted
        except LeadtimeError:
            again = await api.get(CONFIG_MAPS, namespace, config_map, timeout_s=timeout_s)
            unchanged = again["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]
            if unchanged or attempt == _ATTEMPTS - 1:
                raise
    raise Conflict(f"ConfigMap {namespace}/{config_map}: it changes all the time")
