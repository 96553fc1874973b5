"""Property tests are the same on every machine and on every run: derived from their own text, without a clock.

And the one real control plane of a run, for the tests that ask for it (marker `cluster`).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from autoscaler.common.redaction import forget

if TYPE_CHECKING:
    from tests.cluster.api import RealApi
    from tests.cluster.control_plane import ControlPlane

settings.register_profile(
    "leadtime", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("leadtime")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts tests in the background has them ignore Ctrl-C; what they start would never be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_known_secrets() -> Iterator[None]:
    """Secrets are known to the process; those of one test are ordinary words in another."""
    forget()
    yield
    forget()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager; without the built parts the test is skipped."""
    from tests.cluster.control_plane import ControlPlane

    with ControlPlane(tmp_path_factory.mktemp("cluster"), goaway_chance=0.02) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(plane: ControlPlane) -> Iterator[RealApi]:
    """The API of it, with KubeRay's and the autoscaler's definitions."""
    from tests.cluster.api import RealApi
    from tests.cluster.crds import definitions

    api = RealApi(plane)
    api.define(definitions())
    yield api
    api.close()
