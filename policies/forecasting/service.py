"""Forecasting as the controller uses it: forecasters by name, shown and asked together, taught their past."""

from __future__ import annotations

from collections.abc import Sequence

from policies.base import BacktestTrace, Forecaster, ForecastSpec
from policies.base.forecast import Past
from policies.forecasting import create
from policies.forecasting.backtest_trace import backtest_forecasters
from policies.forecasting.batch import BatchedEnsemble


class ForecastingService(BatchedEnsemble):
    """`policies.base.Forecasting`, of one controller. It remembers nothing that a forecaster does not."""

    def create(self, spec: ForecastSpec) -> Forecaster:
        """See Forecasting.create."""
        return create(spec)

    def backtest(
        self, pasts: Sequence[tuple[Forecaster, Past]], spec: ForecastSpec, write: bool = True
    ) -> list[BacktestTrace | None]:
        """See Forecasting.backtest."""
        return backtest_forecasters(pasts, spec, write)
