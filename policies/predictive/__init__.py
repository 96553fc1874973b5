"""The flagship: `policy.py` puts the rooms together.

`terms.py`: the arguments for a number. `rule_selection.py`: the cheapest rule of rules/ that meets the target.
`context.py`: what the rules are told of a deployment. `warm_start.py`: rules simulated on history before the first
decision. `pool_cost.py`: the pool that costs more. `preemptions.py`: nodes that are taken away. `pools.py`: warm nodes.
`state.py`: what is remembered. Docs: docs/policy.md.
"""

from policies.predictive.policy import PredictiveOptions, PredictivePolicy

__all__ = ["PredictiveOptions", "PredictivePolicy"]
