"""Where a tuner may look: declared beside each option, within what the option allows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from policies.base import PolicyError
from policies.options import among, between, option, parse_options, search_space
from policies.registry import create_policy, policy_names

NOTHING_TO_TUNE = {"static", "static_mean", "oracle", "oracle_lead"}


@dataclass(frozen=True)
class Example:
    plain: float = option(1.0, doc="not searched")
    share: float = option(0.5, low=0, high=1, doc="d", search=between(0.1, 0.9))
    count: int = option(3, low=1, doc="d", search=between(1, 5))
    wait_s: float | None = option(None, low=0, doc="d", search=between(0, 600, start=60.0))
    word: str = option("a", doc="d", search=among("a", "b"))


def test_a_space_holds_what_is_declared_with_where_to_begin() -> None:
    space = search_space(Example)
    assert list(space) == ["share", "count", "wait_s", "word"]
    assert (space["share"].start, space["wait_s"].start, space["word"].start) == (0.5, 60.0, "a")
    assert [s.whole for s in space.values()] == [False, True, False, False]


def test_a_range_that_leaves_what_is_allowed_is_refused() -> None:
    @dataclass(frozen=True)
    class Wide:
        share: float = option(0.5, low=0, high=1, doc="d", search=between(0.1, 1.5))

    with pytest.raises(PolicyError, match=r"search of option share: 1\.5; allowed: a number >= 0 and <= 1"):
        search_space(Wide)


@pytest.mark.parametrize("name", policy_names())
def test_every_rival_says_where_to_look_and_accepts_what_lies_there(name: str) -> None:
    kind = type(create_policy(name, {}))
    options = kind.Options  # type: ignore[attr-defined]
    space = search_space(options)
    assert bool(space) == (name not in NOTHING_TO_TUNE)
    for key, search in space.items():
        for value in search.values or (search.low, search.high):
            chosen = int(value) if search.whole else value
            parsed = parse_options(options, {key: chosen}, name)
            assert replace(parsed) == parsed
