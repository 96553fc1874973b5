"""The kill switch that lives in the cluster: a ConfigMap that every controller reads each tick, and annotations.

ConfigMap data: `paused: "true"` pauses everything; `deployments` lists keys or patterns, one a line. It can be pulled
with kubectl when nothing else works. What cannot be understood counts as paused, and so does a switch that could never
be read; one that cannot be read *now* stays as it was. Not for the switch in the controller's own state: pause.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from autoscaler.errors import Conflict, LeadtimeError, NotFound
from autoscaler.fields import mapping
from autoscaler.kube.resources import CONFIG_MAPS, ClusterApi, Object, PatchOperation
from autoscaler.model import PauseState
from autoscaler.ports import Reading
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

    def state(self, keys: Iterable[DeploymentKey]) -> PauseState:
        """What it means for the deployments that there are."""
        return PauseState(self.everything, frozenset(key for key in keys if self.covers(key)))

    def covers(self, key: DeploymentKey) -> bool:
        paused = self.everything or (key.namespace, key.service) in self.services
        return paused or any(key.matches(pattern) for pattern in self.patterns)


def parse_pause(config_map: Object) -> ClusterPause:
    """The ConfigMap's part of the switch."""
    data = mapping(config_map, "data")
    said = str(data.get(PAUSED, "false")).strip().lower()
    problem = "" if said in ("true", "false", "") else f"{PAUSED}: {said[:40]!r} is neither true nor false"
    patterns: list[str] = []
    for line in str(data.get(DEPLOYMENTS, "")).splitlines():
        pattern = line.partition("#")[0].strip()
        if not pattern:
            continue
        if len(pattern.split("/")) not in (2, 4):
            problem = f"{DEPLOYMENTS}: {pattern[:80]!r} is no APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT"
            continue
        patterns.append(pattern)
    return ClusterPause(said == "true" or bool(problem), tuple(patterns), problem=problem)


class KubernetesPauseSource:
    """Reads the ConfigMap each tick; `data` of its readings is `Paused`. A failed read leaves the last one in force."""

    name = "kubernetes-pause"

    def __init__(
        self,
        api: ClusterApi,
        namespace: str,
        config_map: str,
        keys: Callable[[], Iterable[DeploymentKey]],
        timeout_s: float = 3.0,
    ) -> None:
        """`keys`: all deployments that there are."""
        self._api, self._namespace, self._config_map = api, namespace, config_map
        self._keys, self._timeout_s = keys, timeout_s
        self._read_once = False

    async def read(self, now_s: float) -> Reading:
        where = f"ConfigMap {self._namespace}/{self._config_map}"
        try:
            pause = parse_pause(
                await self._api.get(CONFIG_MAPS, self._namespace, self._config_map, timeout_s=self._timeout_s)
            )
        except NotFound:
            pause = ClusterPause()  # nobody has made it, so nobody has pulled it
        except LeadtimeError as error:
            if self._read_once:
                return Reading(self.name, False, None, None, f"{where}: the last value holds: {error}")
            why = f"{where} could not be read yet: until it is, everything counts as paused: {error}"
            return Reading(self.name, True, now_s, Paused(PauseState(everything=True)), why)
        self._read_once = True
        why = f"{where}: {pause.problem}: everything is paused" if pause.problem else ""
        return Reading(self.name, True, now_s, Paused(pause.state(self._keys())), why)


class AnnotationPauseSource:
    """`leadtime.dev/paused` on services, from the objects that are watched anyway."""

    name = "kubernetes-annotations"

    def __init__(
        self, services: Callable[[], frozenset[tuple[str, str]]], keys: Callable[[], Iterable[DeploymentKey]]
    ) -> None:
        """`services`: (namespace, name) of those that are paused; `keys`: all deployments that there are."""
        self._services, self._keys = services, keys

    async def read(self, now_s: float) -> Reading:
        pause = ClusterPause(services=self._services())
        return Reading(self.name, True, now_s, Paused(pause.state(self._keys())))


async def set_paused(
    api: ClusterApi, namespace: str, config_map: str, pattern: str | None, paused: bool, timeout_s: float = 5.0
) -> ClusterPause:
    """Pause or resume one key or pattern, or everything (None), for all controllers. Errors: as ClusterApi.

    Resuming everything also resumes what was paused one by one. A change of somebody else's in between is not lost.
    """
    for attempt in range(_ATTEMPTS):
        found = await api.get(CONFIG_MAPS, namespace, config_map, timeout_s=timeout_s)
        now = parse_pause(found)
        if pattern is None:
            wanted = ClusterPause(paused, now.patterns if paused else ())
        else:
            others = tuple(p for p in now.patterns if p != pattern)
            wanted = ClusterPause(now.everything, (*others, pattern) if paused else others)
        data = {
            **mapping(found, "data"),
            PAUSED: "true" if wanted.everything else "false",
            DEPLOYMENTS: "\n".join(wanted.patterns),
        }
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
