"""Parts of a memory that can be written out as plain data and taken in again, bit for bit."""

from __future__ import annotations

import base64
import zlib
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import ForecasterState, inflate


class Kept:
    """Names the attributes that are its memory: numpy arrays, and numbers (int or float, finite).

    A short array may be a list of floats, which is quicker where they are read one by one; it is written as an array.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ()

    def dump(self, into: ForecasterState, part: str) -> None:
        """Write every named attribute into the state, under the part's name."""
        for name in self.arrays:
            values = getattr(self, name)
            into.arrays[f"{part}.{name}"] = pack_exact(np.array(values, float) if isinstance(values, list) else values)
        for name in self.numbers:
            into.numbers[f"{part}.{name}"] = float(getattr(self, name))

    def load(self, state: ForecasterState, part: str) -> None:
        """The inverse of `dump`."""
        for name in self.arrays:
            found = unpack_exact(state.arrays[f"{part}.{name}"])
            setattr(self, name, found.tolist() if isinstance(getattr(self, name), list) else found)
        for name in self.numbers:
            setattr(self, name, type(getattr(self, name))(state.numbers[f"{part}.{name}"]))


def pack_exact(values: NDArray[Any]) -> str:
    """Type, shape and content as text."""
    shape = "x".join(str(n) for n in values.shape)
    raw = zlib.compress(np.ascontiguousarray(values).tobytes(), 1)
    return f"{values.dtype.str} {shape} {base64.b64encode(raw).decode('ascii')}"


def unpack_exact(text: str) -> NDArray[Any]:
    """The inverse of `pack_exact`."""
    kind, shape, body = text.split(" ")
    size = tuple(int(n) for n in shape.split("x")) if shape else ()
    return np.frombuffer(inflate(body), dtype=np.dtype(kind)).reshape(size).copy()


class Shared(Kept):
    """The memory of several forecasters side by side: each has a slot, `slots` of them lie along one axis of an array.

    `axes` names that axis of every array; `numbers` are arrays here, with one element for each slot.
    """

    axes: ClassVar[dict[str, int]] = {}
    slots: int

    def dump_slot(self, into: ForecasterState, part: str, slot: int) -> None:
        """What one forecaster of its own would write by `dump`."""
        for name in self.axes:
            into.arrays[f"{part}.{name}"] = pack_exact(self._of_slot(name, slot))
        for name in self.numbers:
            into.numbers[f"{part}.{name}"] = float(getattr(self, name)[slot])

    def load_slot(self, state: ForecasterState, part: str, slot: int) -> None:
        """The inverse of `dump_slot`. Errors: ValueError where a shape does not fit."""
        for name in self.axes:
            place, found = self._of_slot(name, slot), unpack_exact(state.arrays[f"{part}.{name}"])
            if place.shape != found.shape:
                raise ValueError(f"{part}.{name}: shape {found.shape}; allowed: {place.shape}")
            place[...] = found
        for name in self.numbers:
            getattr(self, name)[slot] = state.numbers[f"{part}.{name}"]

    def copy_slot(self, source: Shared, from_slot: int, slot: int) -> None:
        """A slot becomes what another one is, here or elsewhere."""
        for name in self.axes:
            self._of_slot(name, slot)[...] = source._of_slot(name, from_slot)
        for name in self.numbers:
            getattr(self, name)[slot] = getattr(source, name)[from_slot]

    def _of_slot(self, name: str, slot: int) -> NDArray[Any]:
        whole: NDArray[Any] = getattr(self, name)
        axis = self.axes[name]
        each = whole.shape[axis] // self.slots
        return whole[(slice(None),) * axis + (slice(slot * each, (slot + 1) * each),)]


Rows = NDArray[np.int64] | slice
"""Which rows of shared arrays: a slice where they lie side by side (then views are taken), else their numbers."""


def rows_of(slots: NDArray[np.int64], each: int) -> Rows:
    """The rows of these slots (ascending), `each` of them a slot."""
    first, last = int(slots[0]), int(slots[-1])
    if last - first == len(slots) - 1:
        return slice(first * each, (last + 1) * each)
    return np.asarray((slots[:, None] * each + np.arange(each)).reshape(-1))


def numbers_of(rows: Rows) -> NDArray[np.int64]:
    """Rows by their numbers."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
