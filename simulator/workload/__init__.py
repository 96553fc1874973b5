"""Traffic: trace files, made-up rates, the requests that come of them, and what was seen before the start."""
