"""Made-up traffic of several tenants, and of lengths that shift: what is shared is shared, the rest is one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.base.durations import Duration
from simulator.kernel.draws import component_seed
from simulator.workload.synthetic import Bursts, MixKnot, Synthetic, generate_for
from simulator.workload.traces import read_rates
from simulator.workload.workload import Lengths, rate_arrivals
from tests.cli.helpers import leadtime

DAY_S = 86400.0


def rates(
    component: str, shared: str | None, noise_fraction: float = 0.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    bursts = Bursts(per_day=20, factor=6, decay_s=600, shared=shared)
    spec = Synthetic(60.0, DAY_S, 5.0, bursts=bursts, noise_fraction=noise_fraction)
    return generate_for(spec, 1, component).rps


def test_tenants_that_share_bursts_meet_the_same_ones() -> None:
    assert np.array_equal(rates("a", "launch"), rates("b", "launch"))
    assert not np.array_equal(rates("a", "launch"), rates("a", "other"))
    assert not np.array_equal(rates("a", None), rates("b", None))


def test_tenants_that_share_bursts_keep_their_own_noise_and_are_correlated() -> None:
    together = np.corrcoef(rates("a", "launch", 0.2), rates("b", "launch", 0.2))[0, 1]
    apart = np.corrcoef(rates("a", None, 0.2), rates("b", None, 0.2))[0, 1]
    assert abs(apart) < 0.3 < 0.7 < together < 1.0


def test_without_a_name_bursts_are_those_of_the_component_as_ever() -> None:
    assert np.array_equal(
        rates("a", None), generate_for(Synthetic(60.0, DAY_S, 5.0, bursts=Bursts(20, 6, 600)), 1, "a").rps
    )


def test_lengths_follow_the_knots_of_the_mix_and_arrivals_do_not_change() -> None:
    mix = (MixKnot(0.0), MixKnot(1800.0, prompt_factor=4.0, output_factor=0.25))
    lengths = Lengths(Duration(400.0), Duration(100.0))

    def drawn(spec: Synthetic) -> tuple[list[float], list[int], list[int]]:
        trace = generate_for(spec, 1, "a")
        seed = component_seed(1, "traffic")
        stream = rate_arrivals(trace, lengths, start_s=0, rate_scale=1, repeat=False, duration_s=3600.0, seed=seed)
        made = stream.take(3600.0)
        return made.arrival_s.tolist(), made.prompt_tokens.tolist(), made.output_tokens.tolist()

    plain, shifted = drawn(Synthetic(60.0, 3600.0, 2.0)), drawn(Synthetic(60.0, 3600.0, 2.0, mix=mix))
    assert shifted[0] == plain[0]
    assert set(plain[1]) == {400}
    first, last = (shifted[1][0], shifted[2][0]), (shifted[1][-1], shifted[2][-1])
    assert first == (round(400 * (1 + 3 * 30 / 1800)), round(100 * (1 - 0.75 * 30 / 1800)))
    assert last == (1600, 25)
    assert shifted[1] == sorted(shifted[1])


def test_a_generated_file_holds_the_shifting_means(tmp_path: Path) -> None:
    recipe = (
        "bin_s: 60\nduration_s: 600\nbase_rps: 2\nprompt_tokens: 400\noutput_tokens: {median: 100, p99: 400}\n"
        "mix: [{at_s: 0}, {at_s: 300, prompt_factor: 2}]\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe)
    ran = leadtime("trace", "generate", str(tmp_path / "recipe.yaml"), str(tmp_path / "rates.csv"))
    assert (ran.code, ran.err) == (0, "")
    trace = read_rates(tmp_path / "rates.csv")
    assert trace.prompt_tokens is not None
    assert trace.prompt_tokens.tolist() == pytest.approx([440, 520, 600, 680, 760, 800, 800, 800, 800, 800])
    assert trace.output_tokens is not None
    assert trace.output_tokens[0] == pytest.approx(Duration.from_median_p99(100, 400).mean_s, rel=1e-5)


@pytest.mark.parametrize(
    "bad", ["{at_s: 0, prompt_factor: 0}", "{at_s: -1}", "{prompt_factor: 2}", "{at_s: 0, tokens: 2}"]
)
def test_a_knot_that_cannot_be_is_named(bad: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(f"bin_s: 60\nduration_s: 600\nbase_rps: 2\nmix: [{bad}]\n")
    ran = leadtime("trace", "generate", str(tmp_path / "recipe.yaml"), str(tmp_path / "rates.csv"))
    assert ran.code == 2
    assert "mix[0]" in ran.err
    assert not (tmp_path / "rates.csv").exists()
