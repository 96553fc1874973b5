"""Replicas and nodes, existing and under way: inventory, lead times, placement, preemptions, and
learning about them.
"""
