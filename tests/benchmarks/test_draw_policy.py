"""The pictures of docs/policy.md: every rule is a dot, every stretch of one block a band."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.draw_policy import Look, Record, Rule, day_picture, kind_of, rules_picture
from policies.predictive.rules.family import Family


def paths(svg: str, kind: str) -> int:
    """How many shapes of a class a well-formed picture has."""
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
    return sum(path.get("class") == kind for path in found)


@pytest.mark.parametrize("name", Family().names)
def test_every_rule_belongs_to_a_block_with_a_colour(name: str) -> None:
    assert name.startswith(f"{kind_of(name)} ")


def test_a_clock_vendor_is_no_clock() -> None:
    assert kind_of("clock vendor 16") == "clock vendor"


def test_each_rule_is_a_dot_and_the_followed_one_is_named() -> None:
    rules = (Rule("hold", 0.01, 4.0), Rule("early", 0.002, 5.0), Rule("reactive", 0.0, 9.0))
    svg = rules_picture(Record(14.0, rules, 1, "early 0.7", 3.0, 0.01))
    assert paths(svg, "dot") == 3
    assert paths(svg, "chosen") == 1
    assert "'early 0.7', followed" in "".join(ElementTree.fromstring(svg).itertext())


def test_each_stretch_of_one_block_is_a_band() -> None:
    kinds = ["hold", "hold", "clock", "hold"]
    looks = [Look(60.0 * i, 2.0, 3, 3, kind, 4.0) for i, kind in enumerate(kinds, 1)]
    assert paths(day_picture(looks), "band") == 3
