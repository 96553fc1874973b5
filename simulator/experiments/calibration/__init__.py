"""From measurements of an engine to its profile: readers, fits, and the client that measures an endpoint."""
