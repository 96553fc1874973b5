"""Levels are whole numbers of gangs: bounds, the level in force and what the policy wants, made whole here. Pure.

Serve starts and stops the replicas of a gang together, and a target that is no multiple of the gang's size can block
it. So a deployment of gangs goes through the pipeline whole: its bounds (minimum up, maximum down), the level in force
and the proposal (up) are made whole before the budget is shared, which is done in gangs; a guard changes a whole number
into a whole number. `invariants.py` checks what comes out. Nothing here is asked about a deployment without gangs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from autoscaler.core import guards
from autoscaler.core.observe import DeploymentTick
from autoscaler.core.types import DeploymentSettings, GuardRecord
from policies.base import DeploymentKey, FleetProposal, ReplicaProposal, whole_down, whole_up


def in_whole_gangs(d: DeploymentTick) -> None:
    """Make the bounds and the level in force of a deployment of gangs whole.

    A level that is no multiple (another writer's) counts as the whole gang above it, which carries what is in
    flight.
    """
    size = d.gang_size
    if d.settings is not None:
        d.no_gang = no_whole_gang(d.settings, size)
        if not d.no_gang:
            d.settings = whole_bounds(d.settings, size)
    shown = d.observation.target
    if d.current is None or shown is None or d.no_gang:
        return
    d.current = whole_up(d.current, size)
    if shown % size:
        d.remainder = shown
        why = f"{shown} replicas are no whole number of gangs of {size}: {d.current} is the level in force"
        d.notes.append(GuardRecord(guards.WHOLE_GANGS, d.key, shown, d.current, why))


def no_whole_gang(settings: DeploymentSettings, gang_size: int) -> str:
    """Why the bounds allow no level; empty if they allow one. A maximum below one gang allows none but 0."""
    least, most = whole_up(settings.min_replicas, gang_size), whole_down(settings.max_replicas, gang_size)
    if most >= max(least, gang_size):
        return ""
    if most < gang_size:
        return f"replicas.max {settings.max_replicas} is less than one gang of {gang_size} replicas"
    bounds = f"replicas.min {settings.min_replicas} and replicas.max {settings.max_replicas}"
    return f"no whole number of gangs of {gang_size} replicas lies between {bounds}"


def whole_bounds(settings: DeploymentSettings, gang_size: int) -> DeploymentSettings:
    """The minimum rounded up, the maximum down.

    The size is what a Ray head says, so that it gives no precedence over others: of a minimum that is no multiple only
    the whole gangs in it have that.
    """
    least, insists_on = settings.min_replicas, settings.insists_on
    if insists_on is not None or least % gang_size:
        insists_on = whole_down(least if insists_on is None else insists_on, gang_size)
    return replace(
        settings,
        min_replicas=whole_up(least, gang_size),
        max_replicas=whole_down(settings.max_replicas, gang_size),
        insists_on=insists_on,
    )


def whole_proposal(proposal: FleetProposal, ganged: Iterable[DeploymentTick]) -> FleetProposal:
    """The proposal with the wants of deployments of gangs rounded up, and a note where that changed one."""
    changed: dict[DeploymentKey, ReplicaProposal] = {}
    for d in ganged:
        own = proposal.replicas.get(d.key)
        if own is None or d.no_gang or own.replicas % d.gang_size == 0:
            continue
        whole = whole_up(own.replicas, d.gang_size)
        why = f"replicas come in gangs of {d.gang_size}: {own.replicas} wanted"
        d.notes.append(GuardRecord(guards.WHOLE_GANGS, d.key, own.replicas, whole, why))
        changed[d.key] = ReplicaProposal(whole, own.terms)
    return replace(proposal, replicas={**proposal.replicas, **changed}) if changed else proposal
