"""Settings by annotation, `leadtime.dev/...` on a RayService or RayCluster: read, and held to the settings file.

Pure. A set with one wrong annotation is not used at all: the last one that was right stays in force, or none. Two are
heard in any case, because they can only hold leadtime back: `paused` (also with a value that nobody understands) and
`enabled: "false"`. What they may change is in tenants.py. Not for finding objects: services.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from autoscaler.core.tenants import NO_MORE_SAID, Asked, Scope, entries_for
from autoscaler.core.types import ActWay, DeploymentSettings, TenantRules
from autoscaler.sources.kuberay.objects import ANNOTATION_PREFIX
from policies.base import LEAST_TARGET_FRACTION, LONGEST_ITL_S, LONGEST_TTFT_S, TARGET_FRACTION_BELOW
from policies.options import nearest

MOST_REPLICAS = 100_000
"""As many as a policy inside Serve takes; one absurd target would make the whole published plan unusable there."""
_MOST_PROBLEMS = 16
"""Unknown annotations of one object that are told of."""
_YES, _NO = ("true",), ("false",)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the annotations ask for; None: nothing said."""

    enabled: bool | None = None
    paused: bool = False
    min_replicas: int | None = None
    max_replicas: int | None = None
    slo_ttft_s: float | None = None
    slo_itl_s: float | None = None
    target_fraction: float | None = None
    act: ActWay | None = None

    @property
    def asked(self) -> Asked:
        """What they ask for, beyond on and off."""
        return Asked(self.min_replicas, self.max_replicas, self.slo_ttft_s, self.slo_itl_s, self.target_fraction)


@dataclass(frozen=True, slots=True)
class AnnotationReading:
    """The annotations in force, and what is wrong with those that were given."""

    annotations: Annotations
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kind:
    """One annotation: how to read it (ValueError: not allowed) and what is allowed, in words."""

    field: str
    read: Callable[[str], Any]
    allowed: str


def _boolean(text: str) -> bool:
    if text in _YES + _NO:
        return text in _YES
    raise ValueError


def _way(text: str) -> str:
    if text not in get_args(ActWay):
        raise ValueError
    return text


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= MOST_REPLICAS:
            raise ValueError
        return int(text)

    return read


def _up_to(most_s: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text)
        if not 0 < number <= most_s:
            raise ValueError
        return number

    return read


def _share(text: str) -> float:
    number = float(text)
    if not LEAST_TARGET_FRACTION <= number < TARGET_FRACTION_BELOW:
        raise ValueError
    return number


_KINDS: Mapping[str, _Kind] = {
    "enabled": _Kind("enabled", _boolean, '"true" or "false"'),
    "paused": _Kind("paused", _boolean, '"true" or "false"'),
    "act": _Kind("act", _way, "external or policy"),
    "min-replicas": _Kind("min_replicas", _whole(0), f"a whole number from 0 to {MOST_REPLICAS}"),
    "max-replicas": _Kind("max_replicas", _whole(1), f"a whole number from 1 to {MOST_REPLICAS}"),
    "slo-ttft-s": _Kind(
        "slo_ttft_s", _up_to(LONGEST_TTFT_S), f"seconds > 0 and <= {LONGEST_TTFT_S:g} (2000 ms are written 2)"
    ),
    "slo-itl-s": _Kind(
        "slo_itl_s", _up_to(LONGEST_ITL_S), f"seconds > 0 and <= {LONGEST_ITL_S:g} (50 ms are written 0.05)"
    ),
    "target-fraction": _Kind(
        "target_fraction", _share, f"a share >= {LEAST_TARGET_FRACTION:g} and < {TARGET_FRACTION_BELOW:g}"
    ),
}


def read_annotations(found: Iterable[tuple[str, str]], last_good: Annotations | None = None) -> AnnotationReading:
    """`found` without the prefix; `last_good` is what was in force before, which stays when these are wrong."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, text in found:
        kind = _KINDS.get(name)
        if kind is None:
            if len(problems) < _MOST_PROBLEMS:
                problems.append(f"{ANNOTATION_PREFIX}{name}: no such annotation{nearest(name[:64], _KINDS)}")
            continue
        try:
            values[kind.field] = kind.read(text)
        except ValueError:
            problems.append(f"{ANNOTATION_PREFIX}{name}: {text[:80]!r}; allowed: {kind.allowed}")
            if kind.field == "paused":
                values["paused"] = True
    made = Annotations(**values)
    if made.min_replicas is not None and made.max_replicas is not None and made.min_replicas > made.max_replicas:
        problems.append(
            f"{ANNOTATION_PREFIX}min-replicas: {made.min_replicas} is above "
            f"{ANNOTATION_PREFIX}max-replicas: {made.max_replicas}"
        )
    if not problems:
        return AnnotationReading(made)
    kept = replace(last_good or Annotations(), paused=made.paused)
    if made.enabled is False:
        kept = replace(kept, enabled=False)
    return AnnotationReading(kept, tuple(problems))


def settings_for_service(
    settings: Iterable[DeploymentSettings],
    namespace: str,
    service: str,
    annotations: Annotations,
    rules: TenantRules = NO_MORE_SAID,
    budgets: Collection[str] = (),
) -> tuple[tuple[DeploymentSettings, ...], tuple[str, ...]]:
    """The entries that hold for one service because of its annotations (core.tenants.entries_for); and problems."""
    made, refused = entries_for(settings, Scope(namespace, service), annotations.asked, rules, budgets)
    names = {kind.field: name for name, kind in _KINDS.items()}
    return made, tuple(f"{ANNOTATION_PREFIX}{names[one.what]}: {one.why}" for one in refused)
