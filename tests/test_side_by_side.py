"""The rooms in which `make test` runs the tests leave none out."""

from __future__ import annotations

from tests.side_by_side import LONG, TESTS, rooms


def test_every_test_file_is_in_one_room() -> None:
    files = sorted(file for room in rooms().values() for file in room)
    assert files == sorted(str(file) for file in TESTS.rglob("test_*.py"))


def test_rooms_of_minutes_are_rooms_and_come_first() -> None:
    assert set(list(rooms())[: len(LONG)]) == set(LONG)
