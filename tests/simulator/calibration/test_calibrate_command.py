"""`leadtime calibrate` from steps and tables, and `leadtime fidelity`: what goes in comes out; bad input is named."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.base.durations import Duration
from policies.capacity import EngineProfile, Limits, Scheduling, StepLaw
from policies.capacity.load import load_profile
from simulator.dataplane.plane import DataPlane
from simulator.experiments.calibration.step_log import read_steps
from tests.cli.helpers import leadtime
from tests.simulator.engine.groundtruth import FOLDER

LIMITS = Limits(16, 512, 32, 5088, 2048)
ENGINE = "max_num_seqs=16,max_num_batched_tokens=512,block_size=32,kv_tokens=5088,max_model_len=2048,asynchronous=false"
LAW = StepLaw("affine", a_s=0.01, b_s=6e-4, c_s=2e-6, d_s=7e-4, h_s=1e-3)
TRUE = EngineProfile(
    "true", 1, "cpu", LAW, 0.0017, 0.006, LIMITS, Scheduling(asynchronous=False), Duration(0.0), Duration(0.0)
)
LOG = (
    "INFO 11-24 10:00:00 [core.py:1] Iteration({n}): {row[0]} context requests, {row[1]} context tokens, {row[2]} "
    + (
        "generation requests, {row[3]} generation tokens, iteration elapsed time: {row[4]:.4f} ms, "
        "GPU KV cache usage: {row[5]:.3f}%\n"
    )
)


def step_rows(n: int = 300) -> list[tuple[float, ...]]:
    """Steps of an engine with LAW: (ctx_reqs, ctx_tokens, gen_reqs, gen_tokens, elapsed_ms, kv_usage_pct)."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(n):
        decodes, prompt = int(rng.integers(1, 15)), int(rng.choice([0, 0, 64, 200, 400]))
        context = decodes * int(rng.integers(40, 300))
        held = context + prompt + 16 * (decodes + (prompt > 0))
        ms = 1e3 * LAW.step_s(decodes, context, prompt)
        rows.append((float(prompt > 0), prompt, decodes, decodes, ms, 100 * held / LIMITS.kv_tokens))
    return rows


def write_steps(path: Path) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["log_s", "ctx_reqs", "ctx_tokens", "gen_reqs", "gen_tokens", "elapsed_ms", "kv_usage_pct"])
        out.writerows((0, *row) for row in step_rows())
    return path


