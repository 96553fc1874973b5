"""Deployments that follow another one: CPU-only ingresses, which the policy does not decide about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from autoscaler import explain, guard
from autoscaler.model import ControllerConfig, DeploymentPlan, GuardRecord
from autoscaler.outlook import Outlook
from policies.base import DeploymentKey, Term


def follow(config: ControllerConfig, plans: Sequence[DeploymentPlan], fleet: Sequence[Outlook]) -> list[DeploymentPlan]:
    """CPU-only deployments keep in proportion to the one they follow, and never go to 0 or above their maximum.

    One that is paused stays as it is, and one of which not enough is known gives nothing up. `fleet`: as the plans are.
    """
    if not any(entry.follows for entry in config.deployments):
        return list(plans)
    result = []
    for plan, d in zip(plans, fleet, strict=True):
        settings = config.settings_for(plan.key)
        if settings is None or settings.follows is None or plan.observed_target is None or _paused(plan):
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
        level, records = _bounded(wanted, plan, d, max(1, settings.max_replicas))
        text = explain.sentence(plan.observed_target, level, (term,), records, plan.blocked, config.dry_run)
        made = replace(plan, target=level, proposed=wanted, terms=(term,), guards=tuple(records), sentence=text)
        result.append(made)
    return result


def _paused(plan: DeploymentPlan) -> bool:
    return any(record.name == guard.PAUSED for record in plan.guards)


def _bounded(wanted: int, plan: DeploymentPlan, d: Outlook, most: int) -> tuple[int, list[GuardRecord]]:
    """What it may have of what it wants."""
    records, level, shown = [], wanted, plan.observed_target
    if level > most:
        records.append(GuardRecord(guard.MAXIMUM, plan.key, level, most, f"replicas.max is {most}"))
        level = most
    if shown is not None and level < shown <= most:
        seen = d.observation
        if not seen.fresh:
            why = f"no scale-down on what is not known: {seen.why_stale}"
            records.append(GuardRecord(guard.UNKNOWN, plan.key, level, shown, why))
            level = shown
        elif seen.failing:
            why = f"{seen.failing}: failing is not idleness"
            records.append(GuardRecord(guard.FAILING, plan.key, level, shown, why))
            level = shown
    return level, records


def _leader(key: DeploymentKey, pattern: str, plans: Sequence[DeploymentPlan]) -> DeploymentPlan | None:
    """The one of its own service, else one of another that the pattern names by its whole name: a namesake in somebody
    else's namespace is followed by no accident."""
    found = [plan for plan in plans if plan.key.matches(pattern)]
    own = [plan for plan in found if plan.key[:2] == key[:2]]
    place = pattern.split("/")[:-2]
    named = [plan for plan in found if [*plan.key[:2]] == place]
    return next(iter([*own, *named]), None)
