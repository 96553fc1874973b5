"""The decision: observe, forecast, propose, allocate, guard, plan. No I/O, no clock, no randomness of its own."""
