"""The simulated cluster: pools of nodes, Ray workers on them, and what pre-warming holds."""
