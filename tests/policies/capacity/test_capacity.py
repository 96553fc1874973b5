"""Engine profiles, their step law, and the capacity that follows."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import PolicyError, Slo, TokenMix
from policies.capacity import StepLaw, capacity
from policies.capacity.load import load_profile, parse_profile, preset_names

LLAMA = load_profile("llama-3.1-8b/h100/tp1")
MINIMAL = {"version": 1, "name": "m", "gpu": "g", "step": {"form": "affine", "a_s": 0.01}}

prompts = st.floats(1.0, 8000.0)
outputs = st.floats(1.0, 2000.0)


def test_an_affine_step_is_the_sum_of_its_parts() -> None:
    law = StepLaw("affine", a_s=0.01, b_s=0.001, c_s=1e-6, d_s=1e-5, e_s=1e-9, h_s=0.002)
    assert law.step_s(10, 5000) == pytest.approx(0.01 + 0.01 + 0.005)
    assert law.step_s(10, 5000, 100, 1000) == pytest.approx(0.025 + 0.001 + 1e-6 + 0.002)


def test_a_table_is_linear_between_knots_flat_before_and_straight_on_after() -> None:
    law = StepLaw("table", a_s=0.0, knots=((10.0, 1.0), (20.0, 2.0), (40.0, 3.0)))
    assert [law.table_s(x) for x in (1, 10, 15, 30, 40, 60)] == pytest.approx([1.0, 1.0, 1.5, 2.5, 3.0, 4.0])


@settings(max_examples=60)
@given(prompts, outputs, st.floats(1.0, 3.0), st.floats(1.0, 3.0))
def test_more_tokens_never_raise_capacity(prompt: float, output: float, more_p: float, more_o: float) -> None:
    slo = Slo()
    small = capacity(LLAMA, TokenMix(prompt, output), slo).rps
    large = capacity(LLAMA, TokenMix(prompt * more_p, output * more_o), slo).rps
    assert large <= small * (1 + 1e-6)


@settings(max_examples=60)
@given(prompts, outputs, st.floats(0.2, 4.0), st.floats(0.01, 0.2), st.floats(1.0, 3.0), st.floats(1.0, 3.0))
def test_a_looser_slo_never_lowers_capacity(
    prompt: float, output: float, ttft_s: float, itl_s: float, looser_ttft: float, looser_itl: float
) -> None:
    mix = TokenMix(prompt, output)
    tight = capacity(LLAMA, mix, Slo(ttft_s, itl_s)).rps
    loose = capacity(LLAMA, mix, Slo(ttft_s * looser_ttft, itl_s * looser_itl)).rps
    assert loose >= tight * (1 - 1e-6)


@settings(max_examples=40)
@given(prompts, outputs)
def test_at_capacity_every_bound_holds(prompt: float, output: float) -> None:
    slo = Slo(2.0, 0.05)
    found = capacity(LLAMA, TokenMix(prompt, output), slo)
    if found.rps > 0:
        assert found.step_s <= 0.05 * (1 + 1e-6)
        assert found.batch <= LLAMA.limits.max_num_seqs * (1 + 1e-6)
        assert found.kv_tokens <= 0.9 * LLAMA.limits.kv_tokens * (1 + 1e-6)
        assert found.rps <= 0.9 * found.saturation_rps * (1 + 1e-6)


def test_an_affine_capacity_under_the_itl_bound_is_the_closed_form() -> None:
    law = StepLaw("affine", a_s=0.02, b_s=1e-4, c_s=1e-7, d_s=2e-5)
    profile = replace(LLAMA, step=law, host_s=0.0)
    prompt, output, itl_s = 500.0, 100.0, 0.03
    work_s = output * (law.b_s + law.c_s * (prompt + output / 2)) + law.d_s * prompt
    found = capacity(profile, TokenMix(prompt, output), Slo(None, itl_s))
    assert found.limiter == "ITL"
    assert found.rps == pytest.approx((1 - law.a_s / itl_s) / work_s, rel=1e-4)


def test_an_slo_that_a_lone_request_misses_leaves_no_capacity_and_names_the_limit() -> None:
    found = capacity(LLAMA, TokenMix(500, 100), Slo(2.0, 0.001))
    assert (found.rps, found.limiter) == (0.0, "ITL")


def test_cached_prompt_tokens_raise_capacity() -> None:
    mix = TokenMix(4000, 100)
    assert capacity(LLAMA, replace(mix, cached_prompt_tokens=3000), Slo()).rps > capacity(LLAMA, mix, Slo()).rps


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_named_by_its_path_and_carries_something(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert capacity(profile, TokenMix(500, 100), Slo(5.0, 0.2)).rps > 0


def test_a_typo_in_a_presets_name_gets_the_nearest_one() -> None:
    with pytest.raises(PolicyError, match=r"did you mean 'llama-3.1-8b/h100/tp1'"):
        load_profile("llama-3.1-8b/h100/tp")


def test_a_profile_file_is_found_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{version: 1, name: mine, gpu: g, step: {form: affine, a_s: 0.01}}")
    assert load_profile("mine.yaml", tmp_path).name == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: 2"),
        ({"gpus": 0}, "gpus: 0; allowed: a whole number >= 1"),
        ({"limitz": {}}, "unknown key 'limitz'; did you mean 'limits'"),
        ({"limits": {"kv_token": 5}}, "unknown key 'kv_token'; did you mean 'kv_tokens'"),
        ({"step": {"form": "spline", "a_s": 1}}, "step.form: 'spline'; allowed: affine, table"),
        ({"step": {"form": "affine"}}, "step.a_s is missing"),
        ({"step": {"form": "table", "a_s": 1}}, "step.knots"),
        ({"step": {"form": "table", "a_s": 1, "knots": [[2, 1], [1, 2]]}}, "tokens ascending"),
        ({"step": {"form": "affine", "a_s": float("nan")}}, "step.a_s: nan"),
        ({"step": {"form": "affine", "a_s": 1e300}}, "step.a_s: 1e+300; allowed: a finite number >= 0, at most 1e+09"),
        ({"step": {"form": "affine", "a_s": 0}}, "step: a step takes no time at all"),
        ({"step": {"form": "affine", "a_s": 6}}, "step.a_s: 6; a step for one sequence would take 6 s, and no engine"),
        ({"step": {"form": "affine", "a_s": 0.006, "host_s": 1.5}}, "step.host_s: 1.5; the CPU time of a step"),
        ({"step": {"form": "affine", "a_s": 0.006, "c_s": 4e-5}}, "step.c_s: 4e-05; a step of 256 sequences"),
        ({"step": {"form": "affine", "a_s": 0.006, "d_s": 0.02}}, "step.d_s: 0.02; a step of 8192 prompt tokens"),
        (
            {"step": {"form": "table", "a_s": 0.006, "knots": [[1, 0], [8192, 180]]}},
            "step.knots; a step of 8192",
        ),
        ({"api_s": 7}, "api_s: 7; a request's time outside the engine would take 7 s"),
        ({"limits": {"kv_tokens": 5000, "max_model_len": 5000}}, "limits.max_model_len: 5000; its KV cache holds 4992"),
        ({"limits": {"kv_tokens": 0}}, "limits.kv_tokens: 0; allowed: a whole number >= 1"),
        ({"limits": {"kv_tokens": 10**20}}, "limits.kv_tokens: 100000000000000000000; allowed: a whole number >= 1"),
        ({"startup": {"load_s": 1e300}}, "startup.load_s: 1e+300"),
        ({"startup": {"load_s": {"median": 60, "p99": 30}}}, "startup.load_s: p99 30 is below the median 60"),
        ({"scheduling": {"asynchronous": 1}}, "scheduling.asynchronous: 1; allowed: true or false"),
        ({"price_usd_per_gpu_hour": -1}, "price_usd_per_gpu_hour: -1"),
    ],
)
def test_a_bad_profile_names_file_key_and_what_is_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_profile(MINIMAL | change, "mine.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine.yaml: ")
    assert "\n" not in str(caught.value)


def slow_enough(name: str) -> bool:
    """Thousandfold, its step and its KV reads are beyond what any engine that serves takes."""
    profile = load_profile(name)
    return profile.step.a_s > 0.002 and profile.step.c_s * profile.limits.kv_tokens > 0.01


@pytest.mark.parametrize("name", [name for name in preset_names() if slow_enough(name)])
def test_a_preset_with_its_step_in_milliseconds_is_refused(name: str) -> None:
    step, limits = load_profile(name).step, asdict(load_profile(name).limits)
    slipped: dict[str, object] = {"form": "affine", "a_s": 1000 * step.a_s}
    with pytest.raises(PolicyError, match=r"step\.a_s: .*are these milliseconds\?"):
        parse_profile(MINIMAL | {"step": slipped, "limits": limits}, "mine.yaml")
    slipped = {"form": "affine", "a_s": step.a_s, "c_s": 1000 * step.c_s}
    with pytest.raises(PolicyError, match=r"step\.c_s: "):
        parse_profile(MINIMAL | {"step": slipped, "limits": limits}, "mine.yaml")


def test_a_slow_engine_on_a_cpu_is_no_slip() -> None:
    step = {"form": "affine", "a_s": 0.8, "b_s": 0.001, "c_s": 1e-5, "d_s": 0.004, "host_s": 0.002}
    limits = {"max_num_seqs": 16, "max_num_batched_tokens": 512, "kv_tokens": 20_000, "max_model_len": 2048}
    assert parse_profile(MINIMAL | {"step": step, "limits": limits}, "mine.yaml").step.a_s == 0.8


def test_a_longest_request_that_nobody_gave_is_what_the_kv_cache_holds() -> None:
    assert parse_profile(MINIMAL | {"limits": {"kv_tokens": 5000}}, "mine.yaml").limits.max_model_len == 4992
    assert parse_profile(MINIMAL, "mine.yaml").limits.max_model_len == 131072
