"""Calling a policy of any author: what it raises or returns in error becomes one PolicyFault that names it.

A PolicyError that the policy raises itself passes through. A proposal is checked for types: numbers, for deployments
and pools that exist, with text as reasons. Whether its numbers are sensible is for guards.py.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Mapping, Set
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from autoscaler.common.errors import PolicyFault
from policies.base import (
    DeploymentKey,
    FleetProposal,
    FleetView,
    Policy,
    PolicyError,
    PoolProposal,
    ReplicaProposal,
    Term,
)

Proposal = TypeVar("Proposal", ReplicaProposal, PoolProposal)
_LONGEST = 120


class WrongProposalError(Exception):
    """Error in a proposal: the value, and what is allowed, in one line."""


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
    """A short text of a value, with its type if the text does not show it."""
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
            near = difflib.get_close_matches(str(key), names, n=1)
            hint, allowed = f"; did you mean {near[0]!r}?" if near else "", ", ".join(names) or "none here"
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
    """Terms in plain types; a policy that gives none gets one that says so."""
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


def evaluate(policy: Policy, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
    """The policy's checked proposal. Errors: PolicyFault; PolicyError."""
    try:
        proposal = policy.propose(fleet, state, now_s)
    except PolicyError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit() in a policy must not end the controller
        raise PolicyFault(f"policy {policy.name}: propose() failed{_where(error)}: {_words(error)}") from error
    try:
        return checked(proposal, fleet)
    except WrongProposalError as error:
        raise PolicyFault(f"policy {policy.name}: propose(): {error}") from None


def fresh_state(policy: Policy) -> Any:
    """A new, empty memory that can be saved. Errors: PolicyFault."""
    try:
        state = policy.new_state()
    except (Exception, SystemExit) as error:
        raise PolicyFault(f"policy {policy.name}: new_state() failed{_where(error)}: {_words(error)}") from error
    plain_state(policy.name, state)
    return state


def plain_state(name: str, state: Any) -> Any:
    """The policy's memory as plain data, for saving. Errors: PolicyFault when it holds anything else."""
    try:
        plain = msgspec.to_builtins(state)
        msgspec.json.encode(plain)
    except Exception as error:  # a TypeError, or whatever its parts raise
        text = f"policy {name}: its state cannot be saved: {shown(state)}: {_words(error)}"
        raise PolicyFault(f"{text}; allowed: a dataclass of plain data") from None
    return plain


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _where(error: BaseException) -> str:
    """Location ` at FILE:LINE` of the innermost frame that is in a file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
