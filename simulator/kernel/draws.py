"""Luck that does not depend on the policy: one seeded stream per component, drawn in the component's own order.

The k-th node of a pool takes as long as the k-th node of that pool under any other policy, and traffic is the same for
all: policies are compared on common random numbers.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np

from policies.base.durations import Duration

_BLOCK = 256


def component_seed(seed: int, component: str) -> np.random.SeedSequence:
    """The seed of a component's own stream, e.g. `pool/h100/provision`; stable across runs, machines and versions."""
    digest = blake2b(component.encode(), digest_size=8).digest()
    return np.random.SeedSequence([seed, int.from_bytes(digest, "little")])


class Draws:
    """A component's stream of standard normals and uniforms; each call takes the next one."""

    def __init__(self, seed: int, component: str) -> None:
        self._rng = np.random.default_rng(component_seed(seed, component))
        self._normals: list[float] = []
        self._uniforms = np.random.default_rng(component_seed(seed, f"{component}/uniform"))

    def duration_s(self, duration: Duration) -> float:
        """The next duration; also a constant takes a draw, so that others keep theirs."""
        if not self._normals:
            self._normals = self._rng.standard_normal(_BLOCK).tolist()[::-1]
        return duration.median_s * math.exp(duration.sigma * self._normals.pop())

    def uniform(self) -> float:
        return float(self._uniforms.random())

    def exponential_s(self, per_s: float) -> float:
        """The time to the next event of a Poisson process with this rate (inf for 0)."""
        u = self.uniform()
        return -math.log1p(-u) / per_s if per_s > 0 else math.inf
