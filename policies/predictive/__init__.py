"""The flagship: `policy.py` puts the rooms together.

`terms.py`: the arguments for a number. `rule_selection.py`: the cheapest rule of policies/predictive/rules/ that meets the target.
`context.py`: what its rules are told of a deployment. `warm_start.py`: what history told before the first look.
`pool_cost.py`: the pool that costs more. `pools.py`: nodes. `state.py`: what is remembered. Docs: docs/policy.md.
"""

from policies.predictive.policy import PredictiveOptions, PredictivePolicy

__all__ = ["PredictiveOptions", "PredictivePolicy"]
