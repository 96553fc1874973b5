"""A scenario under any policy: completed from what the scenario knows, where it needs that, then run."""

from __future__ import annotations

import time
from dataclasses import replace

from policies.base import Policy
from policies.references.oracle import OraclePolicy
from simulator.experiments.references.bound import bound_result
from simulator.experiments.references.completion import resolve
from simulator.result import Result
from simulator.run import Outputs, build, run
from simulator.scenario.load import Scenario


def simulate(scenario: Scenario, policy: Policy, outputs: Outputs | None = None, notes: tuple[str, ...] = ()) -> Result:
    """One run. Policies that the scenario has to complete (`static` without a number, those that know the traffic,
    those that are sized by history) are completed first, some of them by runs of their own.

    Errors: ScenarioError when the fleet at time 0 does not fit on the nodes; PolicyError.
    """
    started = time.perf_counter()
    outputs = outputs or Outputs()
    quiet = Outputs(progress=outputs.progress)
    notes = (*notes, *scenario.notes)
    policy, found = resolve(scenario, policy, lambda trial: run(build(scenario, trial), trial, quiet, notes))
    if isinstance(policy, OraclePolicy):  # a bill that is computed; there is nothing to play
        found = bound_result(scenario, policy, outputs.timeline, notes)
    elif found is None or outputs.written:
        environment = build(scenario, policy, journal=outputs.journal is not None)
        found = run(environment, policy, outputs, notes if found is None else found.notes)
    return replace(found, wall_s=time.perf_counter() - started)
