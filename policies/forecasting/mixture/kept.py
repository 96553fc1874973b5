"""Parts of a memory that can be written out as plain data and taken in again, bit for bit."""

from __future__ import annotations

import base64
import zlib
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import ForecasterState


class Kept:
    """Names the attributes that are its memory: numpy arrays, and numbers (int or float, finite)."""

    arrays: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ()

    def dump(self, into: ForecasterState, part: str) -> None:
        """Write every named attribute into the state, under the part's name."""
        for name in self.arrays:
            into.arrays[f"{part}.{name}"] = pack_exact(getattr(self, name))
        for name in self.numbers:
            into.numbers[f"{part}.{name}"] = float(getattr(self, name))

    def load(self, state: ForecasterState, part: str) -> None:
        """The inverse of `dump`."""
        for name in self.arrays:
            setattr(self, name, unpack_exact(state.arrays[f"{part}.{name}"]))
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
    return np.frombuffer(zlib.decompress(base64.b64decode(body)), dtype=np.dtype(kind)).reshape(size).copy()
