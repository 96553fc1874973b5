"""The fast data plane and the step-by-step reference agree on every request of random worlds."""

import pytest
from hypothesis import HealthCheck, given, settings

from policies.capacity.profile import Limits, Scheduling
from tests.simulator.dataplane.cases import AFFINE, Case, assert_same, cases, profile
from tests.simulator.dataplane.reference_fleet import Control

_SETTINGS = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_SETTINGS
@given(cases(single=True))
def test_one_engine_gives_every_request_the_times_of_the_reference(case: Case) -> None:
    assert_same(case)


@_SETTINGS
@given(cases())
def test_a_fleet_with_drains_kills_and_timeouts_equals_the_reference(case: Case) -> None:
    assert_same(case)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("seqs", [2, 3])
def test_an_arrival_at_any_moment_of_a_step_is_seen_when_vllm_would_see_it(asynchronous: bool, seqs: int) -> None:
    """One request ends while another goes on: a third comes at each of many moments around that end."""
    limits = Limits(seqs, 64, 4, 400, 400)
    engine = profile(limits, Scheduling(asynchronous, True, True), AFFINE, host_s=0.0031)
    for moment in range(120):
        arrivals = ((0.0, 9, 6, 0), (0.001, 5, 40, 0), (0.02 + moment * 0.0013171, 7, 11, 0))
        assert_same(Case(engine, 100, None, -1, arrivals, (Control(0.0, "add", 0),), 1e9, 5.0))
