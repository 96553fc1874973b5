"""What is read of the Kubernetes API: a cache that watches, services, nodes, refusals, the kill switch."""
