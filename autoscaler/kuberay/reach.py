"""How a found Ray cluster may be reached: at which address, with which token, and where its metric pages may be.

All of it is made of what the owner of a namespace wrote, so all of it stays inside that namespace: its own head
Service, its own pods, its own Secrets, and what the settings allow besides. Not for reading (fleet.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from autoscaler.clients.addresses import TargetRules
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.clients.resolving import Resolve, system_resolve
from autoscaler.common.errors import SourceError
from autoscaler.kuberay.tokens import Tokens
from autoscaler.sources.kuberay.services import KubeService, ServeCluster


@dataclass(frozen=True, slots=True)
class Reach:
    """`pods`: addresses of the pods of (namespace, Ray cluster), None while not known; no such function: any address
    of the network. `dashboard`: where it is, if not where its objects say."""

    tokens: Tokens = field(default_factory=Tokens)
    limits: ReadingLimits = ReadingLimits()
    pods: Callable[[str, str], frozenset[str] | None] | None = None
    dashboard: Callable[[ServeCluster], str] = lambda cluster: cluster.dashboard
    resolve: Resolve = system_resolve
    timeout_s: float = 4.0

    def client(self, service: KubeService, cluster: ServeCluster) -> DashboardClient:
        """Errors: LeadtimeError for a cluster that is not connected to, with the reason."""
        if cluster.refused is not None:
            raise SourceError(cluster.refused)
        return DashboardClient(
            self.dashboard(cluster),
            self.tokens.file(service.namespace, cluster.auth_secret),
            timeout_s=self.timeout_s,
            only=replace(cluster.head, allow=self.limits.allow) if self._as_found(cluster) else None,
            token_folder=self.tokens.under(service.namespace, cluster.auth_secret),
            resolve=self.resolve,
            limits=self.limits,
        )

    def targets(self, service: KubeService, cluster: ServeCluster, client: DashboardClient) -> TargetRules:
        pods = self.pods
        if pods is None or not self._as_found(cluster):
            return TargetRules(self.limits.allow, client.loopback)
        return TargetRules(self.limits.allow, client.loopback, lambda: pods(service.namespace, cluster.name))

    def _as_found(self, cluster: ServeCluster) -> bool:
        """It is where its objects say."""
        return self.dashboard(cluster) == cluster.dashboard
