"""Linear regressions that are updated with each outcome and forget: many of one size, side by side.

Recursive least squares with exponential forgetting (Haykin, Adaptive Filter Theory, ch. 10). Where nothing new is
seen for long the covariance would grow without bound ("wind-up"), so its trace is capped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.forecasting.base import Floats
from policies.forecasting.mixture.kept import Kept

_TIDY_EVERY = 16


class Regressions(Kept):
    """`count` regressions on `inputs` numbers each; the prior is that every coefficient is 0, with variance `prior`."""

    arrays = ("coefficients", "covariance")
    numbers = ("updates",)

    def __init__(self, count: int, inputs: int, prior: float, most: float) -> None:
        self.coefficients: Floats = np.zeros((count, inputs))
        self.covariance: Floats = np.tile(np.eye(inputs) * prior, (count, 1, 1))
        self.updates = 0
        self._most = most * inputs

    def predict(self, inputs: Floats) -> Floats:
        """One prediction each; `inputs` (count, inputs)."""
        return np.asarray(np.einsum("nd,nd->n", self.coefficients, inputs))

    def update(
        self, rows: NDArray[np.int64] | slice, inputs: Floats, actual: Floats, keep: float, most: Floats
    ) -> None:
        """Learn the outcomes of `rows`; `keep` is the share of weight that older ones keep.

        `most`: errors are cut to +-this, so that one absurd outcome does not undo what was learned.
        """
        whole = isinstance(rows, slice)
        covariance = self.covariance if whole else self.covariance[rows]
        spread = np.matmul(covariance, inputs[:, :, None])
        gain = spread / (keep + np.matmul(inputs[:, None, :], spread))
        error = actual - np.einsum("nd,nd->n", self.coefficients[rows], inputs)
        np.minimum(np.maximum(error, -most, out=error), most, out=error)
        self.coefficients[rows] += gain[:, :, 0] * error[:, None]
        covariance -= gain * spread.transpose(0, 2, 1)
        covariance *= 1.0 / keep
        self.updates += 1
        if self.updates % _TIDY_EVERY == 0:
            trace = np.einsum("nii->n", covariance)
            half = 0.5 * np.minimum(1.0, self._most / np.maximum(trace, 1e-300))
            covariance = (covariance + covariance.transpose(0, 2, 1)) * half[:, None, None]
        if not whole or covariance is not self.covariance:
            self.covariance[rows] = covariance
