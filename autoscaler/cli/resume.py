"""`leadtime resume`: let a paused controller, or one deployment, go on."""

from __future__ import annotations

import argparse

from autoscaler.cli import pause

DESCRIPTION = """\
Let a paused controller go on, or one deployment. Without KEY also the deployments that were paused one by one."""
EXAMPLE = """
leadtime resume --token-file token
leadtime resume chat/llm --token-file token
"""

add_arguments = pause.add_arguments


def run(args: argparse.Namespace) -> int:
    return pause.switch("resume", args)
