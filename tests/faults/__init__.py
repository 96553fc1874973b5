"""The fault matrix: `leadtime run` as a process of its own in a scripted world, in virtual time (docs/faults.md)."""
