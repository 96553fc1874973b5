"""Which commands there are: one file here per command, imported only when that command is called.

To add a command: write `autoscaler/cli/<module>.py` with

    DESCRIPTION = "What it does, in a sentence or two."
    EXAMPLE = "leadtime NAME ..."                                   # one or more lines, shown by --help
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def run(args: argparse.Namespace) -> int: ...                   # the exit code; raise InputError for bad input

and its line in COMMANDS. Heavy imports belong inside `run`. Not for parsing arguments (parser.py).
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast


class CommandModule(Protocol):
    """What a command's file defines."""

    DESCRIPTION: str
    EXAMPLE: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True, slots=True)
class Command:
    """A command's name, its file in this folder, and what it does in a few words."""

    name: str
    module: str
    summary: str

    def load(self) -> CommandModule:
        return cast(CommandModule, importlib.import_module(f"autoscaler.cli.{self.module}"))


COMMANDS: tuple[Command, ...] = (
    Command("run", "run", "run the controller against live Ray Serve services"),
    Command("standby", "standby", "stand in for a controller that is gone: raise levels, never lower them"),
    Command("demo", "demo", "a local Ray Serve, emulated engines, load and the controller, in one command"),
    Command("simulate", "simulate", "run one scenario under one policy"),
    Command("compare", "compare", "run scenarios under many policies and compare cost and SLO attainment"),
    Command("tune", "tune", "search a policy's options on scenarios"),
    Command("calibrate", "calibrate", "fit an engine profile to measurements"),
    Command("profiles", "profiles", "list the engine profiles that are shipped"),
    Command("fidelity", "fidelity", "compare the simulator with observed requests"),
    Command("forecast", "forecast", "judge forecasters on a series of rates"),
    Command("backtest", "backtest", "what leadtime would have done over recorded traffic"),
    Command("replay", "replay", "run a journal's recorded inputs through today's code"),
    Command("explain", "explain", "say in words why a journal's decisions were made"),
    Command("status", "status", "ask a running controller how things stand"),
    Command("pause", "pause", "stop a running controller from changing anything (or one deployment)"),
    Command("resume", "resume", "let it go on"),
    Command("handback", "handback", "how to return a deployment to Serve's autoscaler"),
    Command("release", "release", "give back what pre-warming holds"),
    Command("doctor", "doctor", "check versions, access and metric names"),
    Command("config", "config", "check a settings file; print its schema or an example"),
    Command("chart", "chart", "print the controller as a sidecar of a Ray head"),
    Command("completion", "completion", "print a script that completes commands in your shell"),
    Command("trace", "trace", "convert, describe and generate workload traces"),
)


def find_command(name: str) -> Command | None:
    return next((c for c in COMMANDS if c.name == name), None)
