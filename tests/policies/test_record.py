"""Records that are frozen for the type checker alone are in everything else what frozen dataclasses are."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest

from policies.base import Term, TokenMix
from policies.base.record import open_form, record


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    wants: int = 1


@record(frozen=True, slots=True)
class Cheap:
    name: str
    wants: int = 1


def test_they_are_equal_hashed_and_shown_by_their_fields() -> None:
    assert Cheap("a") == Cheap("a", 1) != Cheap("b")
    assert hash(Cheap("a", 2)) == hash(Frozen("a", 2))
    assert {Cheap("a"): 1}[Cheap("a")] == 1
    assert repr(Cheap("a")) == "Cheap(name='a', wants=1)"


def test_they_have_no_room_for_anything_else() -> None:
    assert not hasattr(Cheap("a"), "__dict__")
    assert [f.name for f in fields(Cheap)] == ["name", "wants"]


def test_they_can_be_replaced_and_sent_to_another_process() -> None:
    assert replace(Cheap("a"), wants=3) == Cheap("a", 3)
    assert pickle.loads(pickle.dumps(Term("load", 2, "why"))) == Term("load", 2, "why")
    assert len({TokenMix(1.0, 2.0), TokenMix(1.0, 2.0)}) == 1


def test_what_is_filled_in_its_open_form_is_then_a_frozen_one_like_any_other() -> None:
    made = open_form(Frozen)("a")
    made.__class__ = Frozen
    assert made == Frozen("a", 1)
    with pytest.raises(FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
