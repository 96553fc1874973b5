"""Linear regressions that are updated with each outcome and forget: many of one size, side by side.

Recursive least squares with exponential forgetting (Haykin, Adaptive Filter Theory, ch. 10). Where nothing new is
seen for long the covariance would grow without bound ("wind-up"), so its trace is capped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from policies.forecasting.base import Floats
from policies.forecasting.ensemble.grid import Ints
from policies.forecasting.ensemble.serialization import Rows, Shared

_TIDY_EVERY = 16
_AT_ONCE = 400
"""Regressions whose covariances stay in a core's cache while they are worked on."""


class Regressions(Shared):
    """`count` regressions on `inputs` numbers each; the prior is that every coefficient is 0, with variance `prior`.

    They belong to `slots` forecasters, equally many to each.
    """

    axes: ClassVar = {"coefficients": 0, "covariance": 0}
    numbers = ("updates",)

    def __init__(self, count: int, inputs: int, prior: float, most: float, slots: int = 1) -> None:
        self.slots = slots
        self.coefficients: Floats = np.zeros((count, inputs))
        self.covariance: Floats = np.tile(np.eye(inputs) * prior, (count, 1, 1))
        self.updates = np.zeros(slots, dtype=np.int64)
        """By slot."""
        self._each = count // slots
        self._most = most * inputs

    def predict(self, rows: Rows, inputs: Floats) -> Floats:
        """One prediction for each of `rows`; `inputs` (rows, inputs)."""
        return np.asarray(np.einsum("nd,nd->n", self.coefficients[rows], inputs))

    def update(self, rows: Rows, inputs: Floats, actual: Floats, keep: float, most: Floats) -> None:
        """Learn the outcomes of `rows`; `keep` is the share of weight that older ones keep.

        `most`: errors are cut to +-this, so that one absurd outcome does not undo what was learned.
        """
        at = np.arange(len(self.covariance))[rows]
        owners = at // self._each
        touched = np.zeros(self.slots, dtype=np.bool_)
        touched[owners] = True
        self.updates += touched
        tidy = self.updates[owners] % _TIDY_EVERY == 0
        learned = np.empty((min(len(at), _AT_ONCE), *self.covariance.shape[1:]))
        for part in _parts(len(at)):
            room = learned[: part.stop - part.start]
            self._update(_some(rows, at, part), inputs[part], actual[part], keep, most[part], tidy[part], room)

    def _update(
        self, rows: Rows, inputs: Floats, actual: Floats, keep: float, most: Floats, tidy: Ints, room: Floats
    ) -> None:
        """`room`: of the size of these rows' covariances, to work in."""
        covariance = self.covariance[rows]
        spread = np.matmul(covariance, inputs[:, :, None])
        gain = spread / (keep + np.matmul(inputs[:, None, :], spread))
        error = actual - np.einsum("nd,nd->n", self.coefficients[rows], inputs)
        np.minimum(np.maximum(error, -most, out=error), most, out=error)
        self.coefficients[rows] += gain[:, :, 0] * error[:, None]
        covariance -= np.multiply(gain, spread.transpose(0, 2, 1), out=room)
        covariance *= 1.0 / keep
        if tidy.any():
            some = covariance[tidy]
            trace = np.einsum("nii->n", some)
            half = 0.5 * np.minimum(1.0, self._most / np.maximum(trace, 1e-300))
            covariance[tidy] = (some + some.transpose(0, 2, 1)) * half[:, None, None]
        if not isinstance(rows, slice):
            self.covariance[rows] = covariance


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, _AT_ONCE):
        yield slice(first, min(first + _AT_ONCE, count))


def _some(rows: Rows, at: Ints, part: slice) -> Rows:
    """A part of the rows; a slice of a slice stays one."""
    if isinstance(rows, slice):
        return slice(int(at[part.start]), int(at[part.stop - 1]) + 1)
    return at[part]
