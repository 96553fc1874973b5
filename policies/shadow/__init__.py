"""Rules replayed in shadow on the demand as it comes, and the price of a missed request that chooses among them.

`rules.py`: the family, from quantiles to reactive rules. `clock.py`: quantiles by the minute of the hour. `fleet.py`:
what each rule would have cost and missed, bin by bin. `price.py`: the account of misses and what the next one less is
worth. Docs: docs/policy.md.
"""
