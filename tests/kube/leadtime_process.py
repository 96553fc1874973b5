"""`leadtime ...` as a process whose Ray dashboards are on loopback: `python -m tests.kube.leadtime_process FILE WORDS`.

FILE is a JSON object of Ray cluster -> address of its dashboard: names of a cluster's DNS mean nothing here. Everything
else is the product as it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from autoscaler.cli.main import main
from autoscaler.sources.kuberay.services import ServeCluster
from autoscaler.wiring import kubernetes


def run(addresses: Path, words: list[str]) -> int:
    def dashboard(cluster: ServeCluster) -> str:
        return str(json.loads(addresses.read_text()).get(cluster.name, "http://127.0.0.1:9"))

    defaults = kubernetes.kubernetes_parts.__kwdefaults__
    assert "dashboard" in defaults
    defaults["dashboard"] = dashboard
    return main(words)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
