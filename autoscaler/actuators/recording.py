"""The dry run: it records what would have been written, and writes nothing.

The default of a new install. It works beside Serve's own autoscaler, so a plan that an acting actuator would have to
refuse is recorded too, with that reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from autoscaler.core.ports import Actuator
from autoscaler.core.types import Applied, DeploymentPlan, Outcome, Plan, PoolPlan

KEPT = 10_000


class RecordingActuator(Actuator):
    """`recorded` holds the last withheld writes, oldest first."""

    def __init__(self, name: str = "recording", keep: int = KEPT, elsewhere: Collection[str] = ()) -> None:
        """`elsewhere`: pools of which an actuator of their own says what it would write."""
        self.name = name
        self._elsewhere = frozenset(elsewhere)
        self.recorded: deque[Applied] = deque(maxlen=keep)

    async def apply(self, plan: Plan, now_s: float) -> Outcome:
        applied = [self._deployment(one) for one in plan.deployments if one.target is not None]
        applied += [self._pool(pool) for pool in plan.pools if self._is_ours(pool)]
        self.recorded.extend(one for one in applied if one.outcome == "withheld")
        return Outcome(self.name, tuple(applied))

    async def close(self) -> None:
        """Nothing to give back."""

    def _deployment(self, plan: DeploymentPlan) -> Applied:
        if plan.target == plan.observed_target:
            return Applied(self.name, str(plan.key), "unchanged", plan.target)
        why = "dry run" if plan.blocked is None else f"dry run; otherwise refused: {plan.blocked}"
        return Applied(self.name, str(plan.key), "withheld", plan.target, why)

    def _is_ours(self, pool: PoolPlan) -> bool:
        return pool.nodes is not None and pool.name not in self._elsewhere

    def _pool(self, pool: PoolPlan) -> Applied:
        outcome = "unchanged" if pool.nodes == pool.observed_nodes else "withheld"
        return Applied(self.name, pool.name, outcome, pool.nodes, "" if outcome == "unchanged" else "dry run")
