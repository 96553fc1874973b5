"""The pods of Ray clusters: which addresses a Ray head may send leadtime to. Watched, never polled.

`PodView` (nodes.py) says what else is known of them; where node pools are watched too, one watch serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autoscaler.kubernetes.resources import PODS, ClusterApi
from autoscaler.sources.kubernetes.cache import NOT_READ, ObjectCache, WatchTimes
from autoscaler.sources.kubernetes.nodes import PodView, parse_pod

RAY_PODS = "ray.io/node-type"
"""The label of all pods that KubeRay makes."""


class RayPods:
    """Heads and workers of the watched namespaces."""

    def __init__(
        self,
        api: ClusterApi,
        namespaces: Sequence[str],
        *,
        now_s: Callable[[], float],
        times: WatchTimes | None = None,
    ) -> None:
        """`namespaces` empty: all of them."""
        self._changed = True
        places: list[str | None] = [*namespaces] or [None]
        self._by_cluster: dict[tuple[str, str], frozenset[str]] = {}
        self.caches: list[ObjectCache[PodView]] = [
            ObjectCache(
                api, PODS, place, parse_pod, now_s=now_s, labels=RAY_PODS, times=times, changed=self._mark,
            )
            for place in places
        ]  # fmt: skip

    def _mark(self) -> None:
        self._changed = True

    @property
    def listed(self) -> bool:
        """All of them were seen once."""
        return all(cache.synced for cache in self.caches)

    @property
    def why(self) -> str:
        """Why they are not followed now; empty when they are, and before the first look."""
        return next((cache.why for cache in self.caches if cache.why not in ("", NOT_READ)), "")

    def addresses(self, namespace: str, cluster: str) -> frozenset[str] | None:
        """Of the pods of one Ray cluster; None while pods could not be listed."""
        cache = next((one for one in self.caches if one.namespace in (None, namespace)), None)
        if cache is None or not cache.synced:
            return None
        if self._changed:
            self._changed = False
            found: dict[tuple[str, str], set[str]] = {}
            for one in self.caches:
                for pod in one.items.values():
                    if not pod.over:
                        found.setdefault((pod.namespace, pod.cluster), set()).update(pod.addresses)
            self._by_cluster = {key: frozenset(addresses) for key, addresses in found.items()}
        return self._by_cluster.get((namespace, cluster), frozenset())
