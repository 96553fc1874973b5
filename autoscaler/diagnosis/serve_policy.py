"""The checks of a deployment whose levels a policy inside Serve's controller takes from the published plan."""

from __future__ import annotations

from collections.abc import Iterator

from autoscaler.core.gangs import no_whole_gang, whole_bounds
from autoscaler.core.types import ControllerConfig, DeploymentInventory, DeploymentSettings, ServeAutoscaling
from autoscaler.core.write_access import blocked_because
from autoscaler.diagnosis.finding import Finding
from leadtime_serve_policy import settings_of
from policies.base import DeploymentKey

_MEND = "see docs/serve-policy.md"


def policy_findings(
    config: ControllerConfig, key: DeploymentKey, seen: DeploymentInventory, entry: DeploymentSettings
) -> Iterator[Finding]:
    """Is the policy in the autoscaling_config ours, are its arguments right, and can it do what the plan says?"""
    blocked = blocked_because(key, seen)
    if blocked is not None or seen.autoscaling is None:
        yield Finding("warn" if config.dry_run else "fail", str(key), blocked or "it has no autoscaling_config", _MEND)
        return
    _, problems = settings_of(seen.autoscaling.policy_kwargs)
    for problem in problems:
        yield Finding("fail", str(key), f"the plan is not followed: {problem}", _MEND)
    as_it_is = seen.gang_size == 1 or no_whole_gang(entry, seen.gang_size)
    for words, mend in _limits(seen.autoscaling, entry if as_it_is else whole_bounds(entry, seen.gang_size)):
        yield Finding("warn", str(key), words, mend)
    service = seen.autoscaling.policy_kwargs.get("service")
    if service not in (None, "", f"{key.namespace}/{key.service}"):
        words = f"policy_kwargs.service is {service!r}; its name in the plan is {key.namespace}/{key.service}"
        yield Finding("fail", str(key), words, _MEND)
    elif not problems:
        yield Finding("ok", str(key), f"Serve's controller follows the plan; target {seen.target}, "
                      f"{seen.count('RUNNING')} running")  # fmt: skip


def _limits(seen: ServeAutoscaling, entry: DeploymentSettings) -> Iterator[tuple[str, str]]:
    """What of Serve's own settings bends the plan: (what, mend)."""
    for name, delay_s in (("upscale_delay_s", seen.upscale_delay_s), ("downscale_delay_s", seen.downscale_delay_s)):
        if delay_s:
            mend = f"set {name}: 0; the delays of Serve's default rule stand in policy_kwargs"
            yield f"{name} is {delay_s:g}: the plan is followed that much later", mend
    if seen.max_replicas is not None and seen.max_replicas < entry.max_replicas:
        words = f"max_replicas {seen.max_replicas} is below replicas.max {entry.max_replicas}"
        yield f"{words}: Serve cuts the plan to it", "make them the same"
    if seen.min_replicas is not None and seen.min_replicas > entry.min_replicas:
        words = f"min_replicas {seen.min_replicas} is above replicas.min {entry.min_replicas}"
        yield f"{words}: Serve keeps that many", "make them the same"
