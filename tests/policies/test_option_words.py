"""The words that every error shares: the nearest name, a number as it was typed, and how a share is written."""

from __future__ import annotations

from typing import Any

import pytest

from policies.base import PolicyError
from policies.options import exact, nearest, percent_hint
from policies.registry import create_policy, policy_names


def test_names_that_begin_like_this_come_before_names_that_look_like_it() -> None:
    said = "; did you mean 'hpa_ongoing', 'hpa_queue' or 'hpa_kv'?"
    assert nearest("hpa", policy_names()) == said
    assert nearest("HPA", policy_names()) == said
    assert nearest("knat", ["knot", "knative"]) == "; did you mean 'knative'?"
    assert nearest("dynamo", ["dynamo_v1", "dynamo_v2"]) == "; did you mean 'dynamo_v1' or 'dynamo_v2'?"
    with pytest.raises(PolicyError, match="policy 'hpa': unknown; did you mean 'hpa_ongoing', 'hpa_queue' or"):
        create_policy("hpa", {})


def test_the_nearest_name_where_none_or_too_many_begin_like_this() -> None:
    assert nearest("statik", policy_names()) == "; did you mean 'static'?"
    assert nearest("node_", [f"node_{i}" for i in range(9)]).count("node_") == 1
    assert nearest("h", ["hpa_kv"]) == ""
    assert nearest("nothing like it", policy_names()) == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (9999999, "9999999"),
        (9999999.0, "9999999"),
        (1790000000.5, "1790000000.5"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-9, "1e-09"),
        (1e300, "1e+300"),
        (10**20, "100000000000000000000"),
        (-3.0, "-3"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_is_shown_with_every_digit(number: float, text: str) -> None:
    assert exact(number) == text


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("target_fraction", 99, " (0.99 means 99 %)"),
        ("target_fraction", "99%", " (0.99 means 99 %)"),
        ("target_fraction", "99.5 %", " (0.995 means 99.5 %)"),
        ("fraction", 50.0, " (0.5 means 50 %)"),
        ("target_fraction", "many", ""),
        ("target_fraction", 0.2, ""),
        ("target_fraction", 990, ""),
        ("target_fraction", True, ""),
        ("target_fraction", None, ""),
        ("replicas", 99, ""),
    ],
)
def test_a_share_that_was_written_in_percent_is_told_how_to_write_it(key: str, value: Any, hint: str) -> None:
    assert percent_hint(key, value) == hint


def test_a_policys_option_in_percent_is_told_how_to_write_it() -> None:
    for value in (80, "80%"):
        with pytest.raises(PolicyError, match=r"option target_fraction: .*; allowed: .* \(0.8 means 80 %\)$"):
            create_policy("hpa_ongoing", {"target_fraction": value})
