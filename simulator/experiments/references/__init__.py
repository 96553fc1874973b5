"""Policies that may know the future, and what a scenario tells them of it."""
