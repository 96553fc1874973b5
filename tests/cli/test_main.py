"""The command line's frame: quick, lazy, and one line for every mistake."""
# ruff: noqa: E501 (whole messages, as people will read them)

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoscaler import __version__
from autoscaler.cli.registry import COMMANDS, Command
from autoscaler.common.errors import ActuatorError, ConfigError, SourceError
from autoscaler.settings.settings import SOURCES
from policies.base import PolicyError
from tests.cli.helpers import ROOT, leadtime, leadtime_process, python

HEAVY = (
    "ray",
    "simulator",
    "matplotlib",
    "plotly",
    "kubernetes",
    "numba",
    "optuna",
    "aiohttp",
    "pydantic",
    "numpy",
    "rich",
)


def test_help_lists_every_command_of_this_version() -> None:
    ran = leadtime("--help")
    assert (ran.code, ran.err) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command.name} " in ran.out
    assert "example:" in ran.out


def test_help_loads_no_command_and_little_else_of_ours() -> None:
    ran = python(
        "import sys\nfrom autoscaler.cli.main import main\nmain(['--help'])\n"
        "print('loaded:', sorted(m for m in sys.modules if m.split('.')[0] in ('autoscaler', 'policies', 'simulator')))"
    )
    ours = ["autoscaler", "autoscaler.cli", "autoscaler.cli.main", "autoscaler.cli.parser", "autoscaler.cli.registry"]
    ours += [
        "autoscaler.cli.text",
        "autoscaler.common",
        "autoscaler.common.errors",
        "autoscaler.common.escaping",
        "autoscaler.common.redaction",
    ]
    assert ran.out.splitlines()[-1] == f"loaded: {ours}", ran.err


def test_the_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    ran = python(f"import sys, autoscaler.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert ran.out.strip() == "[]", ran.err


@pytest.mark.parametrize("command", [c.name for c in COMMANDS])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    ran = leadtime(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"leadtime {command}" in ran.out
    assert "\nexample:\n" in ran.out


def test_help_of_a_command_can_be_asked_both_ways() -> None:
    assert leadtime("help", "config").out == leadtime("config", "--help").out


def test_the_version_is_the_packages() -> None:
    assert leadtime("--version").out == f"leadtime {__version__}\n"


def test_no_command_shows_what_there_is() -> None:
    ran = leadtime()
    assert (ran.code, ran.out) == (2, "")
    assert "commands:" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("confg",), "leadtime: 'confg': no such command; did you mean 'config'?; see: leadtime --help"),
        (("xyz",), "leadtime: 'xyz': no such command; see: leadtime --help"),
        (("--verzion",), "leadtime: '--verzion': no such option; see: leadtime --help"),
        (
            ("config", "validate", "f.yaml", "--no-file"),
            "leadtime config: unrecognized arguments: --no-file; did you mean '--no-files'?; see: leadtime config --help",
        ),
        (
            ("config",),
            "leadtime config: the following arguments are required: ACTION; see: leadtime config --help",
        ),
        (
            ("config", "validate"),
            "leadtime config validate: the following arguments are required: FILE; see: leadtime config validate --help",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_with_the_nearest_name(words: tuple[str, ...], says: str) -> None:
    ran = leadtime(*words)
    assert (ran.code, ran.out, ran.err) == (2, "", f"{says}\n")


# ---------------------------------------------------------------- errors and exit codes


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, code: int = 0) -> None:
    """Make `leadtime config` raise this error, or return this code."""

    def run(args: Any) -> int:
        if error is not None:
            raise error
        return code

    module = SimpleNamespace(DESCRIPTION="d", EXAMPLE="e", add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(Command, "load", lambda self: module)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConfigError("f.yaml:1: tick_s: 0; allowed: more"), 2, "f.yaml:1: tick_s: 0; allowed: more"),
        (PolicyError("policy x: option y"), 2, "policy x: option y"),
        (SourceError("two\nlines"), 1, "two lines"),
        (ActuatorError(""), 1, "ActuatorError"),
        (FileNotFoundError(2, "No such file or directory", "out/x"), 1, "leadtime: out/x: No such file or directory"),
        (OSError(98, "Address already in use"), 1, "leadtime: Address already in use"),
    ],
)
def test_what_went_wrong_outside_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, says: str
) -> None:
    broken(monkeypatch, error)
    ran = leadtime("config")
    assert (ran.code, ran.out, ran.err) == (code, "", f"{says}\n")


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, ConfigError("wrong"))
    monkeypatch.setenv("LEADTIME_DEBUG", "1")
    ran = leadtime("config")
    assert ran.code == 2
    assert ran.err.startswith("Traceback")
    assert ran.err.endswith("\nwrong\n")


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_is_another_way_to_ask_for_it(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    broken(monkeypatch, ConfigError("wrong"))
    assert leadtime("config", option).err.startswith("Traceback")
    assert leadtime("config").err == "wrong\n"  # the next command is as it was


def test_quiet_and_verbose_stand_before_or_after_an_action_and_not_together(tmp_path: Path) -> None:
    file = str(tmp_path / "nowhere.yaml")
    before, after = leadtime("config", "-v", "validate", file), leadtime("config", "validate", file, "-v")
    assert before.err.startswith("Traceback")
    assert after.err.startswith("Traceback")
    assert leadtime("config", "validate", file, "-q").err.startswith(file)
    assert "not allowed with argument" in leadtime("status", "-q", "-v").err


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, TypeError("oops"))
    ran = leadtime("config")
    assert ran.code == 1
    assert ran.err.startswith("Traceback")
    assert ran.err.endswith("leadtime: a bug in leadtime, please report it with the lines above: TypeError: oops\n")


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, KeyboardInterrupt())
    assert leadtime("config") == leadtime("config").__class__(130, "", "")


def test_a_commands_code_is_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, code=1)
    assert leadtime("config").code == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    words = [sys.executable, "-m", "autoscaler.cli.main", "config", "schema"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        err = program.stderr.read()
    assert (program.returncode, err) == (141, "")


def test_a_bad_settings_file_ends_the_program_with_2(tmp_path: Path) -> None:
    (tmp_path / "lt.yaml").write_text("version: 1\ntick: 1\n", encoding="utf-8")
    ran = leadtime_process("config", "validate", "lt.yaml", cwd=tmp_path)
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "lt.yaml:2: tick: unknown key; did you mean 'tick_s'? (allowed: version, dry_run, tick_s, services, deployments, "
        "tenants, node_pools, gpu_budget, reading, policy, guards, state, journal, server, leader_election, kubernetes, "
        f"{', '.join(SOURCES)})",
    ]
