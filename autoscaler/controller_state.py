"""The controller's whole memory, as plain data that survives a restart and starts a replay.

Everything that decides anything is in here; nothing else of the controller has memory. What is remembered of each
deployment and pool: memories.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import msgspec

from autoscaler.asking import plain_state
from autoscaler.errors import LeadtimeError
from autoscaler.memories import DeploymentMemory, NodeMemory
from policies.leadtimes import StageBook

STATE_VERSION = 1


@dataclass(slots=True)
class _Saved:
    version: int
    tick: int
    decided_at_s: float | None
    policy_name: str
    policy_state: Any
    deployments: dict[str, DeploymentMemory]
    pools: dict[str, NodeMemory]
    book: StageBook
    forecasters: dict[str, Any]
    pool_nodes: dict[str, int]
    conditions: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class ControllerState:
    """The controller's memory; `policy_state` and `forecasters` are plain data until a controller adopts them."""

    tick: int = 0
    decided_at_s: float | None = None
    policy_name: str = ""
    policy_state: Any = None
    deployments: dict[str, DeploymentMemory] = field(default_factory=dict)
    """By full deployment key."""
    pools: dict[str, NodeMemory] = field(default_factory=dict)
    book: StageBook = field(default_factory=StageBook)
    forecasters: dict[str, Any] = field(default_factory=dict)
    """By full deployment key: live forecasters, or their plain data after `from_bytes`."""
    pool_nodes: dict[str, int] = field(default_factory=dict)
    """Nodes that the policy last wanted, by pool."""
    conditions: dict[str, float] = field(default_factory=dict)
    """When what is wrong now was first seen (autoscaler.conditions.lasting)."""

    def to_bytes(self) -> bytes:
        """JSON, keys sorted, floats exact. Errors: PolicyFault when the policy's memory is no plain data."""
        data, _ = self.to_bytes_within(math.inf)
        assert data is not None
        return data

    def to_bytes_within(self, most_bytes: float) -> tuple[bytes | None, int]:
        """`to_bytes` and its length; None and about its length when that is more than `most_bytes`, known early."""
        encode = msgspec.json.Encoder(order="sorted").encode
        forecasters: dict[str, Any] = {}
        length = 0
        for key, forecaster in self.forecasters.items():
            forecasters[key] = msgspec.Raw(encode(plain_forecaster(forecaster)))
            length += len(forecasters[key])
            if length > most_bytes:
                return None, length * len(self.forecasters) // len(forecasters)
        saved = _Saved(
            STATE_VERSION,
            self.tick,
            self.decided_at_s,
            self.policy_name,
            plain_state(self.policy_name, self.policy_state),
            self.deployments,
            self.pools,
            self.book,
            forecasters,
            self.pool_nodes,
            self.conditions,
        )
        data = encode(saved)
        return (data if len(data) <= most_bytes else None), len(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> ControllerState:
        """Errors: LeadtimeError when the bytes are no state of this version."""
        try:
            saved = msgspec.json.decode(data, type=_Saved)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise LeadtimeError(f"saved controller state cannot be read: {error}") from error
        if saved.version != STATE_VERSION:
            raise LeadtimeError(
                f"saved controller state has version {saved.version}; this leadtime reads {STATE_VERSION}"
            )
        return cls(
            saved.tick,
            saved.decided_at_s,
            saved.policy_name,
            saved.policy_state,
            saved.deployments,
            saved.pools,
            saved.book,
            saved.forecasters,
            saved.pool_nodes,
            saved.conditions,
        )

    def memory(self, full_key: str) -> DeploymentMemory:
        found = self.deployments.get(full_key)
        if found is None:
            found = self.deployments[full_key] = DeploymentMemory()
        return found

    def forget_gone(self, now_s: float, after_s: float) -> None:
        """Drop deployments that nobody told of for so long: names come and go, and the state stays small."""
        gone = []
        for key, memory in self.deployments.items():
            if memory.seen_at_s is None:
                memory.seen_at_s = now_s
            elif now_s - memory.seen_at_s > after_s:
                gone.append(key)
        of_policy = getattr(self.policy_state, "deployments", None)
        for key in gone:
            del self.deployments[key]
            self.forecasters.pop(key, None)
            if isinstance(of_policy, dict):
                of_policy.pop(key, None)
            for stage in [stage for stage in self.book.stages if stage.startswith(f"{key}/")]:
                del self.book.stages[stage]


def plain_forecaster(forecaster: Any) -> Any:
    """A live forecaster gives its state; what came from `from_bytes` is plain data already."""
    return forecaster.state() if hasattr(forecaster, "state") else forecaster
