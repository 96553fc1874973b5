"""What breaks in a scenario, or is changed in the middle of it: one file a kind, named as scenarios name it.

To add a kind: a file here with a class that inherits `base.Fault`. It declares its keys and what happens, and nothing
else lists it: `simulator/scenario/faults.py` finds the files. `base.py` says what a fault may do.
"""
