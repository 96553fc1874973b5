"""Asking a policy, whoever wrote it: what it raises or returns in error becomes one PolicyFault that names it.

A PolicyError that it raises itself is its own word and passes through. Not for what its numbers mean (guards.py).
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import msgspec

from autoscaler.common.errors import PolicyFault
from policies.base import FleetProposal, FleetView, Policy, PolicyError
from policies.proposals import WrongProposalError, checked, shown


def ask(policy: Policy, fleet: FleetView, state: Any, now_s: float) -> FleetProposal:
    """Its proposal, checked. Errors: PolicyFault; PolicyError."""
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
    """A new memory that can be saved. Errors: PolicyFault."""
    try:
        state = policy.new_state()
    except (Exception, SystemExit) as error:
        raise PolicyFault(f"policy {policy.name}: new_state() failed{_where(error)}: {_words(error)}") from error
    plain_state(policy.name, state)
    return state


def plain_state(name: str, state: Any) -> Any:
    """A policy's memory as plain data, to be saved. Errors: PolicyFault when it holds something else."""
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
    """The last line that was under way in a file, ` at FILE:LINE`."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
