"""Rules replayed in shadow on the demand as it comes, and the price of a missed request that chooses among them.

`rules.py`: the family, from quantiles to reactive rules. `ahead.py`, `noise.py`: what a forecast means for them.
`clock.py`: quantiles by the minute of the hour. `past.py`: how large demand was. `fleet.py`: what each rule would have
cost and missed, bin by bin; `fleets.py`: those of many deployments side by side. `price.py`: the account of misses and
what the next one less is worth. `sizing.py`: it all together. Docs: docs/policy.md.
"""
