"""The kinds of faults that there are, and what is wrong with a scenario's. Each kind is a file of simulator/faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from autoscaler.common.registered import classes_in
from autoscaler.settings.document.problems import Problem
from policies.options import exact
from simulator.faults.base import Fault
from simulator.faults.redeploy import Redeploy
from simulator.scenario.fleet import DeploymentBlock

KINDS = classes_in("simulator.faults", Fault)
"""Every kind by its name, which is its file's."""

if TYPE_CHECKING:
    AnyFault = Fault
else:
    AnyFault = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007


def check_faults(faults: Sequence[Fault], deployments: Sequence[DeploymentBlock]) -> list[Problem]:
    """What each fault says of itself, and what two of them cannot be together."""
    most_replicas = {d.name: d.replicas.max for d in deployments}
    found = [
        Problem(("faults", i, key), text) for i, fault in enumerate(faults) for key, text in fault.check(most_replicas)
    ]
    return [*found, *_gangs(faults, deployments), *_restarts(faults)]


def _gangs(faults: Sequence[Fault], deployments: Sequence[DeploymentBlock]) -> Iterator[Problem]:
    """Serve refuses a configuration with a part of a gang."""
    sizes = {d.name: d.gang_size for d in deployments}
    for i, fault in enumerate(faults):
        if isinstance(fault, Redeploy) and fault.replicas is not None:
            size = sizes.get(fault.deployment, 1)
            if fault.replicas % size:
                allowed = f"a multiple of gang_size of {fault.deployment}, which is {size}"
                yield Problem(("faults", i, "replicas"), f"{fault.replicas}; allowed: {allowed}")


def _restarts(faults: Sequence[Fault]) -> Iterator[Problem]:
    """A controller that is down cannot die."""
    known = [(fault.restart(), i) for i, fault in enumerate(faults)]
    restarts = sorted((one.at_s, one.at_s + one.down_s, i) for one, i in known if one is not None)
    for (_, up_at_s, _), (at_s, _, i) in pairwise(restarts):
        if at_s < up_at_s:
            allowed = f"from {exact(up_at_s)} on, when the restart before is over"
            yield Problem(("faults", i, "at_s"), f"{exact(at_s)}; allowed: {allowed}")
