"""What reading one service may cost at most. Pure: the readers keep to it, the settings set it (`reading`).

The defaults leave room for a service of some 400 replicas on 200 nodes, and bound what a hostile one costs to less than
64 MB of memory and a fraction of a tick of processor time.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler.clients.addresses import AllowList


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """Of one service, unless said otherwise. Bytes count after decompression."""

    allow: AllowList = AllowList()
    """What may be connected to besides a Ray cluster's own head Service and nodes."""
    answer_bytes: int = 4 * 1024 * 1024
    """Of one answer of a dashboard."""
    answer_values: int = 200_000
    """Values in one JSON answer."""
    deployments: int = 200
    replicas: int = 5_000
    targets: int = 1_000
    """Metric pages that a head may list."""
    round_bytes: int = 256 * 1024 * 1024
    """Of all metric pages of one round. A line counts as 40 bytes at least, since lines are what costs time."""
    series: int = 30_000
    """Wanted lines on all metric pages of one round."""
    series_bytes: int = 12 * 1024 * 1024
    """Bytes of those lines."""
    name_chars: int = 253
    """Characters of a name or label."""
    namespace_services: int = 500
    """Found services of one namespace that are read."""
    namespace_deployments: int = 500
    """Of all found services of one namespace together."""
    namespace_forecasters: int = 40
    """Deployments of one namespace with a forecaster, which is most of what one costs: 0.8 MB."""
    namespace_series: int = 200_000
    """Of all found services of one namespace together."""
