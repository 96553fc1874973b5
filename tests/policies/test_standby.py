"""What a standby wants: enough for what is in flight, never fewer than there are, nothing of what it must not touch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import DeploymentKey, DeploymentView, FleetView
from policies.standby import StandbyPolicy, needed

KEY = DeploymentKey.parse("chat/llm")


def view(**fields: object) -> DeploymentView:
    shown = {"target": 2, "running": 2, "max_replicas": 8, "max_ongoing_requests": 10} | fields
    return DeploymentView(KEY, **shown)  # type: ignore[arg-type]


def proposed(d: DeploymentView, why: str | None = "silent") -> int | None:
    policy = StandbyPolicy(lambda _d, _now_s: why)
    found = policy.propose(FleetView(0.0, 5.0, (d,)), policy.new_state(), 0.0).replicas.get(KEY)
    return None if found is None else found.replicas


@pytest.mark.parametrize(
    ("fields", "replicas"),
    [
        ({"ongoing": 28.0, "waiting": 0.0}, 4),
        ({"ongoing": 14.0, "waiting": 14.0}, 4),
        ({"ongoing": 0.0, "waiting": 0.0}, 2),
        ({"ongoing": None, "waiting": 21.0}, 3),
        ({"rate_rps": 20.0, "capacity_rps": 5.0}, 6),
        ({"ongoing": 7.0, "waiting": 0.0, "rate_rps": 20.0, "capacity_rps": 5.0}, 6),
        ({"ongoing": 28.0, "waiting": 0.0, "capacity_batch": 5.0}, 8),
        ({"ongoing": 448.0, "waiting": 0.0, "max_ongoing_requests": 10**9}, 10),
        ({}, 2),
        ({"target": 0, "running": 0, "waiting": 3.0, "ongoing": 0.0}, 1),
    ],
)
def test_it_wants_what_carries_the_load_and_never_fewer_than_there_are(
    fields: dict[str, object], replicas: int
) -> None:
    assert proposed(view(**fields)) == replicas


def test_it_leaves_alone_what_its_controller_looks_after() -> None:
    assert proposed(view(ongoing=100.0, waiting=0.0), why=None) is None


def test_it_leaves_alone_what_has_no_known_target() -> None:
    assert proposed(view(target=None, running=None, ongoing=100.0, waiting=0.0)) is None


@given(
    st.integers(0, 50),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e5),
    st.none() | st.floats(1e-3, 1e3),
)
def test_no_reading_makes_it_want_fewer(
    target: int, ongoing: float | None, waiting: float | None, rate: float | None, capacity: float | None
) -> None:
    d = view(target=target, ongoing=ongoing, waiting=waiting, rate_rps=rate, capacity_rps=capacity)
    found = proposed(d)
    assert found is not None
    assert found >= target
    assert found == max(target, needed(d)[0])
