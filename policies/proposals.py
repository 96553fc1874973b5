"""Whether what a policy returned can be used: anybody's code may stand behind it.

Not for judging numbers (bounds and guards do that): only for their being numbers, of deployments and pools that exist.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from numbers import Integral
from typing import Any, TypeVar

from policies.base import DeploymentKey, FleetProposal, FleetView, PoolProposal, ReplicaProposal, Term
from policies.options import nearest

Proposal = TypeVar("Proposal", ReplicaProposal, PoolProposal)
_LONGEST = 120


class WrongProposalError(Exception):
    """What is wrong with a proposal: the value, and what is allowed. One line."""


def checked(proposal: object, fleet: FleetView) -> FleetProposal:
    """The proposal in plain types. Errors: WrongProposalError."""
    if not isinstance(proposal, FleetProposal):
        raise WrongProposalError(f"returned {shown(proposal)}; allowed: a FleetProposal")
    keys = {d.key for d in fleet.deployments}
    pools = {p.name for p in fleet.pools}
    return FleetProposal(
        {key: _replicas(key, one) for key, one in _items(proposal.replicas, keys, "replicas", DeploymentKey)},
        {name: _nodes(name, one) for name, one in _items(proposal.pools, pools, "pools", str)},
    )


def shown(value: object) -> str:
    """A value in few words: its text and, where that does not say it, its type."""
    if value is None:
        return "None"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # even this may fail
        text = "a value"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if isinstance(value, bool | int | str) else f"{text} ({type(value).__name__})"


def _items(
    mapping: object, known: Collection[Any], field: str, kind: type[DeploymentKey] | type[str]
) -> Iterable[tuple[Any, object]]:
    if not isinstance(mapping, Mapping):
        raise WrongProposalError(f"{field}: {shown(mapping)}; allowed: a mapping of {kind.__name__} to proposals")
    for key, one in mapping.items():
        if not isinstance(key, kind):
            raise WrongProposalError(f"{field}: key {shown(key)}; allowed: a {kind.__name__}, as the view has it")
        if key not in known:
            names = sorted(map(str, known))
            hint, allowed = nearest(str(key), names), ", ".join(names) or "none here"
            raise WrongProposalError(f"{field}: unknown key {str(key)!r}{hint} (allowed: {allowed})")
        yield key, one


def _replicas(key: DeploymentKey, one: object) -> ReplicaProposal:
    if not isinstance(one, ReplicaProposal):
        raise WrongProposalError(f"replicas: {key}: {shown(one)}; allowed: a ReplicaProposal")
    if type(one.replicas) is int and one.replicas >= 0 and type(one.terms) is tuple and one.terms and _all_terms(one):
        return one
    count = _count(one.replicas, f"replicas: {key}")
    return ReplicaProposal(count, _terms(one.terms, count, f"replicas: {key}"))


def _nodes(name: str, one: object) -> PoolProposal:
    if not isinstance(one, PoolProposal):
        raise WrongProposalError(f"pools: {name}: {shown(one)}; allowed: a PoolProposal")
    count = _count(one.nodes, f"pools: {name}")
    return PoolProposal(count, _terms(one.terms, count, f"pools: {name}"))


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise WrongProposalError(f"{where}: {shown(value)}; allowed: a whole number >= 0")
    return int(value)


def _all_terms(one: ReplicaProposal) -> bool:
    return set(map(type, one.terms)) == {Term}


def _terms(terms: object, count: int, where: str) -> tuple[Term, ...]:
    """As they are; a policy that gives no argument is its own."""
    if not isinstance(terms, list | tuple) or not all(isinstance(t, Term) for t in terms):
        raise WrongProposalError(f"{where}: terms {shown(terms)}; allowed: a tuple of Term")
    return tuple(terms) or (Term("policy", count, f"{count} wanted, no reason given"),)
