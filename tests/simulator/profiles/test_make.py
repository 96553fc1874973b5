"""Profiles of engines that nobody measured: the roofline's arithmetic, the fit, the profile, and the shipped ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.base import Slo, TokenMix
from policies.capacity import EngineProfile, StepLaw, capacity
from policies.capacity.load import load_profile, preset_names
from policies.capacity.write import profile_yaml
from simulator.experiments.calibration.fit import TILED_KNOTS, Steps, fit
from simulator.experiments.profiles import aiconfigurator
from simulator.experiments.profiles.aiconfigurator import NotCovered
from simulator.experiments.profiles.engine import Engine
from simulator.experiments.profiles.gpus import find_gpu
from simulator.experiments.profiles.grid import Step, steps_of, timed
from simulator.experiments.profiles.make import make_profile
from simulator.experiments.profiles.models import find_model
from simulator.experiments.profiles.presets import chosen
from simulator.experiments.profiles.roofline import step_s, touched_experts

MIX, SLO = TokenMix(800, 200), Slo(2.0, 0.05)


def engine(model: str, gpu: str = "h100", tp: int = 1, **more: Any) -> Engine:
    shape = find_model(model)
    return Engine(shape, find_gpu(gpu), tp, **({"weights": shape.weights} | more))


def made(model: str, gpu: str = "h100", tp: int = 1, **more: Any) -> EngineProfile:
    return make_profile(engine(model, gpu, tp, **more), "made", way="roofline").profile


# ---------------------------------------------------------------- roofline


def test_a_lone_token_takes_as_long_as_reading_the_weights() -> None:
    model = engine("llama-3.1-8b")
    reached = model.gpu.efficiency
    read_s = 2 * 7.5e9 / (3350e9 * reached.weights) + 32 * reached.layer_s
    assert step_s(model, Step(1, 1)) == pytest.approx(read_s, rel=0.02)


def test_eight_bits_read_half_and_multiply_twice_as_fast() -> None:
    wide, narrow = engine("llama-3.3-70b", tp=4), engine("llama-3.3-70b", tp=4, weights="fp8")
    assert step_s(narrow, Step(1, 100)) < 0.7 * step_s(wide, Step(1, 100))
    prompt = Step(0, 0, 1, 4096)
    assert step_s(narrow, prompt) < 0.75 * step_s(wide, prompt)


def test_a_window_bounds_what_a_long_context_costs() -> None:
    short, long = Step(32, 1_000), Step(32, 30_000)
    windowed, full = engine("gemma-3-27b"), engine("qwen3-32b")
    assert step_s(windowed, long) - step_s(windowed, short) < 0.6 * (step_s(full, long) - step_s(full, short))


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0.0), (1, 2.0), (2, 3.5), (1000, 8.0)])
def test_tokens_touch_experts_at_random(tokens: int, expected: float) -> None:
    assert touched_experts(8, 2, tokens) == pytest.approx(expected)


def test_a_mixture_reads_more_experts_for_each_of_the_first_tokens() -> None:
    mixtral = engine("mixtral-8x7b", tp=2)
    one, four, many = (step_s(mixtral, Step(b, 100)) for b in (1, 4, 64))
    assert four > 1.8 * one
    assert many < 1.6 * four


# ---------------------------------------------------------------- fit


def test_the_fit_follows_a_mixture_between_one_and_32_tokens() -> None:
    mixtral = engine("mixtral-8x7b", tp=2)
    steps = timed(steps_of(256, 8192, 400_000, 32768), lambda step: step_s(mixtral, step))
    found = fit(steps, "table", TILED_KNOTS)
    assert found.error_fraction < 0.02
    assert found.by_kind["decode"] < 0.015
    coarse = fit(steps, "table", (1, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192))
    assert coarse.by_kind["decode"] > 0.08


def test_the_fit_follows_a_jump_above_a_full_tile() -> None:
    def seconds(step: Step) -> float:
        return 0.01 + 0.005 * np.ceil((step.decodes + step.prefill) / 512)

    steps = timed(steps_of(64, 4096, 400_000, 32768), seconds)
    assert fit(steps, "table", TILED_KNOTS).error_fraction < 0.06
    assert fit(steps, "table").error_fraction > 1.3 * fit(steps, "table", TILED_KNOTS).error_fraction


def test_knots_without_data_between_them_are_left_out() -> None:
    tokens = np.array([1.0, 1, 32, 32, 64, 64, 512, 512, 900])
    zero = np.zeros(len(tokens))
    found = fit(Steps(tokens, 100 * tokens, zero, zero, 0.01 + 1e-5 * tokens), "table")
    assert [x for x, _ in found.law.knots] == [1, 32, 64, 512, 900]


# ---------------------------------------------------------------- profiles


def test_a_profile_by_roofline_says_so_and_reads_back_the_same(tmp_path: Path) -> None:
    profile = made("phi-4", "l4", 2)
    assert profile.fit["way"] == "roofline"
    assert profile.fit["sure"].startswith("roofline: a first guess, to be measured")
    assert profile.fit["error_fraction"]["decode"] >= find_gpu("l4").efficiency.error_fraction["decode"]
    assert (profile.gpus, profile.gpu, profile.limits.max_model_len) == (2, "nvidia-l4", 16384)
    (tmp_path / "again.yaml").write_text(profile_yaml(profile))
    again = load_profile("again.yaml", tmp_path)
    assert again.step.step_s(16, 16_000, 512, 131_072) == pytest.approx(profile.step.step_s(16, 16_000, 512, 131_072))
    assert again.limits == profile.limits


def test_start_up_grows_with_the_weights() -> None:
    small, large = made("llama-3.1-8b"), made("llama-3.3-70b", tp=4)
    assert small.load_s.median_s == pytest.approx(13.6, rel=0.02)
    assert large.load_s.median_s == pytest.approx(29.9, rel=0.02)
    assert small.init_s.median_s < large.init_s.median_s


def test_pipeline_stages_share_the_sequences() -> None:
    one, two = made("llama-3.3-70b", tp=4), made("llama-3.3-70b", tp=4, pipeline_parallel=2)
    assert two.gpus == 8
    assert two.limits.kv_tokens > 2 * one.limits.kv_tokens
    most = TokenMix(800, 200)
    assert capacity(two, most, Slo()).saturation_rps == pytest.approx(
        2 * capacity(one, most, Slo()).saturation_rps, rel=0.35
    )


def test_experts_are_made_by_roofline_and_the_profile_says_why() -> None:
    found = make_profile(engine("mixtral-8x7b", tp=2), "made")
    assert (found.way, found.why) == ("roofline", "tables of experts were further from measured runs than the roofline")
    assert found.why in found.profile.fit["sure"]


def test_without_the_package_tables_are_refused_and_auto_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "installed_version", lambda: None)
    with pytest.raises(NotCovered, match=r"is not installed \(pip install '\.\[tables\]' in a checkout"):
        make_profile(engine("llama-3.1-8b"), "made", way="tables")
    found = make_profile(engine("llama-3.1-8b"), "made")
    assert found.way == "roofline"
    assert "is not installed" in str(found.why)


@pytest.mark.skipif(aiconfigurator.installed_version() is None, reason="aiconfigurator-core is not installed")
def test_tables_and_roofline_agree_within_the_stated_error() -> None:
    tables = make_profile(engine("qwen3-32b"), "made", way="tables")
    assert (tables.way, tables.profile.fit["way"]) == ("tables", "tables")
    assert tables.error_fraction < 0.06
    assert "Apache-2.0" in tables.profile.fit["source"]
    step_tables = tables.profile.step.step_s(32, 32_000)
    assert made("qwen3-32b").step.step_s(32, 32_000) == pytest.approx(step_tables, rel=0.25)


def test_making_one_imports_nothing_of_the_package_where_it_is_not_needed() -> None:
    before = set(sys.modules)
    make_profile(engine("mixtral-8x7b", tp=2), "made")
    assert not any(name.startswith("aiconfigurator_core") for name in set(sys.modules) - before)


# ---------------------------------------------------------------- presets


MADE = [name for name in preset_names() if "way" in load_profile(name).fit]


def test_at_least_sixty_cells_of_model_and_gpu_are_shipped() -> None:
    cells = {(name.split("/")[0].removesuffix("-fp8"), name.split("/")[1]) for name in preset_names()}
    assert len(cells) >= 60


def test_the_shipped_ones_are_those_that_the_command_makes() -> None:
    assert set(MADE) <= {name for name, _ in chosen()} <= set(preset_names())


@pytest.mark.parametrize("name", MADE)
def test_a_made_preset_says_where_it_comes_from_and_how_sure_it_is(name: str) -> None:
    found = load_profile(name).fit
    assert found["way"] in ("tables", "roofline")
    assert found["sure"].startswith(found["way"])
    assert 0 < max(found["error_fraction"].values()) < 0.5
    assert (found["way"] == "tables") == ("aiconfigurator-core 0.12.0, Apache-2.0" in found["source"])
    assert found["made_for"]["model"] == name.split("/")[0].removesuffix("-fp8")


def _saturates(name: str) -> float:
    """Requests/s of one GPU: replicas of different widths are compared by it."""
    profile = load_profile(name)
    return capacity(profile, MIX, Slo()).saturation_rps / profile.gpus


_FAMILIES = ("l4", "l40s", "a100", "h100", "h200", "b200")


def _pairs() -> list[tuple[str, str]]:
    by_model: dict[str, dict[str, str]] = {}
    for name in MADE:
        model, gpu, _ = name.split("/")
        by_model.setdefault(model, {})[gpu] = name
    steps = [("l4", "l40s"), ("l4", "a100"), ("l40s", "h100"), ("a100", "h100"), ("h100", "h200"), ("h200", "b200")]
    return [(m[a], m[b]) for m in by_model.values() for a, b in steps if a in m and b in m]


@pytest.mark.parametrize(("smaller", "bigger"), _pairs())
def test_a_bigger_gpu_is_not_slower(smaller: str, bigger: str) -> None:
    assert _saturates(bigger) > 0.97 * _saturates(smaller)


def test_a_law_is_never_below_zero_and_rises_with_tokens() -> None:
    for name in MADE:
        law: StepLaw = load_profile(name).step
        times = [law.step_s(b, 500 * b) for b in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
        assert times == sorted(times)
        assert times[0] > 0
