"""The shell around the controller: the only place that knows sources, controller and actuators together."""
