"""YAML as people mean it: the plain scalars of version 1.2, and documents that both versions read alike."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.yaml_core import dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("n", "n"), ("true", True), ("False", False),
        ("1:30", "1:30"), ("012", 12), ("0o14", 12), ("0x1F", 31), ("1_000", "1_000"), ("-3", -3),
        ("1e8", 1e8), ("1e-07", 1e-7), (".5", 0.5), ("5.", 5.0), (".inf", float("inf")),
        ("2026-01-31", "2026-01-31"), ("~", None), ("null", None), ("", None), ("=", "="), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_a_plain_word_means_what_yaml_1_2_says(text: str, means: Any) -> None:
    found = load_yaml(f"key: {text}\n")["key"]
    assert (found, type(found)) == (means, type(means))


def test_merge_keys_stay() -> None:
    assert load_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")["b"] == {"x": 1, "y": 3}


_WORDS = st.sampled_from(
    ["on", "1e8", "0o17", "012", "1:30", "~", "", "null", "2026-01-31", "<<", "1_000", "0x1f", "-"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | _WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES)
def test_what_is_written_is_read_back_by_both_versions(value: Any) -> None:
    text = dump_yaml(value)
    assert load_yaml(text) == value
    assert yaml.safe_load(text) == value
