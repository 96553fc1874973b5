"""Argument parsing with errors that are one line: what was wrong, the nearest valid name, where help is.

A thin layer over argparse. Errors are raised as UsageError (exit 2), not printed here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from autoscaler.common.errors import InputError


class UsageError(InputError):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one line with a suggestion."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}{self._hint(message)}; see: {self.prog} --help")

    def _hint(self, message: str) -> str:
        """The nearest option to the first unknown one of argparse's message, if any is near."""
        prefix = "unrecognized arguments: "
        if not message.startswith(prefix):
            return ""
        words = (word.partition("=")[0] for word in message.removeprefix(prefix).split())
        unknown = next((word for word in words if word.startswith("-")), None)
        return "" if unknown is None else did_you_mean(unknown, set(_options(self)))


def add_loudness(parser: argparse.ArgumentParser) -> None:
    """`--quiet` and `--verbose`, for the parser and all its sub-commands: before or after the sub-command's name."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress; only warnings of logs"
    )
    how.add_argument(
        "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="tracebacks, and logs of libraries"
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                add_loudness(child)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option of a parser and of its sub-commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _options(child)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest candidate, or nothing when none is near."""
    from policies.options import nearest

    return nearest(word, sorted(candidates))
