"""Whether what a Ray head says of its deployments is of a size that may be read of one service. Pure.

Looked at before anything is made of it: what is too much is refused as a whole, since a part of it would look like a
small service. What the values mean is in applications.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.common.errors import SourceError

_TEXTS = ("replica_id", "state", "node_id", "worker_id")


def check_sizes(answer: object, limits: ReadingLimits) -> None:
    """Errors: SourceError that names the limit."""
    deployments = replicas = 0
    for app_name, app in _entries(answer, "applications"):
        check_name(app_name, limits)
        for name, deployment in _entries(app, "deployments"):
            check_name(name, limits)
            deployments += 1
            if deployments > limits.deployments:
                raise SourceError(
                    f"lists more than {limits.deployments} deployments, the most that are read of one service "
                    "(reading.deployments)"
                )
            for text in (_of(app, "status"), _of(deployment, "status")):
                _check_text(text, limits)
            listed = _of(deployment, "replicas")
            if not isinstance(listed, list):
                continue
            replicas += len(listed)
            if replicas > limits.replicas:
                raise SourceError(
                    f"lists more than {limits.replicas} replicas, the most that are read of one service "
                    "(reading.replicas)"
                )
            for replica in listed:
                if isinstance(replica, dict):
                    for field in _TEXTS:
                        _check_text(replica.get(field), limits)


def check_name(name: str, limits: ReadingLimits) -> None:
    """Errors: SourceError for a name that could not be shown, saved or sent on as it is."""
    if not name or len(name) > limits.name_chars or not name.isprintable():
        raise SourceError(
            f"has a name that is not used: {name[:40]!a}{'...' if len(name) > 40 else ''}; allowed: 1 to "
            f"{limits.name_chars} printable characters (reading.name_chars)"
        )


def _check_text(text: object, limits: ReadingLimits) -> None:
    if isinstance(text, str) and text:
        check_name(text, limits)


def _entries(value: object, key: str) -> Iterator[tuple[str, Any]]:
    found = _of(value, key)
    return iter(found.items() if isinstance(found, dict) else ())


def _of(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None
