"""What a policy may ask for, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.base.record import record
from policies.base.view import DeploymentKey


@record(frozen=True, slots=True)
class Term:
    """One argument for a number of replicas (or nodes): who wants how many, and why, in words."""

    name: str
    wants: int
    why: str


@record(frozen=True, slots=True)
class ReplicaProposal:
    """Replicas wanted for one deployment; `terms` holds the winning argument first, then the losing ones."""

    replicas: int
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolProposal:
    """Nodes that should exist in a pool, busy and warm together."""

    nodes: int
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetProposal:
    """A deployment or pool that is left out keeps what it has."""

    replicas: Mapping[DeploymentKey, ReplicaProposal]
    pools: Mapping[str, PoolProposal] = field(default_factory=dict)
