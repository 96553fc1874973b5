"""The fast data plane and the step-by-step reference agree on every request of random worlds."""

from hypothesis import HealthCheck, given, settings

from tests.simulator.engine_cases import Case, assert_same, cases

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
