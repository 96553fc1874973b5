"""What users ask for: counters become rates, a token mix and bins for the forecaster. Freshness is part of each value.

Demand is exogenous: requests are counted where they queue, however many of them our own scaling lets through, and where
they are turned away. Pure; time is an argument. Capacity and decisions live elsewhere.

Files: `rates` ingests a page's counters and keeps rates and bins; `token_mix` estimates tokens per request (`aborts`:
requests that end early; `engines`: engines with incomplete metrics); `slo` counts requests within the SLO; `knowledge`
decides which quantities are known; `observation` assembles the Observation of one moment.
"""

from autoscaler.core.demand.knowledge import Reports
from autoscaler.core.demand.observation import observe, take_reports
from autoscaler.core.demand.rates import MOST_RPS, Bin, error_rate_rps, ingest, rate_rps
from autoscaler.core.demand.slo import ATTAINMENT_WINDOW_S, attained_fraction, judged, share_below
from autoscaler.core.demand.token_mix import TokenSums, current_mix, seed_mix

__all__ = [
    "ATTAINMENT_WINDOW_S",
    "MOST_RPS",
    "Bin",
    "Reports",
    "TokenSums",
    "attained_fraction",
    "current_mix",
    "error_rate_rps",
    "ingest",
    "judged",
    "observe",
    "rate_rps",
    "seed_mix",
    "share_below",
    "take_reports",
]
