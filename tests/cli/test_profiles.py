"""`leadtime profiles` takes the same promises as settings and scenarios do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.capacity.load import load_profile
from tests.cli.helpers import leadtime


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ttft-s", "2000"), "--ttft-s: 2000; allowed: seconds above 0 and up to 600 (2000 ms are written 2)"),
        (("--itl-s", "50"), "--itl-s: 50; allowed: seconds above 0 and up to 10 (50 ms are written 0.05)"),
        (("--itl-s", "0"), "--itl-s: 0; allowed: seconds above 0 and up to 10 (50 ms are written 0.05)"),
        (("--ttft-s", "nan"), "--ttft-s: nan; allowed: seconds above 0 and up to 600 (2000 ms are written 2)"),
        (("--prompt-tokens", "0"), "--prompt-tokens: 0; allowed: a number above 0 and below 1000000000"),
        (("--output-tokens", "9999999999"), "--output-tokens: 9999999999; allowed: a number above 0 and below"),
    ],
)
def test_what_must_be_milliseconds_or_is_no_number_of_tokens_is_refused(words: tuple[str, ...], said: str) -> None:
    ran = leadtime("profiles", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(said)
    assert ran.err.count("\n") == 1


def test_the_promise_that_was_typed_is_what_capacity_is_for() -> None:
    loose, tight = (
        json.loads(leadtime("profiles", "--itl-s", itl, "--json").out)["profiles"][0]["capacity_rps"]
        for itl in ("0.1", "0.02")
    )
    assert tight < loose


def test_the_list_is_narrowed_by_model_and_gpu_and_fits_80_columns() -> None:
    rows = json.loads(leadtime("profiles", "--model", "LLAMA-3.1-8b", "--gpu", "h1", "--json").out)["profiles"]
    assert {row["gpu"] for row in rows} == {"nvidia-h100-80gb"}
    assert all(row["name"].startswith("llama-3.1-8b") for row in rows)
    assert max(len(line.rstrip()) for line in leadtime("profiles").out.splitlines()) <= 80


def test_a_filter_that_nothing_matches_is_refused() -> None:
    ran = leadtime("profiles", "--model", "gpt-9")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("--model: 'gpt-9'; allowed: a part of one of ")


def test_a_profile_is_made_from_a_name_and_is_a_profile(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    words = ("mixtral-8x7b", "--gpu", "nvidia-h100-80gb", "--tp", "2", "--price", "3.5", "--out", str(out))
    ran = leadtime("profiles", "make", *words)
    assert ran.code == 0
    assert "how sure: roofline: a first guess, to be measured" in ran.out
    profile = load_profile(str(out))
    assert (profile.name, profile.gpus, profile.price_usd_per_gpu_hour) == ("mine", 2, 3.5)
    assert "price_usd_per_gpu_hour" not in profile.fit["assumed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("llama-3.1-8b", "--gpu", "t4"), "--gpu: 't4'; allowed: l4, l40s, a100"),
        (("llama-9", "--gpu", "h100"), "MODEL: 'llama-9'; allowed: the path of a config.json, or one of llama-3.1-8b"),
        (("llama-3.1-8b", "--gpu", "h100", "--tp", "3"), "--tp: 3; allowed: what divides the 32 attention heads"),
        (("llama-3.3-70b", "--gpu", "h100"), "llama-3.3-70b in bf16 does not fit on 1 x h100"),
        (("llama-3.1-8b", "--gpu", "a100", "--quantization", "fp8"), "--quantization: 'fp8' is nothing that a100 has"),
        (("llama-3.1-8b", "--gpu", "h100", "--max-model-len", "900000"), "llama-3.1-8b: limits.max_model_len: 900000"),
        (("llama-3.1-8b", "--gpu", "h100", "--price", "nan"), "--price: nan; allowed: 0 to 1e+06"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ran = leadtime("profiles", "make", *words, "--out", str(tmp_path / "mine.yaml"))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(said)
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "mine.yaml").exists()
