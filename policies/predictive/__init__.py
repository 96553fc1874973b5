"""The flagship policy; `policy.py` assembles it.

`terms.py`: the arguments for a number of replicas. `rule_selection.py`: the cheapest rule of rules/ that meets the
target. `context.py`: what the rules need to know of a deployment. `warm_start.py`: rules simulated on history before
the first decision. `pool_cost.py`: pools that cost more than usual. `preemptions.py`: nodes that are taken away.
`pools.py`: warm nodes. `state.py`: the memory. Docs: docs/policy.md.
"""

from policies.predictive.policy import PredictiveOptions, PredictivePolicy

__all__ = ["PredictiveOptions", "PredictivePolicy"]
