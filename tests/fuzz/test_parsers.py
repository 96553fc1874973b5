"""Whatever others send ends in a value or in the declared error, soon. `make fuzz` does the same for ten minutes."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import mutated
from tests.fuzz.parsers import DECLARED, Parser, all_parsers

PARSERS = all_parsers()
MOST_S = 5.0
"""Of processor time, for one input of some kilobytes; a hang is what it finds."""
MOST_BYTES = 64e6


def outcome(parser: Parser, data: bytes) -> object:
    try:
        return parser.run(data)
    except DECLARED as error:
        return error


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_the_good_sample_is_understood(parser: Parser) -> None:
    parser.run(parser.good)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_sample_with_mistakes_ends_in_a_value_or_the_declared_error(parser: Parser, seed: int) -> None:
    began_s = time.process_time()
    outcome(parser, mutated(parser.good, parser.structured, random.Random(seed)))
    assert time.process_time() - began_s < MOST_S


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_end_in_a_value_or_the_declared_error(parser: Parser, data: bytes) -> None:
    outcome(parser, data)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@pytest.mark.parametrize("bomb", [b"[" * 1_000, b'{"a":' * 5_000, b"a: &a [x]\nb: [" + b"*a," * 900 + b"]"])
def test_what_is_nested_or_repeated_takes_no_memory_out_of_proportion(parser: Parser, bomb: bytes) -> None:
    tracemalloc.start()
    outcome(parser, bomb)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < MOST_BYTES
