"""What one replica carries: engine profiles, their step law, and the capacity that follows from both."""

from policies.engines.capacity import Capacity, capacity
from policies.engines.profile import EngineProfile, Limits, Scheduling, load_profile, preset_names
from policies.engines.steplaw import StepLaw

__all__ = ["Capacity", "EngineProfile", "Limits", "Scheduling", "StepLaw", "capacity", "load_profile", "preset_names"]
