"""The shell around the controller: the only place that knows sources, controller and actuators together."""

from autoscaler.runtime.clock import Clock, SystemClock
from autoscaler.runtime.loop import Runtime
from autoscaler.runtime.restore import new_telemetry, restored_controller

__all__ = ["Clock", "Runtime", "SystemClock", "new_telemetry", "restored_controller"]
