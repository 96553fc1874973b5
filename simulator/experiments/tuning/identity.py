"""What makes a search the same search as before: everything that its trials read, whatever file it stands in."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path

import numpy as np

from policies.base import Policy
from simulator.scenario.load import Scenario
from simulator.scenario.reading import Traffic


def of_files(scenarios: Iterable[Scenario], policy: Policy) -> str:
    """A digest of everything that scenario files only name: traces, histories, engine profiles, and
    plug-in policies.
    """
    digest = blake2b(digest_size=8)
    for scenario in scenarios:
        for d in scenario.deployments:
            digest.update(repr(d.profile).encode())
            for traffic in (d.traffic, d.history):
                digest.update(_bytes_of(traffic))
    digest.update(_own_code(policy))
    return digest.hexdigest()


def _bytes_of(traffic: Traffic | None) -> bytes:
    """Its content; where it was read (`source`) does not count."""
    if traffic is None:
        return b"none"
    values = [getattr(traffic, f.name) for f in fields(traffic) if f.name != "source"]
    return b"|".join(v.tobytes() if isinstance(v, np.ndarray) else repr(v).encode() for v in values)


def _own_code(policy: Policy) -> bytes:
    """The file of a plug-in; nothing for a policy that came with leadtime."""
    kind = type(policy)
    if kind.__module__.partition(".")[0] == "policies":
        return b""
    try:
        return Path(inspect.getfile(kind)).read_bytes()
    except (OSError, TypeError):  # made by a program: there is no file
        return b""
