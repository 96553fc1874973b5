"""The Kubernetes API as leadtime speaks it: its nouns and the port, the client, the lease, and the parts together."""
