"""A controller as it was before the restart."""

from __future__ import annotations

import logging

from autoscaler.common.errors import LeadtimeError, PolicyFault, StateError
from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import from_rows
from autoscaler.core.controller import Controller
from autoscaler.core.types import ControllerConfig
from autoscaler.runtime.store import StateStore
from policies.base import Policy
from policies.registry import create_policy

log = logging.getLogger("leadtime")


def restored_controller(config: ControllerConfig, store: StateStore | None, policy: Policy | None = None) -> Controller:
    """A controller with its saved state; what of that cannot be used any more is copied aside and begun anew.

    Errors: PolicyError when the policy cannot be made.
    """
    policy = policy or create_policy(config.policy_name, config.policy_options)
    if store is None:
        return new_controller(config, None, policy)
    try:
        saved = store.load_controller()
        lost: list[str] = []
        controller = new_controller(config, from_rows(saved, lost) if saved is not None else None, policy)
        notices = [*lost, *controller.notices]
    except LeadtimeError as error:
        if isinstance(error, PolicyFault):
            raise
        controller = new_controller(config, None, policy)
        notices = [f"{' '.join(str(error).split())}: learning begins anew"]
    if notices:
        log.warning("%s; %s", "; ".join(notices), _copied_aside(store))
    return controller


def _copied_aside(store: StateStore) -> str:
    try:
        return f"as it was the state is kept in {store.copy_aside()}"
    except StateError as error:
        return str(error)
