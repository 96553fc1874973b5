"""The acceptance lines, one a module, in the order of their letters."""
