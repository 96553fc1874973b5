"""CustomResourceDefinitions for the real API server: KubeRay's own, and the cluster autoscaler's.

KubeRay's come out of its Go module (`make cluster-parts`). The autoscaler's are the real ones where they are at hand
(LEADTIME_SCHEMAS), else the fake API's, cut down to what leadtime uses.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from tests.cluster import parts
from tests.fakes.kubernetes.crds_autoscaling import AUTOSCALING, real_autoscaling

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def kuberay() -> tuple[dict[str, Any], ...]:
    """Those of RayService and RayCluster, as KubeRay ships them."""
    wanted = ("ray.io_rayservices.yaml", "ray.io_rayclusters.yaml")
    files = [file for file in parts.require_definitions("kuberay") if file.name in wanted]
    return tuple(yaml.load(file.read_text(), Loader=_LOADER) for file in files)


def definitions() -> tuple[dict[str, Any], ...]:
    """All that the tests' cluster serves."""
    return (*kuberay(), *(real_autoscaling() or AUTOSCALING))