def write_requests(path: Path, extra: str = "", engine: EngineProfile = TRUE) -> Path:
    """Requests that the engine served."""
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.exponential(0.5, 200))
    prompts, outputs = rng.integers(20, 400, 200), rng.integers(2, 60, 200)
    plane = DataPlane(engine, max_ongoing_requests=10**6, request_timeout_s=None, seed=1)
    plane.add_replica(0, 0.0)
    plane.feed(arrivals, prompts, outputs)
    plane.advance(1e6)
    done = plane.completed()
    lines = ["id,arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,mean_itl_s,status"]
    columns = (done.id, done.arrival_s, done.prompt_tokens, done.output_tokens, done.ttft_s, done.e2e_s)
    lines += [
        f"{i},{a},{p},{o},{ttft},{e2e},{(e2e - ttft) / (o - 1)},ok"
        for i, a, p, o, ttft, e2e in zip(*(c.tolist() for c in columns), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


def test_steps_and_requests_give_the_engine_back(tmp_path: Path) -> None:
    steps, requests = write_steps(tmp_path / "steps.csv"), write_requests(tmp_path / "requests.csv")
    out = tmp_path / "mine.yaml"
    ran = leadtime(
        "calibrate", "--from-steps", str(steps), "--requests", str(requests), "--engine", ENGINE, "--out", str(out)
    )
    assert ran.code == 0, ran.err
    made = load_profile(str(out))
    assert made.step.form == "affine"
    for name in ("a_s", "b_s", "c_s", "d_s"):
        assert getattr(made.step, name) == pytest.approx(getattr(LAW, name), rel=0.02)
    assert made.host_s == pytest.approx(TRUE.host_s, rel=0.1)
    assert made.api_s == pytest.approx(TRUE.api_s, rel=0.1)
    assert made.limits == LIMITS
    assert made.scheduling == Scheduling(asynchronous=False)
    assert made.fit["assumed"] == ["startup"]
    again = leadtime("fidelity", "--profile", str(out), "--requests", str(requests), "--json")
    errors = json.loads(again.out)["error_fraction"]
    assert all(abs(errors[m][p]) < 0.02 for m in ("ttft_s", "itl_s", "e2e_s") for p in ("mean", "p50", "p90", "p99"))


def test_host_time_that_hides_behind_asynchronous_steps_stays_an_assumption(tmp_path: Path) -> None:
    engine = replace(TRUE, scheduling=Scheduling(asynchronous=True), host_s=0.002)
    requests = write_requests(tmp_path / "requests.csv", engine=engine)
    steps, out = write_steps(tmp_path / "steps.csv"), tmp_path / "mine.yaml"
    words = ("--from-steps", str(steps), "--requests", str(requests), "--out", str(out))
    ran = leadtime("calibrate", *words, "--engine", ENGINE.replace("asynchronous=false", "asynchronous=true"))
    assert ran.code == 0, ran.err
    made = load_profile(str(out))
    assert made.fit["assumed"] == ["host_s", "startup"]
    assert made.api_s == pytest.approx(TRUE.api_s, rel=0.1)


def test_vllms_own_log_and_its_csv_give_the_same_steps(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    lines = [LOG.format(n=n, row=[*map(int, row[:4]), *row[4:]]) for n, row in enumerate(step_rows())]
    log.write_text("INFO starting\n" + "".join(lines) + "Iteration(9): 0 context requests, broken off")
    a, b = read_steps([log], LIMITS), read_steps([write_steps(tmp_path / "steps.csv")], LIMITS)
    assert a.seconds == pytest.approx(b.seconds, abs=1e-6)
    assert a.kv_tokens == pytest.approx(b.kv_tokens, abs=1.0)
    assert a.prefill_tokens.tolist() == b.prefill_tokens.tolist()


def test_a_recomputing_request_of_the_log_is_prefill_and_no_decode(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("ctx_reqs,ctx_tokens,gen_reqs,gen_tokens,elapsed_ms,kv_usage_pct\n0,0,5,104,90,50\n")
    steps = read_steps([path], LIMITS)
    assert (steps.decodes[0], steps.prefill_tokens[0]) == (4, 99)


def test_without_requests_host_and_api_time_are_marked_as_assumed(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    steps = write_steps(tmp_path / "steps.csv")
    ran = leadtime("calibrate", "--from-steps", str(steps), "--engine", ENGINE, "--out", str(out))
    assert ran.code == 0, ran.err
    assert "assumed, not measured: host_s, api_s, startup" in ran.out
    assert load_profile(str(out)).fit["assumed"] == ["host_s", "api_s", "startup"]


def test_what_another_profile_gave_is_marked_and_printed_with_its_name(tmp_path: Path) -> None:
    out, like = tmp_path / "mine.yaml", load_profile("llama-3.1-8b/h100/tp1")
    steps = write_steps(tmp_path / "steps.csv")
    said = "max_num_seqs=16,max_num_batched_tokens=512,kv_tokens=5088,asynchronous=false"
    words = ("calibrate", "--from-steps", str(steps), "--engine", said, "--out", str(out), "--like", like.name)
    ran = leadtime(*words)
    assert ran.code == 0, ran.err
    made = load_profile(str(out))
    assert made.fit["like"] == like.name
    assert made.fit["assumed"] == [
        "host_s", "api_s", "limits.block_size", "limits.max_model_len", "scheduling.reserve_full_prompt",
        "scheduling.chunked_prefill", "gpus", "gpu", "startup", "price_usd_per_gpu_hour",
    ]  # fmt: skip
    assert "assumed, not measured: host_s, api_s, limits.max_model_len\n" in ran.out, "what 5088 tokens hold, not its"
    assert f"from {like.name}, not measured here: limits.block_size 16, " in ran.out
    assert f"gpus 1, gpu {like.gpu}, startup load_s " in ran.out
    assert "price_usd_per_gpu_hour 11\n" in ran.out
    other = tmp_path / "l4.yaml"  # what was read once is remembered
    own = leadtime(*words, "--gpu", "nvidia-l4", "--gpus", "2", "--name", "mine/l4", "--out", str(other))
    assert "gpu" not in own.out.partition("not measured here: ")[2].partition("startup")[0]
    made = load_profile(str(other))
    assert (made.name, made.gpu, made.gpus) == ("mine/l4", "nvidia-l4", 2)


def test_a_profile_whose_gpu_nobody_named_says_how_to_name_it(tmp_path: Path) -> None:
    steps = write_steps(tmp_path / "steps.csv")
    words = ("calibrate", "--from-steps", str(steps), "--engine", ENGINE, "--out", str(tmp_path / "m.yaml"))
    assert "kind of GPU: not said; `--gpu nvidia-l4` would" in leadtime(*words).out
    assert "kind of GPU" not in leadtime(*words, "--gpu", "nvidia-l4").out


def test_it_says_where_the_profile_extrapolates(tmp_path: Path) -> None:
    steps = write_steps(tmp_path / "steps.csv")
    engine = ENGINE.replace("max_num_seqs=16", "max_num_seqs=64")
    ran = leadtime("calibrate", "--from-steps", str(steps), "--engine", engine, "--out", str(tmp_path / "m.yaml"))
    assert "extrapolates above 14 decoding sequences (the engine allows 64)" in ran.out


def test_tables_give_a_law_and_what_was_selected(tmp_path: Path) -> None:
    table = tmp_path / "decode.csv"
    rows = [(b, c, 1e3 * LAW.step_s(b, b * c)) for b in (1, 2, 4, 8, 16) for c in (64, 128, 256)]
    lines = [f"{model},{b},{c},{ms * factor}" for model, factor in (("a", 1), ("b", 9)) for b, c, ms in rows]
    table.write_text("model,batch,context_tokens,step_ms\n" + "\n".join(lines) + "\n")
    out = tmp_path / "t.yaml"
    words = ("--from-tables", str(table), "--engine", ENGINE, "--out", str(out), "--form", "affine")
    ran = leadtime("calibrate", *words, "--select", "model=a", "--scale", "1.05")
    assert ran.code == 0, ran.err
    assert load_profile(str(out)).step.a_s == pytest.approx(1.05 * LAW.a_s, rel=0.01)
    assert "prefill tokens a step: nothing was measured" in ran.out
    several = leadtime("calibrate", *words)
    assert several.code == 2
    assert "rows of several engines; add model=... to --select (there are ['a', 'b'])" in several.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say one of ENDPOINT, --from-steps FILE..., --from-tables CSV..."),
        (("--from-steps", "steps.csv", "--engine", "max_num_seq=3"), "did you mean 'max_num_seqs'?"),
        (("--from-steps", "steps.csv", "--engine", "block_size=0"), "block_size: '0'; allowed: a whole number >= 1"),
        (("--from-steps", "steps.csv", "--engine", "asynchronous=no"), "asynchronous: 'no'; allowed: true, false"),
        (("--from-steps", "steps.csv", "--engine", "kv_tokens"), "'kv_tokens'; allowed: KEY=VALUE"),
        (("--from-steps", "steps.csv"), "--engine kv_tokens=N is needed"),
        (
            ("--from-steps", "steps.csv", "--engine", "kv_tokens=900,max_model_len=901"),
            "allowed: at most 896",
        ),
        (("--from-steps", "none.csv", "--engine", ENGINE), "none.csv: cannot be read"),
        (("--from-steps", "bad.csv", "--engine", ENGINE), "bad.csv: row 3: elapsed_ms: 'x'; allowed: a number >= 0"),
        (("--from-steps", "short.csv", "--engine", ENGINE), "column 'gen_tokens' is missing"),
        (("--from-steps", "steps.csv", "--engine", ENGINE, "--select", "a=b"), "--select is for --from-tables only"),
        (("--from-steps", "steps.csv", "--engine", ENGINE + ",block_size=32"), "block_size: given twice"),
        (("--from-steps", "steps.csv", "--engine", ENGINE, "--requests", "bad.csv"), "column 'arrival_s' is missing"),
    ],
)
def test_bad_input_is_one_line_that_names_it(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_steps(tmp_path / "steps.csv")
    header = "ctx_reqs,ctx_tokens,gen_reqs,gen_tokens,elapsed_ms,kv_usage_pct\n"
    (tmp_path / "bad.csv").write_text(header + "0,0,1,1,10,5\n0,0,1,1,x,5\n")
    (tmp_path / "short.csv").write_text("ctx_reqs,ctx_tokens,gen_reqs,elapsed_ms\n0,0,1,10\n")
    ran = leadtime("calibrate", *words, "--out", "out.yaml")
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.yaml").exists()


PROFILE = """version: 1
name: true
gpu: cpu
step: {form: affine, host_s: 0.0017, a_s: 0.01, b_s: 6.0e-4, c_s: 2.0e-6, d_s: 7.0e-4, h_s: 1.0e-3}
api_s: 0.006
limits: {max_num_seqs: 16, max_num_batched_tokens: 512, block_size: 32, kv_tokens: 5088, max_model_len: 2048}
scheduling: {asynchronous: false}
"""


def test_fidelity_of_the_engine_itself_is_exact_and_ignores_failed_rows(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "r.csv", "200,1e4,50,0,,,,err_Timeout\n201,2e4,5000,9,1,2,,http_400\n")
    (tmp_path / "p.yaml").write_text(PROFILE)
    words = ("fidelity", "--profile", str(tmp_path / "p.yaml"), "--requests", str(requests))
    ran = leadtime(*words, "--json", "--observed", "preemptions=0", "--out", str(tmp_path / "out"))
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    promised = {"version", "profile", "observed", "simulated", "error_fraction", "preemptions", "recomputed_tokens"}
    assert set(found) >= promised
    assert found["observed"]["requests"] == 200
    assert found["error_fraction"]["e2e_s"]["p99"] == pytest.approx(0.0, abs=1e-4)
    assert found["error_fraction"]["throughput_rps"] == pytest.approx(0.0, abs=1e-4)
    assert (found["preemptions"], found["error_fraction"]["preemptions"]) == (0, 0.0)
    assert found["observed"]["recomputed_tokens"] is None
    assert (tmp_path / "out" / "quantiles.svg").read_text().startswith("<svg")
    people = leadtime(*words)
    assert "e2e_s p99" in people.out
    assert "the simulated engine refused 1 requests" in people.out


@pytest.mark.parametrize(
    ("extra", "words", "said"),
    [
        ("9,1e4,50,10,0.2,,,ok\n", (), "row 202: e2e_s: ''; allowed: a number >= 0"),
        ("9,1e4,0,10,0.2,0.4,,ok\n", (), "row 202: prompt_tokens: '0'; allowed: a whole number >= 1"),
        ("9,1e4,50,10,0.5,0.4,,ok\n", (), "row 202: e2e_s: 0.4 is less than ttft_s 0.5"),
        ("", ("--observed", "preemption=3"), "did you mean 'preemptions'?"),
        ("", ("--observed", "preemptions=many"), "preemptions: 'many'; allowed: a number >= 0"),
        ("", ("--profile", "llama-3.1-8b/h100/tp2"), "neither a file nor a preset"),
    ],
)
def test_fidelity_names_what_is_wrong(extra: str, words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PROFILE)
    requests = write_requests(tmp_path / "r.csv", extra)
    ran = leadtime("fidelity", "--profile", str(tmp_path / "p.yaml"), "--requests", str(requests), *words)
    assert ran.code == 2
    assert said in ran.err


@pytest.fixture(scope="module")
def cpu_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibrated by the command, on calibration/ only."""
    out, data = tmp_path_factory.mktemp("cpu") / "cpu.yaml", FOLDER / "calibration"
    steps = [str(data / name) for name in ("step_profile_steps.csv", "high_kv_profile_steps.csv")]
    requests = [str(data / name) for name in ("step_profile.csv", "high_kv_profile.csv")]
    words = ("--from-steps", *steps, "--requests", *requests, "--engine", ENGINE, "--out", str(out))
    ran = leadtime("calibrate", *words)
    assert ran.code == 0, ran.err
    return out


@pytest.mark.skipif(not FOLDER.is_dir(), reason="measured runs are not here")
@pytest.mark.parametrize(
    ("run", "ttft", "e2e", "itl"),
    [("low", 0.18, 0.10, 0.10), ("high", 0.18, 0.10, 0.10), ("overload_quiet", 0.12, 0.08, 0.06)],
)
def test_a_real_vllm_is_predicted_within_tolerance(
    run: str, ttft: float, e2e: float, itl: float, cpu_profile: Path
) -> None:
    requests = FOLDER / run / "requests.csv"
    seen = "preemptions=71,recomputed_tokens=7848" if run == "overload_quiet" else "preemptions=0"
    words = ("--profile", str(cpu_profile), "--requests", str(requests), "--observed", seen, "--json")
    errors = json.loads(leadtime("fidelity", *words).out)["error_fraction"]
    for measure, allowed in (("ttft_s", ttft), ("e2e_s", e2e), ("itl_s", itl)):
        for quantile in ("p50", "p90", "p99"):
            assert abs(errors[measure][quantile]) <= allowed, f"{measure} {quantile}"
    assert abs(errors["preemptions"]) <= 0.25
    assert abs(errors["recomputed_tokens"] or 0.0) <= 0.20
