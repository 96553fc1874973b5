"""The live page at `/`: what comes, what is done about it, when it arrives, and why. It reads telemetry and decides
nothing.
"""
