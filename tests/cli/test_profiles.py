"""`leadtime profiles` takes the same promises as settings and scenarios do."""

from __future__ import annotations

import json

import pytest

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
