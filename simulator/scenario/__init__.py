"""Scenario files: their keys, what is checked, overrides, and what a run is made from."""
