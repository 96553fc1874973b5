"""`leadtime completion`: what a real bash completes with it. The other shells' scripts are only printed here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from autoscaler.cli.completion import SHELLS
from autoscaler.cli.registry import COMMANDS
from tests.cli.helpers import leadtime

ASK = """\
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
$(complete -p leadtime | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""As bash itself calls what was registered: the words so far, the last of which is being written."""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "leadtime"
    ran = leadtime("completion", "bash")
    assert (ran.code, ran.err) == (0, "")
    path.write_text(ran.out)
    return path


def completed(script: Path, folder: Path, *words: str) -> set[str]:
    bash = shutil.which("bash")
    assert bash is not None
    command = [bash, "-c", ASK, "bash", str(script), "leadtime", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sim",), {"simulate"}),
        (("config", "va"), {"validate"}),
        (("simulate", "--s"), {"--seed", "--set"}),
        (("trace", "describe", "--qu"), {"--quiet"}),
    ],
)
def test_bash_completes_commands_and_options(
    script: Path, tmp_path: Path, words: tuple[str, ...], expected: set[str]
) -> None:
    assert completed(script, tmp_path, *words) == expected


def test_bash_completes_every_command(script: Path, tmp_path: Path) -> None:
    assert {command.name for command in COMMANDS} <= completed(script, tmp_path, "")


def test_bash_completes_files_where_a_file_belongs(script: Path, tmp_path: Path) -> None:
    (tmp_path / "leadtime.yaml").touch()
    assert completed(script, tmp_path, "run", "--config", "lead") == {"leadtime.yaml"}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_names_every_command(shell: str) -> None:
    ran = leadtime("completion", shell)
    assert ran.code == 0
    assert [command.name for command in COMMANDS if command.name not in ran.out] == []


def test_another_shell_is_refused_with_those_that_there_are() -> None:
    ran = leadtime("completion", "ksh")
    assert ran.code == 2
    assert "'ksh'" in ran.err
    assert "bash, zsh, fish, tcsh" in ran.err or "'bash', 'zsh', 'fish', 'tcsh'" in ran.err
