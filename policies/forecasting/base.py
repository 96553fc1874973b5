"""What every forecaster offers, and the plain data that carries its memory."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.base import PolicyError

Floats = NDArray[np.float64]

MOST_RPS = 1e12
"""Larger values are mistakes, beyond any traffic: they teach nothing, like missing ones."""


@dataclass(slots=True)
class ForecasterState:
    """A forecaster's memory as plain data: `arrays` hold packed float64 (see `pack`), the rest are numbers."""

    forecaster: str
    numbers: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)

    def must_be_of(self, forecaster: str, bin_s: float, season_s: float, horizons: int | None = None) -> None:
        """Errors: PolicyError where this is the memory of another forecaster, or of other bins, seasons or horizons."""
        saved = (self.forecaster, self.numbers.get("bin_s", math.nan), self.numbers.get("season_s", math.nan))
        mine = (forecaster, bin_s, season_s)
        if saved != mine or (horizons is not None and self.numbers.get("horizons") != horizons):
            raise PolicyError(
                f"forecaster state of {saved[0]!r} (bin {saved[1]:g} s, season {saved[2]:g} s) does not fit "
                f"{mine[0]!r} (bin {mine[1]:g} s, season {mine[2]:g} s)"
            )


class Forecaster(Protocol):
    """Quantiles of demand (req/s) from its own past: fed once a bin, asked when somebody has to decide.

    Reads no clock: "now" is the end of the last bin observed. Same observations, same answers.
    """

    name: str

    @property
    def calibrated(self) -> bool:
        """False while history is too short or its own upper quantiles were exceeded too often: do not rely on them."""
        ...

    @property
    def why(self) -> str:
        """What it stands on, in words."""
        ...

    @property
    def last_time_s(self) -> float | None:
        """End of the last bin observed; None when no remembered bin has a value: then there is nothing to forecast."""
        ...

    def observe(self, time_s: float, value: float | None) -> None:
        """Mean rate of the bin that ended at `time_s` (a multiple of the bin width); None or skipped = missing,
        and so is what is no number or beyond MOST_RPS.

        A bin that is not newer than the last one is ignored.
        """
        ...

    def observe_many(self, times_s: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """Many bins at once, ascending; NaN = missing."""
        ...

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """For each horizon (ascending) and level (ascending): quantile of the largest bin mean in (now, now + h].

        Empty when no remembered bin has a value. Never below 0; not descending in level nor in horizon.
        """
        ...

    def paths(self, horizon_s: float, n: int, seed: int) -> Floats:
        """`n` sample paths of the bins in (now, now + h]: shape (n, steps); jointly over time, >= 0."""
        ...

    def state(self) -> ForecasterState: ...

    def restore(self, state: ForecasterState) -> None:
        """Take over a memory. Errors: PolicyError when it belongs to another forecaster, bin width or season."""
        ...


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
