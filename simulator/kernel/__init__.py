"""Clock, event queue, seeded draws, integrals and distributions: nothing here knows of replicas."""
