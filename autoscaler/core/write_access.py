"""How a deployment is acted upon, and what prevents it. Pure.

Two ways: `external`, levels are posted to Ray Serve's external-scaler API; `policy`, nothing is posted and
`leadtime_serve_policy` inside Serve's controller follows the published plan. Serve allows only one of them at a time,
and so does leadtime: Serve's state has to agree with the settings.
"""

from __future__ import annotations

from autoscaler.core.types import DeploymentInventory
from policies.base import DeploymentKey

POLICY_FUNCTION = "leadtime_serve_policy:LeadtimePolicy"


def blocked_because(key: DeploymentKey, inventory: DeploymentInventory | None) -> str | None:
    """Why levels of this deployment cannot or must not be applied, with the exact change to make; None: nothing
    prevents it.
    """
    if inventory is None:
        return None
    follows = inventory.autoscaling is not None and inventory.autoscaling.follows_plan
    if inventory.act == "policy":
        if follows:
            return None
        now = "has no autoscaling_config" if inventory.autoscaling is None else "is scaled by another policy"
        return (
            f"{key} {now}, and act is policy: set `policy: {{policy_function: {POLICY_FUNCTION}}}` in its "
            "autoscaling_config (docs/serve-policy.md), or `act: external` for its service"
        )
    if follows:
        return (
            f"leadtime's policy is in the autoscaling_config of {key}, and act is external: set `act: policy` for its "
            "service (a found one: annotation leadtime.dev/act), or take the policy out"
        )
    if inventory.autoscaled_by_serve:
        return (
            f"Serve's own autoscaler works on {key}: set `autoscaling_config: null` and `num_replicas: 1` for it in "
            "the Serve config (for serve.llm: `num_replicas` in LLMConfig.deployment_config)"
        )
    if inventory.external_scaler_enabled is False:
        return f"set `external_scaler_enabled: true` on application {key.app!r} in the Serve config"
    return None


def on_its_way(inventory: DeploymentInventory, before: int | None, ours: int) -> bool:
    """Whether Serve's target is the old one or ours, so that no other writer changed it.

    A policy inside Serve follows a little later, so that its level may be anywhere between the two.
    """
    shown = inventory.target
    if shown in (ours, before):
        return True
    return inventory.act == "policy" and before is not None and min(before, ours) <= shown <= max(before, ours)
