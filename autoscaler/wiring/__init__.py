"""Builds a running controller from settings: sources, actuators, what a cluster gives, and the shell around them."""
