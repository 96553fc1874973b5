"""Which deployment is meant."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from policies.base.errors import PolicyError

DEFAULT_NAMESPACE = "default"
DEFAULT_SERVICE = "local"


class DeploymentKey(NamedTuple):
    """Which deployment: `[NAMESPACE/SERVICE/]APP/DEPLOYMENT`; the service is the RayService, `local` for a bare Ray."""

    namespace: str
    service: str
    app: str
    deployment: str

    @classmethod
    def parse(cls, text: str) -> DeploymentKey:
        """Two parts (`APP/DEPLOYMENT`) or four. Errors: PolicyError naming the text."""
        parts = text.split("/")
        if len(parts) == 2:
            parts = [DEFAULT_NAMESPACE, DEFAULT_SERVICE, *parts]
        if len(parts) != 4 or not all(parts):
            raise PolicyError(f"deployment key {text!r}: expected APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT")
        return cls(*parts)

    @property
    def full(self) -> str:
        return f"{self.namespace}/{self.service}/{self.app}/{self.deployment}"

    def __str__(self) -> str:
        """The shortest form that `parse` reads back."""
        if self.namespace == DEFAULT_NAMESPACE and self.service == DEFAULT_SERVICE:
            return f"{self.app}/{self.deployment}"
        return self.full

    def matches(self, pattern: str) -> bool:
        """Shell-style pattern over the key's parts, `*` within one part; two parts leave the first two open."""
        wanted = pattern.split("/")
        if len(wanted) == 2:
            wanted = ["*", "*", *wanted]
        own = (self.namespace, self.service, self.app, self.deployment)
        return len(wanted) == 4 and all(fnmatchcase(o, w) for o, w in zip(own, wanted, strict=True))
