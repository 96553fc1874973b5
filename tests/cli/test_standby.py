"""`leadtime standby` as a program: what it refuses, each in one line that says what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.helpers import leadtime_process


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--after-s", "1"], "--after-s: 1; allowed: 5 to 86400 seconds"),
        (["--after-s", "nan"], "--after-s: nan; allowed: 5 to 86400 seconds"),
        (["--port", "70000"], "--port: 70000; allowed: 0 to 65535"),
        (["--token-file", "/no/such/token"], "token_file /no/such/token: no such file"),
        (["--ca-file", "/no/such/ca.pem"], "ca_file /no/such/ca.pem: no such file"),
        (["--ca-file", __file__], f"ca_file {__file__}: "),
        (["--plan", "leadtime:8080"], "plan: 'leadtime:8080'; allowed: http://HOST:PORT"),
    ],
)
def test_wrong_arguments_are_one_line_that_says_what_is_allowed(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    settings = tmp_path / "leadtime.yaml"
    settings.write_text("version: 1\nservices: [{dashboard: 'http://127.0.0.1:1'}]\n")
    ran = leadtime_process("standby", "--config", str(settings), "--plan", "http://127.0.0.1:1", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert "acts after" not in ran.err
