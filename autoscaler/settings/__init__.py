"""The controller's settings: declared, checked, and converted to plain dataclasses."""

from autoscaler.settings.load import load_config
from autoscaler.settings.settings import settings_schema

__all__ = ["load_config", "settings_schema"]
