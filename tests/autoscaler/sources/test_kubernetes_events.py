"""Events of the cluster autoscaler and of kubelets: what they say of capacity and images, and what says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.sources.kubernetes.events import (
    FailedScaleUp,
    Pulled,
    kind_of,
    parse_failed_scale_up,
    parse_pulled,
)

AT = "2026-03-01T10:00:00Z"
AT_S = 1772359200.0


def event(reason: str, note: str, **changes: Any) -> dict[str, Any]:
    about = {"kind": "Pod", "namespace": "llm", "name": "worker-1"}
    return {
        "reason": reason,
        "note": note,
        "regarding": about,
        "eventTime": None,
        "deprecatedLastTimestamp": AT,
    } | changes


def test_a_stock_out_names_pod_zones_and_kind() -> None:
    words = "Node scale up in zones us-central1-a, us-central1-b associated with this pod failed: GCE out of resources."
    assert parse_failed_scale_up(event("FailedScaleUp", words)) == FailedScaleUp(
        "llm", "worker-1", AT_S, "stockout", ("us-central1-a", "us-central1-b"), words
    )


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("failed: GCE quota exceeded", "quota"),
        ("The zone does not have enough resources", "stockout"),
        ("ZONE_RESOURCE_POOL_EXHAUSTED", "stockout"),
        ("something else", "other"),
    ],
)
def test_quota_stock_and_the_rest_are_told_apart(words: str, kind: str) -> None:
    assert kind_of(words) == kind


def test_a_repeated_event_happened_when_it_was_last_seen() -> None:
    repeated = event("FailedScaleUp", "x", series={"count": 3, "lastObservedTime": "2026-03-01T10:05:00.000000Z"})
    found = parse_failed_scale_up(repeated)
    assert found is not None
    assert found.at_s == AT_S + 300.0


@pytest.mark.parametrize(
    ("note", "seconds"),
    [
        ('Successfully pulled image "ray:1" in 42.5s (42.5s including waiting). Image size: 1 bytes.', 42.5),
        ('Successfully pulled image "ray:1" in 1m2.5s (3m0s including waiting)', 62.5),
        ('Successfully pulled image "ray:1" in 812ms (812ms including waiting)', 0.812),
    ],
)
def test_a_pull_says_how_long_it_took(note: str, seconds: float) -> None:
    assert parse_pulled(event("Pulled", note)) == Pulled("llm", "worker-1", pytest.approx(seconds))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "odd",
    [
        event("Pulled", 'Container image "ray:1" already present on machine'),
        event("FailedScaleUp", "x", regarding={"kind": "Node", "name": "n"}),
        event("FailedScaleUp", "x", deprecatedLastTimestamp=None),
        event("Scheduled", "x"),
        {},
    ],
)
def test_what_cannot_be_understood_says_nothing(odd: dict[str, Any]) -> None:
    assert parse_failed_scale_up(odd) is None
    assert parse_pulled(odd) is None
