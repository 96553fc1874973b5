"""The data plane of a deployment: its engines behind Ray Serve's router, and what came of its requests.

How it reads: `plane.DataPlane` is what drives it, with arrivals, replicas and time, through the entries that `kernels`
compiles: the router (`router`) and its engines (`simulator.engine`). `records` names what comes out. The simulated
cluster sees it through `deployment.Plane`: by Serve's replica ids, figures by process, ended requests.
"""
