"""`static_mean`: a constant fleet of the mean need: what one gets by sizing for the average.

Without a number it is derived from history; unlike `static` it never sees the traffic that it will serve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from policies.base import FleetProposal, FleetView, ForecastSpec, PolicyError, ReplicaProposal, Term
from policies.options import option
from policies.references.past_demand import PastDemand


@dataclass(frozen=True, slots=True)
class StaticMeanOptions:
    """`replicas` None: from history. `fleet`: by deployment key, before `replicas`."""

    replicas: int | None = option(None, low=0, doc="of every deployment; null = mean of what history needed")
    fleet: dict[str, Any] | None = option(None, doc="replicas by deployment key, where they differ")


@dataclass(slots=True)
class StaticMeanState:
    """Nothing to remember."""

    unused: dict[str, float] = field(default_factory=dict)


class StaticMeanPolicy:
    """Always the same numbers. Errors: PolicyError when asked to propose without any."""

    Options = StaticMeanOptions
    name = "static_mean"
    period_s: float | None = None
    guards: Literal["full", "bounds"] = "bounds"
    clairvoyant = False
    telemetry: str | None = None
    forecast: ForecastSpec | None = None

    def __init__(self, options: StaticMeanOptions) -> None:
        self.options = options
        for key, count in (options.fleet or {}).items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                where = f"policy static_mean: option fleet: {key}"
                raise PolicyError(f"{where}: {count!r}; allowed: a whole number of replicas >= 0")

    @property
    def needs_history(self) -> bool:
        return self.options.replicas is None and self.options.fleet is None

    def with_history(self, past: Mapping[str, PastDemand]) -> StaticMeanPolicy:
        """The mean need of each deployment, rounded up."""
        means = {key: math.ceil(sum(p.replicas()) / len(p.rates_rps) - 1e-9) for key, p in past.items()}
        return StaticMeanPolicy(replace(self.options, fleet=means))

    def size(self, key: str) -> int | None:
        """Replicas of a deployment (its key as `str` gives it); None = it has none here."""
        return (self.options.fleet or {}).get(key, self.options.replicas)

    def new_state(self) -> StaticMeanState:
        return StaticMeanState()

    def propose(self, fleet: FleetView, state: StaticMeanState, now_s: float) -> FleetProposal:
        """The constants."""
        if self.needs_history:
            raise PolicyError("policy static_mean: option replicas: null; it needs a number (or a scenario's history)")
        replicas = {}
        for d in fleet.deployments:
            count = self.size(str(d.key))
            if count is not None:
                replicas[d.key] = ReplicaProposal(count, (Term("static", count, f"{count} replicas, always"),))
        return FleetProposal(replicas)
