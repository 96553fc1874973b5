"""What Events say of capacity and images: scale-ups that failed, by pod and zone, and how long an image's pull took.

Pure. Events are words for people: what cannot be understood says nothing. Not for writing Events (events.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from autoscaler.common.fields import mapping, text, time_s
from autoscaler.kubernetes.resources import Object

FAILED_SCALE_UP, PULLED = "FailedScaleUp", "Pulled"
_PULLED_IN = re.compile(r'[Ss]uccessfully pulled image "([^"]*)" in ([0-9a-zµ.]+)')
_DURATION = re.compile(r"([0-9.]+)(h|ms|us|µs|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_ZONE = re.compile(r"\b([a-z]+-[a-z]+[0-9]+-[a-z])\b")
_STOCK = ("out of resources", "stockout", "does not have enough resources", "resource_pool_exhausted")


@dataclass(frozen=True, slots=True)
class FailedScaleUp:
    """The cluster autoscaler could not get a node for a pod."""

    namespace: str
    pod: str
    at_s: float
    kind: str
    """`stockout`, `quota` or `other`."""
    zones: tuple[str, ...] = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pod's image came; `seconds` without the wait for other pulls."""

    namespace: str
    pod: str
    seconds: float


def parse_failed_scale_up(obj: Object) -> FailedScaleUp | None:
    """None for an event about anything else than a pod, or of an unknown time."""
    about, words, at_s = mapping(obj, "regarding"), " ".join(text(obj, "note").split()), _at_s(obj)
    if text(obj, "reason") != FAILED_SCALE_UP or about.get("kind") != "Pod" or at_s is None:
        return None
    zones = tuple(dict.fromkeys(_ZONE.findall(words)))
    return FailedScaleUp(text(about, "namespace"), text(about, "name"), at_s, kind_of(words), zones, words)


def parse_pulled(obj: Object) -> Pulled | None:
    """None where no image had to come."""
    about, found = mapping(obj, "regarding"), _PULLED_IN.search(text(obj, "note"))
    if text(obj, "reason") != PULLED or about.get("kind") != "Pod" or found is None:
        return None
    return Pulled(text(about, "namespace"), text(about, "name"), _go_seconds(found[2]))


def kind_of(words: str) -> str:
    """What refused the capacity."""
    lowered = words.lower()
    if "quota" in lowered:
        return "quota"
    return "stockout" if any(word in lowered for word in _STOCK) else "other"


def _at_s(obj: Object) -> float | None:
    """When it happened last."""
    series = mapping(obj, "series")
    for said in (series.get("lastObservedTime"), obj.get("deprecatedLastTimestamp"), obj.get("eventTime")):
        at_s = time_s(said)
        if at_s is not None:
            return at_s
    return time_s(mapping(obj, "metadata").get("creationTimestamp"))


def _go_seconds(written: str) -> float:
    """Go's way to write a duration: 1m2.5s."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(written))
