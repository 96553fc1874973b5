"""The controller that runs in the pod: it observes, decides through a policy, guards, explains and acts."""

__version__ = "0.1.0"
