"""A discrete-event simulator of vLLM on Ray Serve on GPU nodes: another caller of the controller's own `step`."""
