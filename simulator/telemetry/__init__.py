"""What the controller can see of the simulated deployments, and how late: metric pages of nodes, and handle reports.

Truth stays in the data plane (`figures` says how it is asked). Every process (a replica, a handle) reports its counters
and gauges at its own times (`processes`) as the series of real pages (`series`); a report can be read some seconds
later; gauges of a dead replica linger, its counters stay as long as its node does; reads of a page fail now and then
(`spec` has the measured figures), and readings may be off (`noise`). `pages` reads them all, joined to deployments by
the live source's own code, `collect`; `handles` is what Serve's own autoscaler is told.
"""
