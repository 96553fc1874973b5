"""Demand is what users want: also when they are turned away, not what retries make of it; incomplete is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core import demand, guards
from autoscaler.core.build import new_controller
from autoscaler.core.demand.rates import intervals
from autoscaler.core.state import DemandMemory
from autoscaler.core.types import DeploymentMetrics, ReplicaSignal
from autoscaler.sources.exposition import Memory, parse
from autoscaler.sources.join import NodePage, collect
from autoscaler.sources.names import NAMES
from policies.base import ReplicaMetrics, Slo
from tests.autoscaler.build import KEY, Says, config, inventory, metrics, signals

TICK_S = 5.0


class Traffic:
    """Cumulative counters that grow at the rates the test says, tick by tick; gives what is counted as demand."""

    def __init__(self) -> None:
        self.memory = DemandMemory()
        self.now_s = 0.0
        self.totals = {"arrivals": 0.0, "errors": 0.0, "rejected": 0.0}
        self._take()

    def _take(self) -> list[demand.Bin]:
        page = DeploymentMetrics(
            self.now_s,
            arrivals_total={"h": self.totals["arrivals"]},
            errors_total={"r": self.totals["errors"]},
            rejected_total={"p": self.totals["rejected"]},
        )
        return demand.ingest(self.memory, page, Slo(), 15.0, TICK_S)

    def goes(self, seconds: float, arrivals: float = 0.0, errors: float = 0.0, rejected: float = 0.0) -> list[float]:
        """Rates of the bins that closed."""
        rates: list[float] = []
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            for name, rate in (("arrivals", arrivals), ("errors", errors), ("rejected", rejected)):
                self.totals[name] += rate * TICK_S
            rates += [rate for _, rate in self._take() if rate is not None]
        return rates


def test_requests_that_are_turned_away_are_demand_too() -> None:
    traffic = Traffic()
    traffic.goes(300.0, arrivals=10.0)
    rates = traffic.goes(60.0, arrivals=10.0, rejected=6.0)
    assert rates == pytest.approx([16.0] * 12)
    assert demand.rate_rps(traffic.memory) == pytest.approx(16.0)
    assert demand.error_rate_rps(traffic.memory) == pytest.approx(6.0)


def test_an_ingress_that_passes_rejections_on_does_not_count_them_twice() -> None:
    traffic = Traffic()
    traffic.goes(300.0, arrivals=10.0)
    rates = traffic.goes(60.0, arrivals=10.0, errors=6.0, rejected=6.0)
    assert rates == pytest.approx([10.0] * 12)


def test_a_storm_of_retries_is_no_growth_at_once() -> None:
    traffic = Traffic()
    traffic.goes(600.0, arrivals=10.0)
    first = traffic.goes(5.0, arrivals=100.0, errors=95.0)
    assert first == pytest.approx([20.0], rel=0.01)
    assert traffic.memory.uncounted_rps == pytest.approx(80.0, rel=0.01)
    later = traffic.goes(240.0, arrivals=100.0, errors=95.0)
    assert later[-1] == pytest.approx(80.0, rel=0.1), "it may be real: it counts for more with time"


def test_growth_that_succeeds_counts_at_once_whatever_fails_beside_it() -> None:
    traffic = Traffic()
    traffic.goes(600.0, arrivals=10.0)
    assert traffic.goes(5.0, arrivals=100.0, errors=10.0) == pytest.approx([90.0])


def test_the_cap_ends_with_the_failures_and_rates_of_health_are_never_touched() -> None:
    traffic = Traffic()
    assert traffic.goes(60.0, arrivals=10.0) == pytest.approx([10.0] * 12)
    assert traffic.goes(60.0, arrivals=500.0) == pytest.approx([500.0] * 12)
    traffic.goes(60.0, arrivals=5000.0, errors=5000.0)
    assert traffic.goes(60.0, arrivals=700.0)[4:] == pytest.approx([700.0] * 8)


def test_a_cold_deployment_whose_first_requests_all_fail_still_has_demand() -> None:
    traffic = Traffic()
    traffic.goes(600.0)
    rates = traffic.goes(30.0, arrivals=50.0, errors=50.0)
    assert min(rates) >= 2.0
    assert rates[-1] > rates[0]


@given(st.lists(st.tuples(st.floats(0.0, 1000.0), st.floats(0.0, 1.0), st.floats(0.0, 200.0)), min_size=1, max_size=40))
def test_counted_demand_lies_between_what_succeeds_and_what_arrives(steps: list[tuple[float, float, float]]) -> None:
    traffic = Traffic()
    for arrivals, failing, rejected in steps:
        errors = arrivals * failing
        traffic.goes(TICK_S, arrivals, errors, rejected)
        _, seconds, counted, _ = intervals(traffic.memory)[-1]
        arrived = (arrivals + max(0.0, rejected - errors)) * seconds
        assert counted <= arrived * (1 + 1e-9) + 1e-6
        assert counted >= (arrivals - errors) * seconds - 1e-6 * (1 + arrived)
        assert traffic.memory.uncounted_rps >= -1e-9


# ---------------------------------------------------------------- from Ray's pages


PAGE = """\
# TYPE ray_serve_num_router_requests_total counter
ray_serve_num_router_requests_total{application="chat",deployment="llm",handle="h"} 2.0
# TYPE ray_serve_num_deployment_http_error_requests_total counter
ray_serve_num_deployment_http_error_requests_total{application="chat",deployment="llm",error_code="503"} 8.0
ray_serve_num_deployment_http_error_requests_total{application="chat",deployment="llm",error_code="404"} 3.0
ray_serve_num_deployment_http_error_requests_total{application="chat",deployment="other",error_code="503"} 5.0
"""


def test_of_the_proxies_errors_only_those_of_back_pressure_are_rejections() -> None:
    page = NodePage(0.0, tuple(parse(PAGE.encode(), NAMES, Memory())))
    found = collect({"node": page}, {KEY: inventory(0.0)}, "default", "local", 0.0)[KEY]
    assert (sum(found.arrivals_total.values()), sum(found.rejected_total.values())) == (2.0, 8.0)


# ---------------------------------------------------------------- completeness


def reporting(now_s: float, *replicas: str) -> DeploymentMetrics:
    return metrics(now_s, arrivals=now_s, replicas=tuple(ReplicaMetrics(name, ongoing=1.0) for name in replicas))


def test_a_running_replica_that_stops_reporting_is_missing_and_nothing_is_scaled_down() -> None:
    policy = Says(4)
    controller = new_controller(config(), policy=policy)
    controller.step(signals(inventory(0.0, running=4), reporting(0.0, "r0", "r1", "r2", "r3")), 0.0)
    policy.replicas = 2
    plan = controller.step(signals(inventory(5.0, running=4), reporting(5.0, "r0", "r1", "r3")), 5.0)
    seen = plan.observations[0]
    assert (seen.completeness_fraction, seen.fresh) == (0.75, False)
    assert seen.why_stale == "1 of 4 running replicas stopped reporting: r2"
    assert plan.deployments[0].target == 4
    assert [g.name for g in plan.deployments[0].guards] == [guards.UNKNOWN]
    plan = controller.step(signals(inventory(10.0, running=4), reporting(10.0, "r0", "r1", "r2", "r3")), 10.0)
    assert plan.observations[0].completeness_fraction == 1.0
    assert plan.deployments[0].target == 2


def test_a_replica_that_never_reported_misses_nothing() -> None:
    controller = new_controller(config(), policy=Says(2))
    for now_s in (0.0, 5.0):
        plan = controller.step(signals(inventory(now_s, running=4), reporting(now_s, "r0")), now_s)
    assert (plan.observations[0].completeness_fraction, plan.observations[0].fresh) == (1.0, True)


def test_a_replica_that_is_silent_is_missing_for_as_long_as_it_runs() -> None:
    """However long: what it holds is not known after five minutes either."""
    controller = new_controller(config(), policy=Says(1))
    controller.step(signals(inventory(0.0, running=2), reporting(0.0, "r0", "r1")), 0.0)
    fresh, targets = {}, set()
    for now_s in (5.0, 299.0, 301.0, 3600.0):
        plan = controller.step(signals(inventory(now_s, running=2), reporting(now_s, "r0")), now_s)
        fresh[now_s] = plan.observations[0].fresh
        targets.add(plan.deployments[0].target)
    assert (set(fresh.values()), targets) == ({False}, {2})


def test_replicas_that_are_gone_are_forgotten() -> None:
    controller = new_controller(config(), policy=Says(2))
    for i in range(50):
        named = inventory(5.0 * i, running=1, replicas=(ReplicaSignal(f"n{i}", "RUNNING", 0.0),))
        controller.step(signals(named, reporting(5.0 * i, f"n{i}")), 5.0 * i)
    assert list(controller.state.memory(KEY.full).demand.reporters) == ["n49"]
