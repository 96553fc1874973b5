"""A controller from its settings: with the policy that they name, and with leadtime's own forecasters."""

from __future__ import annotations

from autoscaler.core.controller import Controller
from autoscaler.core.state import ControllerState
from autoscaler.core.types import ControllerConfig
from policies.base import Policy
from policies.forecasting.service import ForecastingService
from policies.registry import create_policy


def new_controller(
    config: ControllerConfig, state: ControllerState | None = None, policy: Policy | None = None
) -> Controller:
    """`state` None: a controller with an empty memory. Errors: PolicyError for a policy or options that
    do not exist.
    """
    policy = policy or create_policy(config.policy_name, config.policy_options)
    return Controller(config, state or ControllerState(), policy, ForecastingService())
