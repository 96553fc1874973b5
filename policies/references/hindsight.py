"""`hindsight`: the reactive rule at its best setting for the very traffic that it is then run on.

Nobody can tune on tomorrow's traffic: an upper bound on what tuning `hpa_ongoing` could ever give. The simulator finds
the setting (simulator/experiments/references/completion.py); with a setting it is the HPA, and still marked as one
that knows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policies.base import FleetProposal, FleetView, Knowledge, Policy, PolicyError
from policies.baselines.hpa import TARGET_SHARE, HpaOngoing, HpaOngoingOptions, HpaState
from policies.options import option


@dataclass(frozen=True, slots=True)
class HindsightOptions(HpaOngoingOptions):
    """`target` and `target_fraction` None: the simulator searches."""

    target_fraction: float | None = option(  # type: ignore[assignment]
        None, low=0.01, high=10, doc="of what a replica holds at capacity; null = the best one, searched"
    )


class HindsightPolicy(HpaOngoing):
    """See the module. Its target is a share of what a replica holds. Errors: PolicyError when asked without one."""

    Options = HindsightOptions

    name = "hindsight"
    clairvoyant = True
    options: HindsightOptions

    def __init__(self, options: HindsightOptions) -> None:
        fraction = TARGET_SHARE if options.target_fraction is None else options.target_fraction
        super().__init__(replace(options, target_fraction=fraction))
        self.options = options

    def prepare(self, knowledge: Knowledge) -> Policy:
        """At the best setting that can be found, where the options leave it open."""
        return knowledge.best_setting(self.options) if self.needs_search else self

    @property
    def needs_search(self) -> bool:
        return self.options.target is None and self.options.target_fraction is None

    def propose(self, fleet: FleetView, state: HpaState, now_s: float) -> FleetProposal:
        """As hpa_ongoing."""
        if self.needs_search:
            raise PolicyError("policy hindsight: option target_fraction: null; only the simulator can find it")
        return super().propose(fleet, state, now_s)
