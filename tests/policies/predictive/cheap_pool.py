"""A policy that follows a rule at a known price, on a cheap pool and a usual one."""

from __future__ import annotations

from dataclasses import replace

from policies.base import Forecast, PoolView
from policies.predictive import PredictiveOptions, PredictivePolicy
from policies.predictive.rules.family import LEVELS
from policies.predictive.rules.fleet import COST, MISSED, SHORT, RuleSimulation
from policies.predictive.state import PredictiveState
from tests.policies.build import KEY, fleet, view

BIN_S = 10.0
CHEAP = PoolView("cheap", 2, nodes_ready=3, nodes_starting=0, max_nodes=8, price_usd_per_hour=11.0)
USUAL = PoolView("usual", 2, nodes_ready=0, nodes_starting=0, max_nodes=8, price_usd_per_hour=22.0)
D = view(gpus_per_replica=2, node_pools=("cheap", "usual"))


def followed() -> tuple[PredictivePolicy, PredictiveState]:
    """A policy that follows `hold 0.99` at 30 for a miss less, where `hold 0.5` would be the cheapest below 20."""
    policy, state = PredictivePolicy(PredictiveOptions(bin_s=BIN_S)), PredictiveState()
    spread = tuple(8.0 * (1.0 + level) for level in LEVELS)
    said = Forecast("mixture", 0.0, (10.0, 2560.0), LEVELS, (spread, spread), True, "a test")
    for k in range(1, 400):
        d = replace(D, bins=((k * BIN_S, 8.0),), forecast=said)
        policy.propose(fleet(d, pools=(CHEAP, USUAL), now_s=k * BIN_S), state, k * BIN_S)
    book = state.deployments[KEY.full].shadow
    names = policy.sizing.family.names
    shadow = RuleSimulation(book.sizing.shadow, policy.sizing.family, 1)
    shadow.record[SHORT] = 0.0
    shadow.record[SHORT, COST] = 1e6
    careful, thrifty = names.index("hold 0.99"), names.index("hold 0.5")
    shadow.record[SHORT, COST, careful] = 3000.0
    shadow.record[SHORT, COST, thrifty], shadow.record[SHORT, MISSED, thrifty] = 2000.0, 50.0
    book.sizing.shadow.weights[SHORT] = 86400.0 / BIN_S
    book.sizing.shadow.demand_sums[SHORT] = 10_000.0
    book.sizing.account.rule, book.sizing.account.price = careful, 30.0
    return policy, state
