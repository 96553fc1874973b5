"""The fake API server, ready for tests; and the real one in its place, where a file says that both must pass.

A file with `BOTH_SERVERS = True` is the contract of the fake: each of its tests that asks for `api` runs against the
fake in `make test`, and against a real kube-apiserver in `make test-cluster`. Marked `fake_only`: what injects faults,
or asks the fake about itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.kubernetes.crds import KUBERAY
from tests.fakes.kubernetes.server import FakeApi

NAMESPACES = ("default", "llm", "leadtime")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    both = getattr(metafunc.module, "BOTH_SERVERS", False)
    if both and "api" in metafunc.fixturenames and not metafunc.definition.get_closest_marker("fake_only"):
        servers = ["fake", pytest.param("real", marks=pytest.mark.cluster)]
        metafunc.parametrize("api", servers, indirect=True)


@pytest.fixture
def api(request: pytest.FixtureRequest) -> Iterator[Any]:
    if getattr(request, "param", "fake") == "real":
        cluster = request.getfixturevalue("cluster")
        cluster.fresh(NAMESPACES)
        yield cluster
        return
    with FakeApi(crds=KUBERAY, namespaces=NAMESPACES) as server:
        yield server
