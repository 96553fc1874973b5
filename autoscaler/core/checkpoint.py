"""The controller's memory as rows of a table: small rows at every tick, large ones in rotation.

Pure: state to bytes by name and back. Rows of each deployment: what decides (`near`), counters and bins (`demand`), the
forecaster's memory, and the policy's memory if that is a dataclass with memories by deployment in a field
`deployments`. All but `near` are large. They can be written in parts, so that no tick writes all of them. The large
rows of one deployment are always written together, since they must be of the same moment. Storing is in store.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

import msgspec

from autoscaler.common.errors import LeadtimeError
from autoscaler.core.policy_host import plain_state
from autoscaler.core.state import (
    STATE_VERSION,
    ControllerState,
    CoverageMemory,
    DemandMemory,
    DeploymentMemory,
    HintMemory,
    NodeMemory,
    SupplyMemory,
)
from policies.capacity.lead_times import StageBook

LEGACY = ""
"""Name of the single row with the whole state that older versions wrote."""
SAVE_EVERY_S = 60.0
"""Writers of the large rows (the runtime, a simulated restart) write every one of them at least once in this time."""
_NEAR, _DEMAND, _FORECASTER, _POLICY = "near/", "demand/", "forecaster/", "policy/"

T = TypeVar("T")


@dataclass(slots=True)
class _Head:
    version: int
    tick: int
    decided_at_s: float | None
    policy_name: str
    pool_nodes: dict[str, int]
    pools: dict[str, NodeMemory]
    conditions: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Near:
    supply: SupplyMemory = field(default_factory=SupplyMemory)
    hints: dict[str, HintMemory] = field(default_factory=dict)
    coverage: CoverageMemory = field(default_factory=CoverageMemory)
    seen_at_s: float | None = None
    busy_rps: float = 0.0
    busy_at_s: float | None = None


def to_rows(state: ControllerState, part: int = 0, parts: int = 1) -> dict[str, bytes]:
    """All small rows, and the large ones of every `parts`-th deployment from `part` on.

    Errors: PolicyFault when the policy's memory is no plain data.
    """
    encode = msgspec.json.Encoder(order="sorted").encode
    head = _Head(
        STATE_VERSION,
        state.tick,
        state.decided_at_s,
        state.policy_name,
        state.pool_nodes,
        state.pools,
        state.conditions,
    )
    rows = {
        "head": encode(head),
        "book": encode(state.book),
        "policy": encode(plain_state(state.policy_name, _without_deployments(state.policy_state))),
    }
    of_policy, forecasters = _by_deployment(state.policy_state), state.forecaster_keys()
    for i, (key, memory) in enumerate(sorted(state.deployments.items())):
        rows[_NEAR + key] = encode(_near(memory))
        if i % parts == part % parts:
            rows[_DEMAND + key] = encode(memory.demand)
            if key in forecasters:
                rows[_FORECASTER + key] = encode(state.plain_forecaster(key))
            if key in of_policy:
                rows[_POLICY + key] = encode(plain_state(state.policy_name, of_policy[key]))
    for key in of_policy.keys() - state.deployments.keys():
        rows[_POLICY + key] = encode(plain_state(state.policy_name, of_policy[key]))
    return rows


def _near(memory: DeploymentMemory) -> _Near:
    return _Near(memory.supply, memory.hints, memory.coverage, memory.seen_at_s, memory.busy_rps, memory.busy_at_s)


def _by_deployment(policy_state: Any) -> Mapping[str, Any]:
    """The policy's memory of each deployment, if it is kept by deployment."""
    found = _parts_of(policy_state).get("deployments")
    return found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else {}


def _without_deployments(policy_state: Any) -> Any:
    """The rest of the policy's memory."""
    return _parts_of(policy_state) | {"deployments": {}} if _by_deployment(policy_state) else policy_state


def _parts_of(policy_state: Any) -> dict[str, Any]:
    """Memory by field name; a saved one is a dict already."""
    if isinstance(policy_state, dict):
        return policy_state
    return {f.name: getattr(policy_state, f.name) for f in fields(policy_state)} if is_dataclass(policy_state) else {}


