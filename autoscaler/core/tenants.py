"""Limits on what tenants may change of an admin's settings: the checks belong to the input, whatever its form.

Annotations are one form; a custom resource would be another. Pure: takes an entry of the settings file and the request,
returns an entry that is never wider, and the refusals as text. Reading annotations is in annotations.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from autoscaler.core.types import DeploymentSettings, TenantRules
from policies.base import Slo

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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is refused: its name as in `Asked`, and why."""

    what: str
    why: str


def narrowed(
    entry: DeploymentSettings, asked: Asked, max_step_up: int
) -> tuple[DeploymentSettings, tuple[Refusal, ...]]:
    """`entry` with the request applied as far as the entry allows; refused parts stay as in the entry.

    The range of replicas may shrink and the SLO may become laxer; the opposite only if `may_widen` allows it. Weight,
    priority, guarantee and kind of GPU are set by the admin only. A raised minimum gives no precedence in a scarce
    budget, and a wider range than the entry's is used by at most `max_step_up` more replicas a tick.
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
    wider = least > entry.min_replicas or most > entry.max_replicas
    made = replace(
        entry,
        min_replicas=least,
        max_replicas=most,
        slo=slo,
        entry=entry.entry or entry.match,
        insists_on=min(least, entry.min_replicas),
        max_step_up=max_step_up if wider else entry.max_step_up,
    )
    return made, (*refusals, *strict)


def unlisted(
    match: str, asked: Asked, rules: TenantRules, budgets: Collection[str]
) -> tuple[DeploymentSettings | None, tuple[Refusal, ...]]:
    """An entry for a service that the file does not list, within `rules`; None: it is only observed.

    It counts in a GPU budget if there is one, after every listed deployment, and has no guarantee.
    """
    if asked.max_replicas is None:
        return None, ()
    if rules.max_replicas == 0:
        return None, (Refusal("max_replicas", "no entry of the settings matches this service; it is only observed"),)
    gpu = rules.gpu or (next(iter(budgets)) if len(budgets) == 1 else "")
    if budgets and not gpu:
        why = "no entry of the settings matches this service, and tenants.gpu does not tell which budget it is in"
        return None, (Refusal("max_replicas", f"{why}; it is only observed"),)
    most = min(asked.max_replicas, rules.max_replicas)
    base = DeploymentSettings(match, min_replicas=min(1, most), max_replicas=rules.max_replicas)
    made, refusals = narrowed(replace(base, may_widen=("min_replicas", "slo")), asked, rules.max_step_up)
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
    ), refused


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
