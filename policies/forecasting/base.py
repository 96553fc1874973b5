"""What forecasters have in common: which values count, and arrays as text, bit for bit."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.base.forecast import MOST_RPS, Floats, Forecaster, ForecasterState

__all__ = ["Floats", "Forecaster", "ForecasterState", "inflate", "known_rate", "length_words", "pack", "unpack"]


def known_rate(value: float | None) -> float | None:
    """A bin's value as it may be learned from, >= 0; None where it is missing, no number or beyond MOST_RPS."""
    if value is None or not value <= MOST_RPS:
        return None
    return float(value) if value > 0.0 else 0.0


def length_words(seconds: float) -> str:
    """How long a history is, in the largest unit of which it has two."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def pack(values: NDArray[Any]) -> str:
    """Float64 values as text, bit for bit."""
    raw = np.ascontiguousarray(values, dtype="<f8").tobytes()
    return base64.b64encode(zlib.compress(raw, 1)).decode("ascii")


def unpack(text: str) -> Floats:
    """The inverse of `pack`."""
    return np.frombuffer(inflate(text), dtype="<f8").astype(np.float64)


MOST_PACKED_BYTES = 64 << 20
"""Far more than any memory of a forecaster takes: a state of others may not become longer."""


def inflate(text: str) -> bytes:
    """The bytes of base64 of zlib. Errors: ValueError for what is not whole, or becomes longer than that."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(base64.b64decode(text), MOST_PACKED_BYTES)
    except zlib.error as error:
        raise ValueError(f"a packed array cannot be unpacked: {error}") from None
    if not stream.eof:
        raise ValueError(f"a packed array is cut off, or longer than {MOST_PACKED_BYTES} bytes")
    return raw
