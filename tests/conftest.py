"""Property tests are the same on every machine and on every run: derived from their own text, without a clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from autoscaler.redaction import forget

settings.register_profile(
    "leadtime", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("leadtime")


@pytest.fixture(autouse=True)
def _no_known_secrets() -> Iterator[None]:
    """Secrets are known to the process; those of one test are ordinary words in another."""
    forget()
    yield
    forget()
