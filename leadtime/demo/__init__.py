"""The demo's rooms: a local Ray of its own, emulated engines, users, the screen, and the comparison at the end.

For `leadtime demo` only; nothing else imports this. What it shows is the product itself: the runtime, sources, actuator
and controller that `leadtime run` uses.
"""
