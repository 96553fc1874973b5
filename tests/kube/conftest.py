"""The fake API server, ready for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kube.crds import KUBERAY
from tests.kube.fake_api import FakeApi


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(crds=KUBERAY, namespaces=("default", "llm", "leadtime")) as server:
        yield server
