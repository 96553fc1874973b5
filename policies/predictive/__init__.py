"""The flagship: `policy.py` puts the rooms together.

`terms.py`: the arguments for a number. `following.py`: the cheapest rule of policies/shadow/ that meets the target.
`looks.py`: what its rules are told of a deployment. `rehearsal.py`: what history told before the first look.
`dear.py`: the pool that costs more. `pools.py`: nodes. `state.py`: what is remembered. Docs: docs/policy.md.
"""

from policies.predictive.policy import PredictiveOptions, PredictivePolicy

__all__ = ["PredictiveOptions", "PredictivePolicy"]
