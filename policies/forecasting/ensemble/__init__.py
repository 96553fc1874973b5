"""The gated quantile mixture: many simple forecasts, each with errors of its own, averaged by how well they did lately.

`forecaster.py` puts the rooms together: memory (what was seen), profile (a step closes: what is remembered of it, and
the season), recursions (Holt, ARIMA, Holt-Winters), regression (least squares that forgets), spread (how large an error
to expect, by clock and by recent size), blend (quantiles of errors, weights, the last correction), ramp_correction
(q0.95 before the steepest rises). Docs: docs/forecasting.md.
"""
