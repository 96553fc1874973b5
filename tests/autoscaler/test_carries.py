"""What a replica carries of a mix: the engine's own numbers, from a law in one function."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.carries import carried, flat
from policies.base import Slo, TokenMix
from policies.engines import capacity, load_profile, preset_names

LOADS = st.floats(0.0, 1e5)


@pytest.mark.parametrize("name", preset_names())
@settings(max_examples=50, deadline=None)
@given(loads=st.tuples(LOADS, LOADS, LOADS, LOADS), asynchronous=st.booleans())
def test_a_step_takes_exactly_as_long_as_the_profile_says(
    name: str, loads: tuple[float, float, float, float], asynchronous: bool
) -> None:
    profile = load_profile(name)
    profile = replace(profile, scheduling=replace(profile.scheduling, asynchronous=asynchronous))
    assert flat(profile).step_s(*loads) == profile.step_s(*loads)


@pytest.mark.parametrize("name", preset_names())
def test_a_step_at_and_beyond_the_knots_of_a_table_is_the_profiles(name: str) -> None:
    profile = load_profile(name)
    for tokens, _ in profile.step.knots:
        for scheduled in (0.5 * tokens, tokens, 2.0 * tokens):
            assert flat(profile).step_s(scheduled, 0.0) == profile.step_s(scheduled, 0.0)
            assert flat(profile).step_s(1.0, 50.0, scheduled, 9.0) == profile.step_s(1.0, 50.0, scheduled, 9.0)


@pytest.mark.parametrize("slo", [Slo(), Slo(ttft_s=1.0, itl_s=0.05)])
@pytest.mark.parametrize("name", preset_names())
def test_a_mix_in_three_digits_is_carried_as_the_engine_says(name: str, slo: Slo) -> None:
    profile = load_profile(name)
    trembling = TokenMix(1234.4, 250.3, 99.96)
    assert carried(profile, trembling, slo) == capacity(profile, TokenMix(1230.0, 250.0, 100.0), slo)
    assert carried(profile, TokenMix(700.2, 99.0), slo) == capacity(profile, TokenMix(700.0, 99.0, 0.0), slo)
