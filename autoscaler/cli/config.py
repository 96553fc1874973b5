"""`leadtime config`: check a settings file, print the settings' JSON schema or a commented example."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from autoscaler.cli.text import say, say_block, warn

DESCRIPTION = "Check a settings file of the controller, or print what one can hold."
EXAMPLE = """
leadtime config example > leadtime.yaml
leadtime config validate leadtime.yaml
leadtime config schema > leadtime.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    validate = actions.add_parser(
        "validate",
        help="check a settings file; exit 2 and one line per problem when it cannot be used",
        description="Check a settings file: exit 0 when `leadtime run` would take it, else 2 and one line per problem.",
        epilog="example:\n  leadtime config validate leadtime.yaml",
    )
    validate.add_argument("file", metavar="FILE", type=Path, help="the settings file (YAML)")
    validate.add_argument(
        "--no-files",
        action="store_true",
        help="do not look at the token and certificate files that it names (for a check on another machine)",
    )
    actions.add_parser(
        "schema",
        help="print the JSON schema of the settings (for editors)",
        description="Print the JSON schema of the settings, for editors and other programs.",
        epilog="example:\n  leadtime config schema > leadtime.schema.json",
    )
    actions.add_parser(
        "example",
        help="print a commented settings file with every setting",
        description="Print a commented settings file with every setting, to begin with.",
        epilog="example:\n  leadtime config example > leadtime.yaml",
    )


def run(args: argparse.Namespace) -> int:
    if args.action == "validate":
        return _validate(args.file, not args.no_files)
    from autoscaler.settings import settings_schema
    from autoscaler.settings.reference import example

    schema = settings_schema()
    say_block((json.dumps(schema, indent=2) if args.action == "schema" else example(schema).rstrip()) + "\n")
    return 0


def _validate(path: Path, look_at_files: bool) -> int:
    from autoscaler.settings import load_config
    from autoscaler.settings.document.problems import BadSettings

    try:
        config = load_config(path, look_at_files)
    except BadSettings as error:
        warn(*error.lines)
        return 2
    core = config.controller
    counts = (
        _count(len(config.services), "service") + ("" if config.kubernetes is None else " and what Kubernetes has"),
        _count(len(core.deployments), "deployment entry", "deployment entries"),
        _count(len(core.pools), "node pool"),
    )
    mode = "dry run" if core.dry_run else "acts"
    say(f"{path}: good: {', '.join(counts)}; policy {core.policy_name}; {mode}")
    return 0


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
