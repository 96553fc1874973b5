"""What to want: pure functions of a view of the fleet, and the estimates they stand on.

Imports nothing of ours but itself; reads no clock, does no I/O besides loading profiles and plug-ins when asked.
"""
