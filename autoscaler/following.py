"""Deployments that follow another one: CPU-only ingresses, which the policy does not decide about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autoscaler import explain
from autoscaler.model import ControllerConfig, DeploymentPlan
from policies.base import DeploymentKey, Term


def follow(config: ControllerConfig, plans: Sequence[DeploymentPlan]) -> list[DeploymentPlan]:
    """CPU-only deployments keep in proportion to the one they follow, and never go to 0."""
    if not any(entry.follows for entry in config.deployments):
        return list(plans)
    result = []
    for plan in plans:
        settings = config.settings_for(plan.key)
        if settings is None or settings.follows is None or plan.observed_target is None:
            result.append(plan)
            continue
        follows = settings.follows
        leader = _leader(plan.key, follows.deployment, plans)
        if leader is None or leader.target is None:
            why = f"left alone: {follows.deployment}, which it follows, is not there"
            if leader is not None:
                why = f"left alone, like {leader.key} which it follows"
            result.append(replace(plan, target=None, guards=(), sentence=why))
            continue
        wanted = max(1, follows.min_replicas, math.ceil(follows.ratio * leader.target - 1e-9))
        term = Term("follows", wanted, f"{follows.ratio:g} x {leader.target} replicas of {follows.deployment}")
        text = explain.sentence(plan.observed_target, wanted, (term,), (), plan.blocked, config.dry_run)
        result.append(replace(plan, target=wanted, proposed=wanted, terms=(term,), guards=(), sentence=text))
    return result


def _leader(key: DeploymentKey, pattern: str, plans: Sequence[DeploymentPlan]) -> DeploymentPlan | None:
    """The one of its own service, else one of another that the pattern names by its whole name: a namesake in somebody
    else's namespace is followed by no accident."""
    found = [plan for plan in plans if plan.key.matches(pattern)]
    own = [plan for plan in found if plan.key[:2] == key[:2]]
    place = pattern.split("/")[:-2]
    named = [plan for plan in found if [*plan.key[:2]] == place]
    return next(iter([*own, *named]), None)
