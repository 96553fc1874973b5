"""`leadtime completion`: a script that completes commands, options and files in your shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from autoscaler.cli.parser import Parser, add_loudness
from autoscaler.cli.registry import COMMANDS
from autoscaler.cli.text import say_block

DESCRIPTION = "Print a script that completes leadtime's commands, options and files in your shell."
EXAMPLE = """
leadtime completion bash > ~/.local/share/bash-completion/completions/leadtime
leadtime completion fish > ~/.config/fish/completions/leadtime.fish
leadtime completion zsh > "${fpath[1]}/_leadtime"
"""
SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="one of bash, zsh, fish, tcsh")


def run(args: argparse.Namespace) -> int:
    import shtab

    parser = whole_parser()
    for action in _arguments(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    say_block(shtab.complete(parser, args.shell))
    return 0


def whole_parser() -> Parser:
    """One parser with every command in it. The command line itself loads one command at a time."""
    parser = Parser(prog="leadtime")
    parser.add_argument("--version", action="store_true", help="the version")
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in COMMANDS:
        command.load().add_arguments(commands.add_parser(command.name, help=command.summary))
    add_loudness(parser)
    return parser


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _arguments(child)
