"""`leadtime trace convert`: published formats in, our requests trace out; a bad row is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from simulator.experiments.observed import read_observed
from simulator.workload.traces import read_requests
from tests.cli.helpers import leadtime

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:50.2224670,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:01.509930+00:00,2399,6
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,GPT-4,1087,0,1087,API log
118,ChatGPT,417,276,693,Conversation log
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 4500, "input_length": 7322, "output_length": 490, "hash_ids": [0, 2]}
"""
BENCH = {
    "duration": 3.0,
    "input_lens": [100, 200, 50],
    "output_lens": [3, 1, 0],
    "ttfts": [0.5, 0.25, 0.0],
    "itls": [[0.1, 0.3], [], []],
    "start_times": [1001.5, 1000.0, 1002.0],
    "errors": ["", "", "Timeout"],
}


def converted(tmp_path: Path, form: str, text: str, out: str = "out.csv") -> tuple[list[float], list[int], list[int]]:
    (tmp_path / "in").write_text(text)
    ran = leadtime("trace", "convert", "--format", form, str(tmp_path / "in"), str(tmp_path / out))
    assert (ran.code, ran.err) == (0, "")
    trace = read_requests(tmp_path / out)
    return trace.time_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist()


def test_azure_2023_is_sorted_and_starts_at_zero(tmp_path: Path) -> None:
    times, prompts, outputs = converted(tmp_path, "azure", AZURE_2023, "out.csv.gz")
    assert times == pytest.approx([0.0, 3.5419, 4.3146], abs=1e-4)
    assert (prompts, outputs) == ([374, 879, 396], [44, 55, 109])


def test_azure_2024_has_times_with_a_zone(tmp_path: Path) -> None:
    assert converted(tmp_path, "azure", AZURE_2024) == ([0.0, 1.5], [2162, 2399], [5, 6])


def test_burstgpt_leaves_failures_out_and_says_so(tmp_path: Path) -> None:
    assert converted(tmp_path, "burstgpt", BURSTGPT) == ([0.0, 113.0], [472, 417], [18, 276])
    ran = leadtime("trace", "convert", "--format", "burstgpt", str(tmp_path / "in"), str(tmp_path / "out.csv"))
    assert ran.out.endswith("2 requests over 113 s; 1 without tokens left out\n")


def test_mooncake_counts_in_milliseconds(tmp_path: Path) -> None:
    assert converted(tmp_path, "mooncake", MOONCAKE) == ([0.0, 3.5], [6758, 7322], [500, 490])


def test_vllm_bench_gives_a_trace_and_observed_requests(tmp_path: Path) -> None:
    assert converted(tmp_path, "vllm-bench", json.dumps(BENCH)) == ([0.0, 1.5], [200, 100], [1, 3])
    words = ("--format", "vllm-bench", "--observed", str(tmp_path / "in"), str(tmp_path / "seen.csv"))
    assert leadtime("trace", "convert", *words).code == 0
    seen = read_observed(tmp_path / "seen.csv")
    assert seen.arrival_s.tolist() == [0.0, 1.5]
    assert seen.e2e_s == pytest.approx([0.25, 0.9])
    assert seen.mean_itl_s[1] == pytest.approx(0.2)


def test_compressed_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(AZURE_2024.encode()))
    ran = leadtime("trace", "convert", "--format", "azure", str(tmp_path / "in.csv.gz"), str(tmp_path / "out.csv"))
    assert ran.code == 0


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("azure", AZURE_2023 + "yesterday,1,2\n", "in: row 5: TIMESTAMP: 'yesterday'; allowed: a time like 2023-11-16"),
        (
            "azure",
            AZURE_2023 + "2023-11-16 18:15:46,1.5,2\n",
            "in: row 5: ContextTokens: '1.5'; allowed: a whole number",
        ),
        ("azure", AZURE_2023 + "2023-11-16 18:15:46,1\n", "in: row 5: not as many columns as the header (3)"),
        (
            "azure",
            BURSTGPT,
            "in: row 1: column 'TIMESTAMP' is missing; needed: TIMESTAMP,ContextTokens,GeneratedTokens",
        ),
        ("azure", "", "in: row 1: column 'TIMESTAMP' is missing"),
        ("burstgpt", BURSTGPT.replace("118", "soon"), "in: row 4: Timestamp: 'soon'; allowed: a number >= 0"),
        ("burstgpt", BURSTGPT.replace("276", "-2"), "in: row 4: Response tokens: '-2'; allowed: a number >= 0"),
        ("mooncake", MOONCAKE + "{broken\n", "in: row 3: not JSON"),
        ("mooncake", MOONCAKE + '{"timestamp": 1}\n', "in: row 3: input_length: None; allowed: a number >= 0"),
        ("mooncake", "[1]\n", "in: row 1: expected a JSON object"),
        ("vllm-bench", "{}", "in: start_times: missing; allowed: a list"),
        ("vllm-bench", json.dumps(BENCH | {"input_lens": [1]}), "in: input_lens: 1 entries, start_times has 3"),
        ("vllm-bench", json.dumps(BENCH | {"input_lens": [1, "x", 2]}), "in: request 2: input_lens: 'x'; allowed"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(form: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(text)
    ran = leadtime("trace", "convert", "--format", form, str(tmp_path / "in"), str(tmp_path / "out.csv"))
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_a_wrong_format_or_file_is_named(tmp_path: Path) -> None:
    ran = leadtime("trace", "convert", "--format", "azur", "in", "out.csv")
    assert ran.code == 2
    assert "azure" in ran.err
    ran = leadtime("trace", "convert", "--format", "azure", str(tmp_path / "none.csv"), "out.csv")
    assert (ran.code, ran.err) == (2, f"{tmp_path / 'none.csv'}: no such file\n")
    ran = leadtime("trace", "convert", "--format", "azure", "--observed", "in", "out.csv")
    assert "only for --format vllm-bench" in ran.err


@pytest.mark.parametrize(
    ("form", "data", "said"),
    [
        ("azure", gzip.compress(AZURE_2023.encode() * 40)[:-30], "in: cannot be read"),
        ("azure", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 40, "in: cannot be read"),
        ("azure", AZURE_2023.encode() + b"2023-11-16 18:15:46," + b"9" * 200_000 + b",1\n", "not a CSV row"),
        ("mooncake", b'{"timestamp": 1' + b"0" * 400 + b', "input_length": 1, "output_length": 1}', "in: row 1: times"),
        ("mooncake", b'{"timestamp": 1' + b"0" * 5000 + b', "input_length": 1, "output_length": 1}', "in: row 1: not"),
        ("mooncake", b"[" * 100_000, "in: row 1: not JSON that can be read"),
    ],
    ids=["truncated", "corrupt", "long cell", "too large", "thousands of digits", "nested"],
)
def test_broken_and_monstrous_files_are_refused_in_one_line(form: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(data)
    ran = leadtime("trace", "convert", "--format", form, str(tmp_path / "in"), str(tmp_path / "out.csv"))
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_a_benchmark_without_requests_gives_no_observed_requests(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(json.dumps({name: [] for name in BENCH}))
    words = ("--format", "vllm-bench", "--observed", str(tmp_path / "in"), str(tmp_path / "seen.csv"))
    ran = leadtime("trace", "convert", *words)
    assert (ran.code, ran.err) == (2, f"{tmp_path / 'in'}: start_times: no requests in it\n")
    assert not (tmp_path / "seen.csv").exists()
