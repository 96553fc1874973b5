"""Many runs: the league, tuning, references, backtests, fidelity, calibration, and running them side by side."""
