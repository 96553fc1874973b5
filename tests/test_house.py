"""The rules of the house find what breaks them (`python -m tests.house` holds them to the product's code)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import house


@pytest.mark.parametrize(
    "text", ["class Outlook: ...", "def rehearse(): ...", "def f(felt): ...", "board = 1", "self._sight = 1"]
)
def test_a_private_word_is_refused_with_the_term_to_use(text: str) -> None:
    [said] = house.private_words("policies.made", "policies/made.py", ast.parse(text))
    assert said.startswith("policies/made.py:1: ")
    assert "use: " in said


def test_a_module_is_named_by_the_list_too_and_prose_is_free() -> None:
    assert list(house.private_words("policies.outlook", "policies/outlook.py", ast.parse("")))
    assert not list(house.private_words("policies.made", "policies/made.py", ast.parse('"""An outlook."""')))


@pytest.mark.parametrize(
    "text",
    [
        "hasattr(one, name)",
        "getattr(one, 'release', None)",
        "view.__class__ = View",
        "try:\n    one.release()\nexcept (KeyError, AttributeError):\n    pass",
    ],
)
def test_asking_an_object_what_it_can_do_is_refused(text: str) -> None:
    assert len(list(house.probes("policies/made.py", ast.parse(text)))) == 1


def test_a_field_by_a_name_that_is_computed_is_no_probe() -> None:
    assert not list(house.probes("policies/made.py", ast.parse("getattr(one, name)")))


def test_every_exception_is_one_of_a_probe_that_is_there() -> None:
    found: set[str] = set()
    allowed = dict(house.PROBES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house, "PROBES", {})
        for path in house.modules().values():
            file = path.relative_to(house.ROOT).as_posix()
            for line in house.probes(file, ast.parse(path.read_text(encoding="utf-8"))):
                inside = line.partition(" in ")[2].partition(" stands in for")[0]
                found.add(f"{file}:{inside}")
    assert set(allowed) == found


def test_reach_follows_lazy_imports_and_not_those_of_the_type_checker(tmp_path: Path) -> None:
    known = {}
    for name, text in {
        "a": "def f():\n    import b",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import c",
        "c": "import a",
    }.items():
        known[name] = tmp_path / f"{name}.py"
        known[name].write_text(text)
    assert house.reached("a", known) == {"a", "b"}
    assert house.circles(known) == [["a", "b", "c"]]
