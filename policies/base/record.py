"""Records that are made anew for every deployment at every tick: frozen as the type checker sees them, and cheap.

A frozen dataclass sets each of its fields by a call: with a hundred deployments, some 170 fields each, that was an
eighth of a controller's step (docs/decisions/0023). `record` is `dataclass` to the type checker, which refuses to set a
field of such a record as of any other frozen one. At run time nothing stops who does it all the same. What a policy is
handed, the view itself, refuses at run time too: policies are anybody's code. It is made by its `open_form`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

__all__ = ["open_form", "record"]

Record = TypeVar("Record")


def open_form(frozen: type[Record]) -> type[Record]:
    """A frozen dataclass with slots as one of the same layout that is not frozen: filled three times as fast.

    `made.__class__ = frozen` then freezes what was made.
    """
    same: list[tuple[str, Any, Any]] = [
        (one.name, one.type, field(default=one.default, default_factory=one.default_factory))
        for one in fields(cast(Any, frozen))
    ]
    return cast(type[Record], make_dataclass(frozen.__name__, same, slots=True))


if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool) -> Callable[[type[Record]], type[Record]]:
        """Equal and hashed by its fields, as a frozen dataclass is."""
        return dataclass(slots=slots, unsafe_hash=frozen)
