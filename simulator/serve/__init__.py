"""The simulated Ray Serve, as far as scaling goes: targets, replicas from STARTING to gone, new versions."""
