"""Connections to Ray's dashboard and to a broker, and to which addresses they may go."""
