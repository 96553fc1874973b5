"""What one replica carries: engine profiles, their step law, and the capacity that follows from both.

Reading profiles (`policies.capacity.load`) and learned lead times (`policies.capacity.lead_times`) are imported apart.
"""

from policies.capacity.closed_form import Capacity, capacity
from policies.capacity.profile import EngineProfile, Limits, Scheduling, StepLaw

__all__ = ["Capacity", "EngineProfile", "Limits", "Scheduling", "StepLaw", "capacity"]
