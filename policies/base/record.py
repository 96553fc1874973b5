"""Records that are made anew for every deployment at every tick: frozen as the type checker sees them, and cheap.

A frozen dataclass sets each of its fields by a call: with a hundred deployments, some 170 fields each, that was an
eighth of a controller's step (docs/decisions/0023). `record` is `dataclass` to the type checker, which refuses to set a
field of such a record as of any other frozen one. At run time nothing stops who does it all the same. What a policy is
handed, the view itself, refuses at run time too: policies are anybody's code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["record"]

Record = TypeVar("Record")

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool) -> Callable[[type[Record]], type[Record]]:
        """Equal and hashed by its fields, as a frozen dataclass is."""
        return dataclass(slots=slots, unsafe_hash=frozen)
