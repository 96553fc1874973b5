"""A real Kubernetes on this machine until Ctrl-C: `python -m tests.cluster` (`make cluster`).

etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, with KubeRay's definitions. There are no
nodes: objects live, pods wait. Everything is in one temporary folder, which goes with the processes.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.cluster import parts
from tests.cluster.api import RealApi
from tests.cluster.control_plane import CORE, SCHEDULER, ControlPlane
from tests.cluster.crds import definitions

NAMESPACES = ("llm", "leadtime")


def main() -> int:
    missing = [program for program in (*CORE, SCHEDULER, "kubectl", "helm") if not parts.where(program).is_file()]
    if missing:
        print(f"make cluster-parts first; not built yet: {', '.join(missing)}", file=sys.stderr)
        return 1
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="leadtime-cluster-") as folder:
        with ControlPlane(Path(folder), programs=(*CORE, SCHEDULER)) as plane:
            api = RealApi(plane)
            api.define(definitions())
            for namespace in NAMESPACES:
                api.namespace(namespace)
            version = api.request("GET", "/version")["gitVersion"]
            print(f"Kubernetes {version} is up after {time.monotonic() - began_s:.0f} s: {plane.url}\n")
            print(f"  export KUBECONFIG={plane.admin}")
            print(f"  export PATH={parts.where('kubectl').parent}:$PATH   # kubectl {version} and helm\n")
            print("  kubectl api-resources --api-group=ray.io")
            print("  helm install leadtime charts/leadtime -n leadtime --set watchNamespaces={llm}\n")
            print(
                f"Logs, and audit.log with every call, are in {folder}. Ctrl-C ends it and leaves nothing.", flush=True
            )
            ended.wait()
        print("ended: no process and no file is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
