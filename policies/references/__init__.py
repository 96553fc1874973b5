"""References, not rivals: constant fleets, and policies that know the traffic in advance."""
