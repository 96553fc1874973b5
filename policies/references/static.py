"""`static` and `static_mean`: constant numbers of replicas, the yardsticks that every autoscaler has to beat.

`static` without a number is clairvoyant: the simulator finds the smallest constant fleet that reaches the target on the
very workload. Nobody can do that live, and the result is marked so. `static_mean` without a number is the mean of what
history needed: what one gets by sizing for the average. It never sees the traffic that it will serve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from policies.base import (
    DeploymentKey,
    FleetProposal,
    FleetView,
    Guards,
    Knowledge,
    Policy,
    PolicyError,
    ReplicaProposal,
    Term,
)
from policies.base.knowledge import PastDemand
from policies.options import option
from policies.plugin import PolicyPlugin


class ConstantPolicy(PolicyPlugin):
    """Always the same numbers; the simulator has them there from time 0 on."""

    guards: Guards = "bounds"
    reads_metrics = False

    def size(self, key: DeploymentKey) -> int | None:
        """Replicas of a deployment; None = it has none here. Errors: PolicyError while no number is known."""
        raise NotImplementedError

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
        """The constants."""
        replicas = {}
        for d in fleet.deployments:
            count = self.size(d.key)
            if count is not None:
                replicas[d.key] = ReplicaProposal(count, (Term("static", count, f"{count} replicas, always"),))
        return FleetProposal(replicas)


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """`replicas` None: the simulator fills it in."""

    replicas: int | None = option(None, low=0, doc="of every deployment; null = smallest fleet that reaches the target")


class StaticPolicy(ConstantPolicy):
    """See the module. Errors: PolicyError when asked to propose without a number."""

    Options = StaticOptions
    name = "static"
    options: StaticOptions

    def __init__(self, options: StaticOptions) -> None:
        super().__init__(options)
        self.clairvoyant = options.replicas is None

    def prepare(self, knowledge: Knowledge) -> Policy:
        """The smallest fleet that will do, where the options leave it open."""
        if self.options.replicas is not None:
            return self
        return ConstantFleet(ConstantOptions(dict(knowledge.smallest_constant_fleet())))

    def size(self, key: DeploymentKey) -> int | None:
        """The number of every deployment."""
        if self.options.replicas is None:
            raise PolicyError("static: option replicas: null; it needs a number (only the simulator can find one)")
        return self.options.replicas


@dataclass(frozen=True, slots=True)
class ConstantOptions:
    """Replicas by deployment key."""

    replicas: dict[str, int] = field(default_factory=dict)


class ConstantFleet(ConstantPolicy):
    """`static` with a number of its own for each deployment, as the simulator found them."""

    name = "static"
    clairvoyant = True
    options: ConstantOptions

    def size(self, key: DeploymentKey) -> int | None:
        """What was found for it."""
        return self.options.replicas.get(str(key))


@dataclass(frozen=True, slots=True)
class StaticMeanOptions:
    """`replicas` None: from history. `fleet`: by deployment key, before `replicas`."""

    replicas: int | None = option(None, low=0, doc="of every deployment; null = mean of what history needed")
    fleet: dict[str, Any] | None = option(None, doc="replicas by deployment key, where they differ")


class StaticMeanPolicy(ConstantPolicy):
    """See the module. Errors: PolicyError when asked to propose without any number."""

    Options = StaticMeanOptions
    name = "static_mean"
    options: StaticMeanOptions

    def __init__(self, options: StaticMeanOptions) -> None:
        super().__init__(options)
        for key, count in (options.fleet or {}).items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                where = f"policy static_mean: option fleet: {key}"
                raise PolicyError(f"{where}: {count!r}; allowed: a whole number of replicas >= 0")

    @property
    def needs_history(self) -> bool:
        """No number was given."""
        return self.options.replicas is None and self.options.fleet is None

    def prepare(self, knowledge: Knowledge) -> Policy:
        """With numbers from the past, where the options leave them open."""
        return self.with_history(knowledge.past_demand(self.name)) if self.needs_history else self

    def with_history(self, past: Mapping[str, PastDemand]) -> StaticMeanPolicy:
        """The mean need of each deployment, rounded up."""
        means = {key: math.ceil(sum(p.replicas()) / len(p.rates_rps) - 1e-9) for key, p in past.items()}
        return StaticMeanPolicy(replace(self.options, fleet=means))

    def size(self, key: DeploymentKey) -> int | None:
        """Each deployment's own number, else that of all."""
        if self.needs_history:
            raise PolicyError("policy static_mean: option replicas: null; it needs a number (or a scenario's history)")
        found: int | None = (self.options.fleet or {}).get(str(key), self.options.replicas)
        return found
