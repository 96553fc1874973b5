"""Scenario files: what is understood, and that every mistake is one clear line before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.common.errors import InputError
from policies import capacity
from policies.base import DeploymentKey, PolicyError
from simulator.run import Choice, make_policy
from simulator.scenario.load import load_scenario, preset_names
from simulator.workload.synthetic import Synthetic
from tests.simulator.scenarios import SMALL, write

PROFILE = Path(capacity.__file__).parent / "presets" / "llama-3.1-8b" / "h100" / "tp1.yaml"


def refused(folder: Path, *changes: tuple[str, str], overrides: tuple[str, ...] = ()) -> str:
    """The error of SMALL with parts of its text replaced."""
    text = SMALL
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    with pytest.raises(InputError) as error:
        load_scenario(write(folder, text), overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_guarantees_over_the_budget_are_refused(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        ("tick_s: 5", "tick_s: 5\ngpu_budget: {nvidia-h100-80gb: 1}"),
        ("    graceful", "    guaranteed_gpus: 2\n    graceful"),
    )
    assert "gpu_budget.nvidia-h100-80gb: 1; allowed: at least the guaranteed_gpus of its deployments together" in said
    assert said.endswith("which is 2")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("tick_s: 5", "tick: 5", "scenario.yaml:5: tick: unknown key; did you mean 'tick_s'?"),
        ("max: 4, initial", "maximum: 4, initial", "replicas.maximum: unknown key; did you mean 'max'?"),
        ("version: 1", "version: 2", "scenario.yaml:2: version: 2; allowed: 1"),
        ("base_rps: 40", "base_rps: -1", "synthetic.base_rps: -1; allowed: a number >= 0"),
        ("base_rps: 40", "base_rps: .nan", "synthetic.base_rps: nan; allowed: a number >= 0"),
        (
            "    graceful",
            "    slo: {ttft_s: 2000}\n    graceful",
            "slo.ttft_s: 2000; allowed: seconds above 0 and up to 600 (2000 ms are written 2)",
        ),
        ("tick_s: 5", "tick_s: 1:30", "tick_s: '1:30'; allowed: a number from 0.5 to 300"),
        ("tick_s: 5", "tick_s: fast", "tick_s: 'fast'; allowed: a number from 0.5 to 300"),
        ("min: 1, max: 4, initial: 1", "min: 5, max: 4", "replicas.min: 5; allowed: at most replicas.max, which is 4"),
        ("nodes: {min: 0, max: 4}", "nodes: {min: 5, max: 4}", "nodes.min: 5; allowed: at most nodes.max, which is 4"),
        ("node_pool: h100", "node_pool: h10", "node_pool: 'h10'; allowed: h100; did you mean 'h100'?"),
        ("h100/tp1", "h100/tp9", "did you mean 'llama-3.1-8b/h100/tp1'?"),
        (
            "llama-3.1-8b/h100/tp1",
            "llama-3.1-70b/h100/tp8",
            "a replica needs 8 GPUs; allowed: at most 1, gpus_per_node of pool h100",
        ),
        (
            "median: 500, p99: 2000",
            "median: 500, p99: 20",
            "prompt_tokens: median: 500, p99: 20; allowed: tokens from 0 to 1e9",
        ),
        ("median: 500, p99: 2000", "median: 1.0e+300, p99: 1.0e+300", "allowed: tokens from 0 to 1e9, or {median"),
        ("median: 20, p99: 40", "median: 20, p99: 1.0e+300", "p99: 1e+300; allowed: seconds from 0 to 1e9"),
        ("price_usd_per_hour: 10", "price_usd_per_hour: 1.0e+308", "price_usd_per_hour: 1e+308; allowed"),
        ("duration_s: 300\ntick", "duration_s: 0\ntick", "duration_s: 0; allowed: a number > 0"),
        (
            "duration_s: 300\ntick",
            "duration_s: 300\nwarmup_s: 300\ntick",
            "warmup_s: 300; allowed: less than duration_s",
        ),
        ("name: chat/llm", "name: chat", "name: 'chat'; allowed: APP/DEPLOYMENT"),
        (
            "  synthetic:",
            "  requests: x.csv\n      synthetic:",
            "requests and synthetic are given; allowed: exactly one",
        ),
        (
            "price_usd_per_hour: 10",
            "prewarm: workers",
            "prewarm: 'workers'; allowed: none, placeholder, capacity_buffer",
        ),
        ("price_usd_per_hour: 10", "worker_gpus: 1", "unknown key"),
        ("tick_s: 5", "tick_s: 5\ngpu_budget: {nvidia-h100: 4}", "did you mean 'nvidia-h100-80gb'?"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_and_what_is_allowed(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert said in refused(tmp_path, (before, after))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("bin_s=1e-9", "workload.synthetic.bin_s: 1e-09; allowed: at most 10000000 bins in duration_s, which is"),
        ("base_rps=20000000", "base_rps: 20000000, 200000000 requests in a bin; allowed: at most 100000000 requests"),
    ],
)
def test_made_up_traffic_that_memory_cannot_hold_is_refused(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        load_scenario(write(tmp_path), [f"deployments.0.workload.synthetic.{change}"])
    assert said in str(error.value)


def test_a_trace_that_is_missing_or_wrong_is_named_with_its_row_and_the_line_that_names_it(tmp_path: Path) -> None:
    synthetic = SMALL[SMALL.index("      synthetic:") : SMALL.index("node_pools:")]
    line = SMALL[: SMALL.index("      synthetic:")].count("\n") + 1
    (tmp_path / "bad.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n3,1,1\n2,1,1\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "rates.csv").write_text("timestamp_s,rps\n0,1\n60,1\n")
    (tmp_path / "other.csv").write_text("timestamp_s,prompt_tokens,output_tokens,deployment\n3,1,1,shop/llm\n")
    for key, name, said in (
        ("requests", "nothing.csv", "no such file"),
        ("requests", "bad.csv", "row 3: timestamp_s: 2 after 3"),
        ("requests", "other.csv", "no row for deployment 'chat/llm'; the column holds: shop/llm"),
        ("rates", "empty.csv", "the file is empty"),
    ):
        text = refused(tmp_path, (synthetic, f"      {key}: {name}\n"))
        assert f".yaml:{line}: deployments[0].workload.{key}: {tmp_path / name}: {said}" in text
    assert "workload.prompt_tokens: missing" in refused(tmp_path, (synthetic, "      rates: rates.csv\n"))


def test_a_history_that_cannot_be_read_is_named_with_the_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "late.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n300,1,1\n400,1,1\n")
    synthetic = SMALL[SMALL.index("      synthetic:") : SMALL.index("node_pools:")]
    line = SMALL[: SMALL.index("      synthetic:")].count("\n") + 3
    late = "      requests: late.csv\n      start_s: 200\n    history: {workload: true}\n"
    said = refused(tmp_path, (synthetic, late))
    assert f".yaml:{line}: deployments[0].history.workload: {tmp_path / 'late.csv'}: no row before 200 s" in said
    none = "      requests: late.csv\n      start_s: 200\n    history: {rates: none.csv}\n"
    said = refused(tmp_path, (synthetic, none))
    assert f".yaml:{line}: deployments[0].history.rates: {tmp_path / 'none.csv'}: no such file" in said


def test_a_budget_of_a_kind_that_no_profile_names_says_how_a_profile_gets_one(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(PROFILE.read_text().replace("gpu: nvidia-h100-80gb", "gpu: unknown"))
    said = refused(
        tmp_path, ("tick_s: 5", "tick_s: 5\ngpu_budget: {nvidia-l4: 4}"), ("llama-3.1-8b/h100/tp1", "own.yaml")
    )
    assert "gpu_budget.nvidia-l4: no deployment runs on it (profiles use: unknown)" in said
    assert "`leadtime calibrate --gpu nvidia-l4`" in said
    plain = refused(tmp_path, ("tick_s: 5", "tick_s: 5\ngpu_budget: {nvidia-l4: 4}"))
    assert "leadtime calibrate" not in plain


def test_files_that_are_no_scenario_are_named(tmp_path: Path) -> None:
    for text, said in (
        ("", "empty"),
        ("a: [", "not valid YAML"),
        ("- 1\n", "allowed: a mapping"),
        ("a: 1\na: 2", "twice"),
    ):
        with pytest.raises(InputError, match=said):
            load_scenario(write(tmp_path, text))
    with pytest.raises(InputError, match=r"no such file.*preset:quickstart"):
        load_scenario(str(tmp_path / "nothing.yaml"))
    with pytest.raises(InputError, match="did you mean 'preset:quickstart'"):
        load_scenario("preset:quickstrat")
    with pytest.raises(InputError, match="did you mean 'preset:quickstart'"):
        load_scenario("quickstart")


def test_set_changes_a_key_by_number_or_name_and_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path)
    overrides = ["deployments.0.replicas.max=3", "node_pools.h100.nodes.max=9", "deployments.chat/llm.slo={ttft_s: 1}"]
    scenario = load_scenario(path, overrides)
    block = scenario.file.deployments[0]
    assert (block.replicas.max, scenario.pools[0].nodes.max, block.slo.ttft_s) == (3, 9, 1)
    for text, said in (
        ("deployments.0.replicas.maxi=3", "did you mean 'max'"),
        ("deployments.7.weight=1", "no entry '7'; allowed: 0 to 0, chat/llm"),
        ("tick_s", "allowed: KEY=VALUE"),
        ("tick_s=soon", "tick_s: 'soon'; allowed"),
        ("tick_s.x=1", "nothing inside"),
    ):
        with pytest.raises(InputError) as error:
            load_scenario(path, [text])
        assert str(error.value).startswith(f"--set {text!r}: ")
        assert said in str(error.value)


def test_a_path_that_is_set_is_relative_to_where_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "trace.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n1,10,20\n250,30,40\n")
    (here / "engine.yaml").write_text(PROFILE.read_text().replace("name: llama", "name: own-llama"))
    path = write(there)
    monkeypatch.chdir(here)
    one = load_scenario(path, ["deployments.0.workload={requests: trace.csv}", "deployments.0.profile=engine.yaml"])
    assert one.deployments[0].traffic.end_s == 250  # type: ignore[union-attr]
    assert one.deployments[0].profile.name.startswith("own-llama")
    preset = load_scenario(path, ["deployments.0.profile=llama-3.1-8b/a100/tp1"])
    assert preset.deployments[0].profile.name == "llama-3.1-8b/a100/tp1"
    typed = "deployments.0.workload={requests: none.csv}"
    with pytest.raises(InputError) as error:
        load_scenario(path, [typed])
    where = f"--set {typed!r}: deployments[0].workload.requests"
    assert str(error.value) == f"{where}: {here / 'none.csv'}: no such file"


def test_the_policys_options_hold_only_for_the_policy_that_the_scenario_names(tmp_path: Path) -> None:
    scenario = load_scenario(
        write(tmp_path, SMALL.replace("name: hpa_ongoing", "name: static, options: {replicas: 2}"))
    )
    assert make_policy(scenario, Choice()).options.replicas == 2
    assert make_policy(scenario, Choice("static")).options.replicas == 2
    assert make_policy(scenario, Choice("hpa_ongoing")).name == "hpa_ongoing"
    with pytest.raises(PolicyError, match="did you mean 'static'"):
        make_policy(scenario, Choice("statik"))


def test_durations_and_lengths_may_be_constants(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    deployment = scenario.deployment(DeploymentKey.parse("chat/llm"))
    assert (deployment.load_s.sigma, deployment.load_s.median_s) == (0.0, 10.0)
    assert scenario.pools[0].provision_s.quantile(0.99) == pytest.approx(40.0)
    assert isinstance(deployment.traffic, Synthetic)


def test_a_nodes_price_comes_from_the_profile_where_the_pool_has_none(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, SMALL.replace("    price_usd_per_hour: 10\n", "")))
    assert scenario.node_price_usd_per_hour(scenario.pools[0]) == 11.0


def test_the_duration_is_the_traces_where_the_scenario_has_none(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n0,1,1\n99.5,1,1\n")
    synthetic = SMALL[SMALL.index("      synthetic:") : SMALL.index("node_pools:")]
    text = SMALL.replace(synthetic, "      {requests: r.csv, start_s: 10}\n").replace("duration_s: 300\n", "")
    assert load_scenario(write(tmp_path, text)).duration_s == 90.0


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_scenario_can_be_read(name: str) -> None:
    scenario = load_scenario(f"preset:{name}")
    assert scenario.name == name
    assert make_policy(scenario, Choice()).name


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "duration_s: 300\ntick",
            "duration_s: 1.0e+15\ntick",
            "duration_s: 1000000000000000.0; allowed: a number > 0 and",
        ),
        (
            "{min: 0, max: 4}",
            "{min: 0, max: 1000000000}",
            "nodes.max: 1000000000; allowed: a whole number from 1 to 100000",
        ),
        ("median: 500, p99: 2000", "median: 500, p99: 1.0e+300", "prompt_tokens: median: 500, p99: 1e+300; allowed: "),
    ],
)
def test_sizes_that_no_memory_holds_are_refused_before_anything_runs(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert said in refused(tmp_path, (before, after))


@pytest.mark.parametrize("text", ["..=1", "tick_s=" + "[" * 3000, "tick_s=2024-99-99", "deployments.\u00b2.name=x"])
def test_a_set_that_means_nothing_is_refused_and_never_ignored(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, overrides=(text,)).startswith("--set ")


def test_a_burst_of_requests_at_0_s_needs_only_a_duration(tmp_path: Path) -> None:
    (tmp_path / "burst.csv").write_text("timestamp_s,prompt_tokens,output_tokens\n0,10,10\n0,10,10\n")
    text = (
        SMALL[: SMALL.index("      synthetic:")] + "      requests: burst.csv\n" + SMALL[SMALL.index("node_pools:") :]
    )
    assert load_scenario(write(tmp_path, text)).duration_s == 300
    with pytest.raises(InputError, match="duration_s: missing; allowed: a number > 0, for all requests come at 0 s"):
        load_scenario(write(tmp_path, text.replace("duration_s: 300\ntick", "tick")))
