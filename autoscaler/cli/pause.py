"""`leadtime pause`: stop a running controller from changing anything, or one deployment. Also what `resume` shares."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

from autoscaler.cli.controller_api import add_url_argument, ask

DESCRIPTION = """\
Stop a running controller from changing anything, or one deployment. It goes on observing and planning.
The switch is kept when the controller restarts; `leadtime resume` lets it go on."""
EXAMPLE = """
leadtime pause --token-file token
leadtime pause chat/llm --token-file token --url http://127.0.0.1:8080
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", nargs="?", help="only this deployment (default: everything)")
    parser.add_argument(
        "--token-file",
        metavar="F",
        type=Path,
        help="file with the token (server.token_file of the controller's settings)",
    )
    add_url_argument(parser)


def run(args: argparse.Namespace) -> int:
    return switch("pause", args)


def switch(action: Literal["pause", "resume"], args: argparse.Namespace) -> int:
    """Pull the switch and say what is paused now."""
    body = {} if args.key is None else {"key": args.key}
    print(_words(ask(args.url, f"/api/v1/{action}", body, args.token_file)))
    return 0


def _words(answer: Any) -> str:
    if answer["paused"]:
        return "paused: everything"
    return f"paused: {', '.join(answer['deployments']) or 'nothing'}"
