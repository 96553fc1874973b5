"""The recorded run, and a real Prometheus that holds it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.prometheus.recorded_run import Page, record
from tests.prometheus.server import Prometheus, serving


@pytest.fixture(scope="session")
def page() -> Page:
    return record("preset:quickstart", "gpu_budget.nvidia-h100-80gb=6")


@pytest.fixture(scope="session")
def prometheus(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with serving(page.text(), tmp_path_factory.mktemp("prometheus")) as server:
        yield server
