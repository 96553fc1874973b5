"""Which keys a kind of fault takes and needs, and what they default to. Gives Problems as checks.py does.

What the faults do is in control/faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from autoscaler.settings.document.problems import Problem, did_you_mean
from autoscaler.settings.document.reading import Loc
from policies.options import exact
from simulator.scenario.file import FaultBlock
from simulator.scenario.fleet import DeploymentBlock

RESTART_S = 10.0
"""A restarting controller decides nothing for so long, where the scenario does not say."""
NEEDED: Mapping[str, tuple[str, ...]] = {
    "replica_crash": ("deployment",),
    "source_down": ("source", "duration_s"),
    "api_errors": ("duration_s",),
    "controller_restart": (),
    "redeploy": ("deployment",),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "replica_crash": ("replicas",),
    "source_down": (),
    "api_errors": ("api", "deployment", "fraction"),
    "controller_restart": ("duration_s", "state"),
    "redeploy": ("replicas", "new_image", "rolling_update_fraction", "max_surge_fraction"),
}


def check_faults(faults: Sequence[FaultBlock], deployments: Sequence[DeploymentBlock]) -> list[Problem]:
    """Keys that a kind does not have or lacks, and deployments that do not exist."""
    found = [problem for i, fault in enumerate(faults) for problem in _fault(("faults", i), fault, deployments)]
    return [*found, *_restarts(faults)]


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _restarts(faults: Sequence[FaultBlock]) -> Iterator[Problem]:
    """A controller that is down cannot die."""
    restarts = sorted(
        (f.at_s, f.at_s + (RESTART_S if f.duration_s is None else f.duration_s), i)
        for i, f in enumerate(faults)
        if f.kind == "controller_restart"
    )
    for (_, up_at_s, _), (at_s, _, i) in pairwise(restarts):
        if at_s < up_at_s:
            allowed = f"from {exact(up_at_s)} on, when the restart before is over"
            yield Problem(("faults", i, "at_s"), f"{exact(at_s)}; allowed: {allowed}")


def _fault(at: Loc, fault: FaultBlock, deployments: Sequence[DeploymentBlock]) -> Iterator[Problem]:
    kind = fault.kind
    known = ("at_s", "kind", *NEEDED[kind], *OPTIONAL[kind])
    for name in type(fault).model_fields:
        given = getattr(fault, name) is not None
        if given and name not in known:
            yield Problem((*at, name), f"given, but {_a(kind)} has no such key; allowed: {', '.join(known)}")
        if not given and name in NEEDED[kind]:
            yield Problem((*at, name), f"missing; {_a(kind)} needs it; its keys: {', '.join(known)}")
    if fault.deployment is None:
        return
    names = [d.name for d in deployments]
    if fault.deployment not in names:
        nearest = did_you_mean(fault.deployment, names)
        yield Problem((*at, "deployment"), f"{fault.deployment!r}; allowed: {', '.join(names)}{nearest}")
    elif fault.api == "kubernetes":
        yield Problem(
            (*at, "deployment"), "given with api: kubernetes, which writes node levels; allowed: leave it out"
        )
    elif kind == "redeploy" and fault.replicas is not None:
        most = next(d for d in deployments if d.name == fault.deployment).replicas.max
        if fault.replicas > most:
            text = f"{fault.replicas}; allowed: at most replicas.max of {fault.deployment}, which is {most}"
            yield Problem((*at, "replicas"), text)
