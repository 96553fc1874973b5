"""The controller in the simulated cluster, and all that stands between the two.

`loop.py`: it observes, decides and acts, period after period. `settings.py`: what it is told. `observation.py`: what
it sees. `actuator.py`: what its writes do. `faults.py`: what goes wrong with any of them. The cluster itself is
simulator/environment.py.
"""
