"""Where the tokens of found Ray clusters are: a place that follows from namespace and Secret alone.

Pure. Which Secret a RayCluster names is its owner's word; that it is of the same namespace is not. Reading the file,
and seeing that it is where its name says: clients/ray_dashboard.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TOKEN_FILE = "auth_token"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Where the tokens of found Ray clusters are: in files of their own namespace, or in those that the settings name.

    `named` maps NAMESPACE/SECRET to a file; other Secrets are mounted as FOLDER/NAMESPACE/SECRET/auth_token.
    """

    folder: Path | None = None
    named: Mapping[str, Path] = field(default_factory=dict)

    def file(self, namespace: str, secret: str | None) -> Path | None:
        """None: the cluster wants no token, or the settings name no place for it."""
        if secret is None:
            return None
        if (named := self.named.get(f"{namespace}/{secret}")) is not None:
            return named
        return None if self.folder is None else self.folder / namespace / secret / TOKEN_FILE

    def under(self, namespace: str, secret: str | None) -> Path | None:
        """The folder that the file must not lead out of; None for one that the settings name."""
        return None if secret is None or f"{namespace}/{secret}" in self.named else self.folder
