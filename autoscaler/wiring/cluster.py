"""What the controller has of Kubernetes, by its settings; the library is loaded only where a cluster is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoscaler.common.errors import ConfigError
from autoscaler.common.extras import missing

if TYPE_CHECKING:
    from autoscaler.api.telemetry import Telemetry
    from autoscaler.core.audit import Audit
    from autoscaler.settings.model import Config
    from autoscaler.sources.kubernetes.pause import SwitchMemory
    from autoscaler.wiring.kubernetes import KubernetesParts


def cluster_parts(
    config: Config,
    telemetry: Telemetry,
    elect: bool,
    lease_suffix: str = "",
    memory: SwitchMemory | None = None,
    audit: Audit | None = None,
) -> KubernetesParts | None:
    """What the controller has of Kubernetes. Errors: ConfigError when no cluster can be reached by these settings."""
    block = config.kubernetes
    if block is None:
        return None
    try:
        from autoscaler.kubernetes.leader import LeaseSettings
        from autoscaler.wiring.kubernetes import KubernetesSettings, connected_parts, process_identity

        settings = KubernetesSettings(
            watch_namespaces=block.watch_namespaces,
            namespace=own_place(config),
            name=block.name,
            lease_suffix=lease_suffix,
            tokens=block.tokens,
            reading=config.reading,
            nodes=block.nodes,
            autoscalers=block.autoscalers,
            placeholders=any(pool.way == "placeholder" for pool in config.prewarm),
            events=block.events and elect,
            timeout_s=block.timeout_s,
        )
        lease = None
        if config.election is not None and elect:
            lease_s, deadline_s = config.election.lease_s, config.election.renew_deadline_s
            lease = LeaseSettings(process_identity(), lease_s, deadline_s, min(2.0, deadline_s / 5))
        return connected_parts(
            settings, config.controller, telemetry, lease, kubeconfig=block.kubeconfig, context=block.context,
            memory=memory, audit=audit,
        )  # fmt: skip
    except ImportError as error:
        raise ConfigError(f"kubernetes: {missing('kube', error)}") from None


def own_place(config: Config) -> str:
    """Where the lease, the kill switch and the chart's objects are."""
    if config.kubernetes is None:
        return "default"
    from autoscaler.wiring.kubernetes import own_namespace

    return config.kubernetes.namespace or own_namespace()
