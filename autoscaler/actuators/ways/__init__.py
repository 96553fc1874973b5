"""The ways to pre-warm: one file each, named as the settings name the way, with what it looks at and what it writes.

To add one: its line in `autoscaler/core/types/pools.py` (what it holds, what it warms, where it works, its keys of
`warm`), a file here with a function `way` that makes it, and its keys in `autoscaler/settings/pools.py` with what they
come to in `autoscaler/settings/prewarm.py`. What all ways have in common is in `autoscaler/actuators/prewarm.py`.
"""
