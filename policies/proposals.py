"""Whether what a policy returned can be used: anybody's code may stand behind it.

Not for judging numbers (bounds and guards do that): only for their being numbers, of deployments and pools that exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
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
    replicas = _known(proposal.replicas, keys, "replicas", DeploymentKey)
    nodes = _known(proposal.pools, pools, "pools", str)
    others = {key: plain for key, one in replicas.items() if (plain := _replicas(key, one)) is not one}
    return FleetProposal(replicas | others, {name: _nodes(name, one) for name, one in nodes.items()})


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


def _known(mapping: object, known: Set[Any], field: str, kind: type[DeploymentKey] | type[str]) -> dict[Any, Any]:
    if not isinstance(mapping, Mapping):
        raise WrongProposalError(f"{field}: {shown(mapping)}; allowed: a mapping of {kind.__name__} to proposals")
    found = dict(mapping)
    if known >= found.keys():
        return found
    for key in found:
        if not isinstance(key, kind):
            raise WrongProposalError(f"{field}: key {shown(key)}; allowed: a {kind.__name__}, as the view has it")
        if key not in known:
            names = sorted(map(str, known))
            hint, allowed = nearest(str(key), names), ", ".join(names) or "none here"
            raise WrongProposalError(f"{field}: unknown key {str(key)!r}{hint} (allowed: {allowed})")
    return found


def _replicas(key: DeploymentKey, one: object) -> ReplicaProposal:
    if not isinstance(one, ReplicaProposal):
        raise WrongProposalError(f"replicas: {key}: {shown(one)}; allowed: a ReplicaProposal")
    plain = type(one.replicas) is int and type(one.terms) is tuple and all(map(_is_plain, one.terms))
    if plain and one.replicas >= 0 and one.terms:
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


def _terms(terms: object, count: int, where: str) -> tuple[Term, ...]:
    """In plain types; a policy that gives no argument is its own."""
    if not isinstance(terms, list | tuple) or not all(isinstance(t, Term) for t in terms):
        raise WrongProposalError(f"{where}: terms {shown(terms)}; allowed: a tuple of Term")
    return tuple(_term(t, where) for t in terms) or (Term("policy", count, f"{count} wanted, no reason given"),)


def _is_plain(term: object) -> bool:
    return type(term) is Term and type(term.wants) is int and type(term.name) is str and type(term.why) is str


def _term(term: Term, where: str) -> Term:
    for field, value in (("name", term.name), ("why", term.why)):
        if not isinstance(value, str):
            raise WrongProposalError(f"{where}: terms: {field} {shown(value)}; allowed: text")
    if isinstance(term.wants, bool) or not isinstance(term.wants, Integral):
        raise WrongProposalError(
            f"{where}: terms: {shown(term.name)} wants {shown(term.wants)}; allowed: a whole number"
        )
    return Term(str(term.name), int(term.wants), str(term.why))
