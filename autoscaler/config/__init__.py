"""The controller's settings: declared, checked, and converted to plain dataclasses."""

from autoscaler.config.load import load_config
from autoscaler.config.settings import settings_schema

__all__ = ["load_config", "settings_schema"]
