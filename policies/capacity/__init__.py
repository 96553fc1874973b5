"""What one replica carries: engine profiles, their step law, and the capacity that follows from both."""

from policies.capacity.closed_form import Capacity, capacity
from policies.capacity.profile import EngineProfile, Limits, Scheduling, load_profile, preset_names
from policies.capacity.step_law import StepLaw

__all__ = ["Capacity", "EngineProfile", "Limits", "Scheduling", "StepLaw", "capacity", "load_profile", "preset_names"]
