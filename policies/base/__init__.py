"""The types that policies speak: what a policy may see of a fleet and what it may ask for.

Units are in the names. `None` is "unknown", never 0. Everything here is frozen (what is made anew at every tick for
the type checker alone: record.py): a policy keeps its memory in the state that the caller hands it, so that the
controller can save it and a replay can restore it.

How it reads: `view` is what a policy is shown, with keys, promises to users, measurements and starts under way;
`forecast` what is expected; `policy` what a policy is and what it answers; `knowledge` what a scenario can tell one.
"""

from policies.base.errors import PolicyError
from policies.base.forecast import BacktestTrace, Forecast, Forecaster, ForecasterState, Forecasting, ForecastSpec
from policies.base.policy import (
    FleetProposal,
    Guards,
    HandleWindow,
    Knowledge,
    Policy,
    PoolProposal,
    ReplicaProposal,
    Term,
)
from policies.base.view import (
    DEFAULT_NAMESPACE,
    DEFAULT_SERVICE,
    LEAST_TARGET_FRACTION,
    LONGEST_ITL_S,
    LONGEST_TTFT_S,
    TARGET_FRACTION_BELOW,
    UNBOUNDED_SLOTS,
    DeploymentKey,
    DeploymentView,
    FleetView,
    HandleReport,
    LeadPath,
    LeadTimes,
    PoolView,
    ReplicaMetrics,
    Slo,
    StartView,
    TokenMix,
    Totals,
    whole_down,
    whole_like,
    whole_up,
)

__all__ = [
    "DEFAULT_NAMESPACE",
    "DEFAULT_SERVICE",
    "LEAST_TARGET_FRACTION",
    "LONGEST_ITL_S",
    "LONGEST_TTFT_S",
    "TARGET_FRACTION_BELOW",
    "UNBOUNDED_SLOTS",
    "BacktestTrace",
    "DeploymentKey",
    "DeploymentView",
    "FleetProposal",
    "FleetView",
    "Forecast",
    "ForecastSpec",
    "Forecaster",
    "ForecasterState",
    "Forecasting",
    "Guards",
    "HandleReport",
    "HandleWindow",
    "Knowledge",
    "LeadPath",
    "LeadTimes",
    "Policy",
    "PolicyError",
    "PoolProposal",
    "PoolView",
    "ReplicaMetrics",
    "ReplicaProposal",
    "Slo",
    "StartView",
    "Term",
    "TokenMix",
    "Totals",
    "whole_down",
    "whole_like",
    "whole_up",
]
