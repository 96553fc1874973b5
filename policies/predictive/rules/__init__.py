"""Sizing rules simulated on demand as it arrives, and the price of a missed request that chooses among them.

`family.py`: the family, from quantiles to reactive rules. `horizons.py`, `smoothing.py`: what a forecast means for
them. `minute_of_hour.py`: quantiles by the minute of the hour. `level_histogram.py`: distribution of demand.
`fleet.py`: what each rule would have cost and missed, bin by bin; `simulate.py`: the rules of many deployments side by
side; `fluid_queue.py`: how a simulated fleet serves a bin. `shadow_price.py`: the account of misses, and the value of
one miss less. `sizing.py`: all of it together. Docs: docs/policy.md.
"""