def row_names(state: ControllerState) -> set[str]:
    """Names of every row that this state has; other stored rows are obsolete."""
    names = {"head", "book", "policy"}
    for key in state.deployments:
        names |= {_NEAR + key, _DEMAND + key}
    names |= {_POLICY + key for key in _by_deployment(state.policy_state)}
    return names | {_FORECASTER + key for key in state.forecaster_keys()}


def unreadable(name: str, row: bytes) -> str:
    """Reason why a row cannot be read back; empty if it can. (A NaN is saved as null, for example.)"""
    prefix, _, _ = name.partition("/")
    try:
        msgspec.json.decode(row, type=_KINDS.get(prefix, Any))
    except (msgspec.MsgspecError, ValueError) as error:
        return str(error)
    return ""


def from_rows(rows: Mapping[str, bytes], lost: list[str] | None = None) -> ControllerState:
    """State from saved rows. A damaged row loses only what it holds; `lost` gets a line about it. Without `lost` a
    damaged row is an error.

    Errors: LeadtimeError when the rows are no state of this version.
    """
    if LEGACY in rows:
        return ControllerState.from_bytes(rows[LEGACY])
    if lost is not None:
        rows = _readable(rows, lost)
    head = _decoded(rows, "head", _Head)
    if head.version != STATE_VERSION:
        raise LeadtimeError(f"saved controller state has version {head.version}; this leadtime reads {STATE_VERSION}")
    deployments = {}
    forecasters = {}
    of_policy = {}
    for name in rows:
        if name.startswith(_NEAR):
            key = name.removeprefix(_NEAR)
            near = _decoded(rows, name, _Near)
            demand = _decoded(rows, _DEMAND + key, DemandMemory) if _DEMAND + key in rows else DemandMemory()
            deployments[key] = DeploymentMemory(
                demand, near.supply, near.hints, near.coverage, near.seen_at_s, near.busy_rps, near.busy_at_s
            )
        elif name.startswith(_FORECASTER):
            forecasters[name.removeprefix(_FORECASTER)] = _decoded(rows, name, Any)
        elif name.startswith(_POLICY):
            of_policy[name.removeprefix(_POLICY)] = _decoded(rows, name, Any)
    policy_state = _decoded(rows, "policy", dict[str, Any] if of_policy else Any)
    if of_policy:
        policy_state["deployments"] = of_policy
    return ControllerState(
        head.tick,
        head.decided_at_s,
        head.policy_name,
        policy_state,
        deployments,
        head.pools,
        _decoded(rows, "book", StageBook),
        forecasters,
        head.pool_nodes,
        head.conditions,
    )


def _readable(rows: Mapping[str, bytes], lost: list[str]) -> dict[str, bytes]:
    """The rows without damaged ones; rows that every state must have are replaced by empty ones."""
    kept = dict(rows)
    for name in sorted(rows.keys() - {"head"}):
        why = unreadable(name, rows[name])
        if why:
            lost.append(f"the saved {name.replace('/', ' of ', 1)} is damaged ({why}) and begins anew")
            del kept[name]
    kept.setdefault("book", msgspec.json.encode(StageBook()))
    kept.setdefault("policy", b"{}" if any(name.startswith(_POLICY) for name in kept) else b"null")
    return kept


def _decoded(rows: Mapping[str, bytes], name: str, kind: type[T] | Any) -> Any:
    try:
        return msgspec.json.decode(rows[name], type=kind)
    except KeyError:
        raise LeadtimeError(f"saved controller state cannot be read: row {name!r} is missing") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise LeadtimeError(f"saved controller state cannot be read: row {name!r}: {error}") from None


_KINDS: Mapping[str, Any] = {
    "head": _Head,
    "book": StageBook,
    "near": _Near,
    "demand": DemandMemory,
}
"""Record type of the rows of each prefix. Forecasters and policies have formats of their own and check
them themselves.
"""
