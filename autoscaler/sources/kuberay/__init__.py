"""RayServices and RayClusters as they are read: their fields, annotations, which cluster serves, upgrades. Pure."""
