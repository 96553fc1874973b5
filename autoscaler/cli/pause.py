"""`leadtime pause`: stop a running controller from changing anything, or one deployment. Also what `resume` shares."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from autoscaler.cli.controller_api import add_url_argument, ask
from autoscaler.cli.text import say
from autoscaler.common.errors import InputError, LeadtimeError
from autoscaler.common.extras import missing

DESCRIPTION = """\
Stop a running controller from changing anything, or one deployment. It goes on observing and planning.
The switch is kept when the controller restarts; `leadtime resume` lets it go on."""
EXAMPLE = """
leadtime pause --token-file token
leadtime pause chat/llm --token-file token --url http://127.0.0.1:8080
leadtime pause --cluster leadtime/leadtime      # every pod of that release, with your kubeconfig
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
    add_cluster_arguments(parser)


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        metavar="NAMESPACE/NAME",
        help="instead of one controller: the switch of a release in Kubernetes (ConfigMap NAME-pause), which all its "
        "pods read; KEY may be a pattern",
    )
    parser.add_argument(
        "--kubeconfig", metavar="F", type=Path, help="with --cluster: how to reach it (default: as kubectl does)"
    )


def run(args: argparse.Namespace) -> int:
    return switch("pause", args)


def switch(action: Literal["pause", "resume"], args: argparse.Namespace) -> int:
    """Pull the switch and say what is paused now."""
    if args.cluster is not None:
        say(_in_cluster(action == "pause", args))
        return 0
    body = {} if args.key is None else {"key": args.key}
    say(_words(ask(args.url, f"/api/v1/{action}", body, args.token_file, args.ca_file)))
    return 0


def _words(answer: Any) -> str:
    return _said(answer["paused"], answer["deployments"])


def _said(everything: bool, deployments: Iterable[str]) -> str:
    return "paused: everything" if everything else f"paused: {', '.join(deployments) or 'nothing'}"


def _in_cluster(paused: bool, args: argparse.Namespace) -> str:
    """Errors: InputError for what was written; LeadtimeError when the cluster does not do it."""
    namespace, _, name = args.cluster.partition("/")
    if not namespace or not name or "/" in name:
        raise InputError(f"--cluster: {args.cluster!r}; allowed: NAMESPACE/NAME, as in leadtime/leadtime")
    if args.key is not None and len(args.key.split("/")) not in (2, 4):
        raise InputError(
            f"KEY: {args.key!r}; allowed: APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT, or a pattern"
        )
    try:
        from autoscaler.kubernetes.api import connect
    except ImportError as error:
        raise LeadtimeError(f"--cluster: {missing('kube', error)}") from None
    from autoscaler.sources.kubernetes.pause import ClusterPause, set_paused

    async def pull() -> ClusterPause:
        api = connect(args.kubeconfig)
        try:
            return await set_paused(api, namespace, f"{name}-pause", args.key, paused)
        finally:
            await api.close()

    found = asyncio.run(pull())
    return _said(found.everything, found.patterns)
