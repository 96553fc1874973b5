"""The `leadtime` command: finds the command's file, runs it, turns errors into one line and an exit code.

Exit codes: 0 good; 1 it failed; 2 something the user wrote cannot be used; 130 interrupted. `--verbose`, or
LEADTIME_DEBUG=1, shows the traceback of any error. Not for the commands (one file each, see registry.py). Imports
nothing heavy: `--help` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from autoscaler import __version__
from autoscaler.cli.parser import Parser, UsageError, add_loudness, did_you_mean
from autoscaler.cli.registry import COMMANDS, Command, find_command
from autoscaler.cli.text import loudness, say, say_block, warn
from autoscaler.common.errors import InputError, LeadtimeError

_BROKEN_PIPE = 128 + 13
"""What a shell reports for a program that SIGPIPE ended."""
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code. Raises nothing."""
    words = list(sys.argv[1:] if argv is None else argv)
    loudness.choose(quiet=False, verbose=False)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE
    except SystemExit as stop:  # argparse: --help
        return _exit_code(stop)
    except Exception as error:
        return _report(error)
    return code


def _dispatch(words: list[str]) -> int:
    if not words:
        say_block(_overview(), to=sys.stderr)
        return 2
    name, rest = words[0], words[1:]
    if name in ("-h", "--help", "help"):
        if name == "help" and rest:
            return _dispatch([rest[0], "--help"])
        say_block(_overview())
        return 0
    if name in ("-V", "--version"):
        say(f"leadtime {__version__}")
        return 0
    command = _command(name)
    module = command.load()
    parser = Parser(prog=f"leadtime {command.name}", description=module.DESCRIPTION, epilog=_example(module.EXAMPLE))
    module.add_arguments(parser)
    add_loudness(parser)
    args = parser.parse_args(rest)
    loudness.choose(quiet="quiet" in args, verbose="verbose" in args)
    return module.run(args)


def _command(name: str) -> Command:
    command = find_command(name)
    if command is not None:
        return command
    kind = "option" if name.startswith("-") else "command"
    hint = did_you_mean(name, [c.name for c in COMMANDS])
    raise UsageError(f"leadtime: {name!r}: no such {kind}{hint}; see: leadtime --help")


def _overview() -> str:
    lines = [
        "usage: leadtime COMMAND ...",
        "",
        "Autoscaling for LLM serving on Ray Serve: decides now what traffic will need one lead time from now.",
        "",
        "commands:",
        *(f"  {c.name:<10} {c.summary}" for c in COMMANDS),
        "",
        "options:",
        "  --help     this text; `leadtime COMMAND --help` explains a command and gives an example",
        "  --version  the version",
        "",
        "example:",
        "  leadtime config example > leadtime.yaml && leadtime run --config leadtime.yaml",
        "",
    ]
    return "\n".join(lines)


def _example(text: str) -> str:
    return "example:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())


def _report(error: Exception) -> int:
    """One line for what the user or the world did; the traceback only for our own mistakes, or when asked for."""
    debug = loudness.is_verbose() or os.environ.get("LEADTIME_DEBUG", "") not in ("", "0")
    expected = isinstance(error, LeadtimeError | OSError | MemoryError) or _is_policy_error(error)
    if debug or not expected:
        say_block("".join(traceback.format_exception(error)), to=sys.stderr)
    message = " ".join(str(error).split()) or type(error).__name__
    if not expected:
        message = (
            f"leadtime: a bug in leadtime, please report it with the lines above: {type(error).__name__}: {message}"
        )
    elif isinstance(error, MemoryError):
        message = f"leadtime: out of memory: {message}"
    elif isinstance(error, OSError):
        message = _os_error(error)
    warn(message)
    return 2 if isinstance(error, InputError) or _is_policy_error(error) else 1


def _os_error(error: OSError) -> str:
    where = "" if error.filename is None else f"{error.filename}: "
    return f"leadtime: {where}{error.strerror or error}"


def _is_policy_error(error: Exception) -> bool:
    from policies.base import PolicyError

    return isinstance(error, PolicyError)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    warn(str(stop.code))
    return 1


def _silence_stdout() -> None:
    """Whoever read our output is gone: give the interpreter's own flush at exit somewhere to go."""
    with contextlib.suppress(OSError, ValueError):  # a test's buffer has no file number, and needs nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
