"""Replicas and nodes, there and under way: inventory, lead times, placement, preemptions, and what is learned."""
