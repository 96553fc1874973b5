"""What holds for all tests: property tests without clock or chance, and which tests share a process of `make test`.

Property tests are the same on every machine and on every run: derived from their own text, without a clock.
`make test` runs two processes (pytest-xdist): a file stays in one, so that what its tests share is made once, and all
tests marked `ray` stay in one, so that there is one real Ray at a time.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "leadtime", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("leadtime")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The real Ray first, since it takes longest and mostly waits; each other file after it, as a group."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
