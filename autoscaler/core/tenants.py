"""Limits on what tenants may change of an admin's settings: the checks belong to the input, whatever its form.

Annotations are one form, Autoscaler objects another. Pure: takes the entries of the settings file and the request,
returns entries that are never wider, and the refusals as text. Reading the two forms is in sources/kuberay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from autoscaler.core.types import DeploymentSettings, RecurringLoad, TenantRules
from policies.base import Slo
from policies.capacity import EngineProfile

LAST_PRIORITY = -1001
"""Priority below every priority that an entry may have (deployments[].priority)."""

NO_MORE_SAID = TenantRules()
"""Rules of a settings file without a `tenants` block."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a tenant requests for its service; None: not requested."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    slo_ttft_s: float | None = None
    slo_itl_s: float | None = None
    target_fraction: float | None = None
    profile: EngineProfile | None = None
    node_pools: tuple[str, ...] | None = None
    weight: float | None = None
    priority: int | None = None
    schedule: tuple[RecurringLoad, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """The deployments that a request is about: one service, and an application or deployment of it (`*`: all)."""

    namespace: str
    service: str
    app: str = "*"
    deployment: str = "*"

    @property
    def pattern(self) -> str:
        return f"{self.namespace}/{self.service}/{self.app}/{self.deployment}"

    def within(self, match: str) -> str | None:
        """The pattern of an entry, for this scope only; None when the entry is for others."""
        parts = match.split("/")
        if len(parts) == 2:
            parts = ["*", "*", *parts]
        if len(parts) != 4 or not service_matches(match, self.namespace, self.service):
            return None
        own = []
        for asked, pattern in zip((self.app, self.deployment), parts[2:], strict=True):
            if asked != "*" and not fnmatchcase(asked, pattern):
                return None
            own.append(pattern if asked == "*" else asked)
        return "/".join([self.namespace, self.service, *own])


def service_matches(match: str, namespace: str, service: str) -> bool:
    """Could the pattern hold for some deployment of the service?"""
    parts = match.split("/")
    if len(parts) == 2:
        return True
    return len(parts) == 4 and fnmatchcase(namespace, parts[0]) and fnmatchcase(service, parts[1])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is refused: its name as in `Asked`, and why."""

    what: str
    why: str


def entries_for(
    settings: Iterable[DeploymentSettings],
    scope: Scope,
    asked: Asked,
    rules: TenantRules = NO_MORE_SAID,
    budgets: Collection[str] = (),
) -> tuple[tuple[DeploymentSettings, ...], tuple[Refusal, ...]]:
    """The entries that hold for a scope because of a request, to stand before all others; and what is refused.

    Every entry of the file that could match is repeated for the scope alone, as far narrower as is asked for; where no
    entry could and a maximum is asked for, one for the whole scope, inside `rules` (`budgets`: the kinds of GPU that
    have one). An entry that follows another deployment keeps its own numbers.
    """
    if asked == Asked():
        return (), ()
    made: list[DeploymentSettings] = []
    refused: list[Refusal] = []
    for entry in settings:
        match = scope.within(entry.match)
        if match is None:
            continue
        changed, refusals = (entry, ()) if entry.follows else narrowed(entry, asked, rules.max_step_up)
        refused += refusals
        made.append(replace(changed, match=match))
    if not made:
        alone, refusals = unlisted(scope.pattern, asked, rules, budgets)
        refused += refusals
        made += () if alone is None else (alone,)
    return tuple(made), tuple(dict.fromkeys(refused))


def narrowed(
    entry: DeploymentSettings, asked: Asked, max_step_up: int
) -> tuple[DeploymentSettings, tuple[Refusal, ...]]:
    """`entry` with the request applied as far as the entry allows; refused parts stay as in the entry.

    The range of replicas may shrink and the SLO may become laxer; the opposite only if `may_widen` allows it. Weight
    and priority may only fall, node pools only be some of the entry's; a profile is taken where the entry has none. A
    schedule comes beside the entry's: what it announces is a want like any other.
    Guarantee and kind of GPU are set by the admin only. A raised minimum gives no precedence in a scarce budget, and a
    wider range than the entry's is used by at most `max_step_up` more replicas a tick.
    """
    refusals: list[Refusal] = []
    least, most = entry.min_replicas, entry.max_replicas
    if asked.max_replicas is not None and asked.max_replicas > most and "max_replicas" not in entry.may_widen:
        refusals.append(Refusal("max_replicas", f"{asked.max_replicas} is above the {most} of {entry.match!r}"))
    elif asked.max_replicas is not None:
        most = asked.max_replicas
    if asked.min_replicas is not None and asked.min_replicas < least and "min_replicas" not in entry.may_widen:
        refusals.append(Refusal("min_replicas", f"{asked.min_replicas} is below the {least} of {entry.match!r}"))
    elif asked.min_replicas is not None and asked.min_replicas > most:
        refusals.append(Refusal("min_replicas", f"{asked.min_replicas} is above the maximum {most}"))
    elif asked.min_replicas is not None:
        least = asked.min_replicas
    if least > most:
        refusals.append(Refusal("max_replicas", f"{most} is below the minimum {least} of {entry.match!r}"))
        least, most = entry.min_replicas, entry.max_replicas
    slo, strict = _slo(entry, asked)
    placed, misplaced = _rank_and_place(entry, asked)
    wider = least > entry.min_replicas or most > entry.max_replicas
    made = replace(
        placed,
        schedule=(*entry.schedule, *asked.schedule),
        min_replicas=least,
        max_replicas=most,
        slo=slo,
        entry=entry.entry or entry.match,
        insists_on=min(least, entry.min_replicas),
        max_step_up=max_step_up if wider else entry.max_step_up,
    )
    return made, (*refusals, *strict, *misplaced)


def unlisted(
    match: str, asked: Asked, rules: TenantRules, budgets: Collection[str]
) -> tuple[DeploymentSettings | None, tuple[Refusal, ...]]:
    """An entry for a service that the file does not list, within `rules`; None: it is only observed.

    It counts in a GPU budget if there is one, after every listed deployment, and has no guarantee, rank or node pool
    that it asks for.
    """
    unheard = tuple(
        Refusal(what, "no entry of the settings matches this service: it has the last rank and no node pools")
        for what, wanted in (("node_pools", asked.node_pools), ("weight", asked.weight), ("priority", asked.priority))
        if wanted is not None
    )
    if asked.max_replicas is None:
        return None, unheard
    if rules.max_replicas == 0:
        why = "no entry of the settings matches this service; it is only observed"
        return None, (Refusal("max_replicas", why), *unheard)
    gpu = rules.gpu or (next(iter(budgets)) if len(budgets) == 1 else "")
    if budgets and not gpu:
        why = "no entry of the settings matches this service, and tenants.gpu does not tell which budget it is in"
        return None, (Refusal("max_replicas", f"{why}; it is only observed"), *unheard)
    most = min(asked.max_replicas, rules.max_replicas)
    base = DeploymentSettings(match, min_replicas=min(1, most), max_replicas=rules.max_replicas)
    allowed = replace(asked, node_pools=None, weight=None, priority=None)
    made, refusals = narrowed(replace(base, may_widen=("min_replicas", "slo")), allowed, rules.max_step_up)
    refused = tuple(replace(r, why=r.why.replace(f"of {match!r}", "of tenants.max_replicas")) for r in refusals)
    return replace(
        made,
        priority=LAST_PRIORITY,
        gpus_per_replica=rules.gpus_per_replica,
        gpu=gpu,
        may_widen=(),
        entry="",
        insists_on=0,
        max_step_up=rules.max_step_up,
        unlisted=True,
    ), (*refused, *unheard)


def _rank_and_place(entry: DeploymentSettings, asked: Asked) -> tuple[DeploymentSettings, list[Refusal]]:
    """Where its replicas run, how they rank and what one can do: only ever to the good of others."""
    refusals: list[Refusal] = []
    weight, priority, pools, profile = entry.weight, entry.priority, entry.node_pools, entry.profile
    if asked.weight is not None and asked.weight > weight:
        refusals.append(Refusal("weight", f"{asked.weight:g} is above the {weight:g} of {entry.match!r}"))
    elif asked.weight is not None:
        weight = asked.weight
    if asked.priority is not None and asked.priority > priority:
        refusals.append(Refusal("priority", f"{asked.priority} is above the {priority} of {entry.match!r}"))
    elif asked.priority is not None:
        priority = asked.priority
    if asked.node_pools is not None:
        others = [pool for pool in asked.node_pools if pool not in pools]
        allowed = ", ".join(pools) or "none"
        for pool in others:
            refusals.append(Refusal("node_pools", f"{pool!r} is none of {entry.match!r}; allowed: {allowed}"))
        pools = pools if others else asked.node_pools
    if asked.profile is not None and asked.profile != profile:
        if profile is not None:
            refusals.append(Refusal("profile", f"{entry.match!r} has one already"))
        else:
            profile = asked.profile
    by_tenant = entry.profile_by_tenant or profile is not entry.profile
    placed = replace(
        entry, weight=weight, priority=priority, node_pools=pools, profile=profile, profile_by_tenant=by_tenant
    )
    return placed, refusals


def _slo(entry: DeploymentSettings, asked: Asked) -> tuple[Slo, list[Refusal]]:
    """A stricter SLO needs more GPUs, so only the admin may set it."""
    slo, refusals = entry.slo, []
    free = "slo" in entry.may_widen
    for what, before, wanted in (
        ("slo_ttft_s", slo.ttft_s, asked.slo_ttft_s),
        ("slo_itl_s", slo.itl_s, asked.slo_itl_s),
    ):
        if wanted is None or wanted == before:
            continue
        if not free and (before is None or wanted < before):
            limit = "no promise" if before is None else f"the {before:g} s"
            refusals.append(Refusal(what, f"{wanted:g} s is stricter than {limit} of {entry.match!r}"))
        elif what == "slo_ttft_s":
            slo = Slo(wanted, slo.itl_s, slo.target_fraction)
        else:
            slo = Slo(slo.ttft_s, wanted, slo.target_fraction)
    share = asked.target_fraction
    if share is not None and share > slo.target_fraction and not free:
        why = f"{share:g} is stricter than the {slo.target_fraction:g} of {entry.match!r}"
        refusals.append(Refusal("target_fraction", why))
    elif share is not None:
        slo = Slo(slo.ttft_s, slo.itl_s, share)
    return slo, refusals
