"""Tells a scenario from the controller's settings, for whoever gave the one where the other belongs."""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.settings.document.reading import SettingsFile


def mistaken_for_settings(file: SettingsFile) -> str | None:
    """What to say of a scenario that was given as the controller's settings; None for anything else."""
    if not _deployments_have(file, "workload", not_="match"):
        return None
    allowed = "settings (`leadtime config example` prints some); scenarios are for `leadtime simulate`"
    return f"{file.path}: a scenario, not the controller's settings; allowed: {allowed}"


def mistaken_for_scenario(file: SettingsFile) -> str | None:
    """What to say of the controller's settings that were given as a scenario; None for anything else."""
    if not _deployments_have(file, "match", not_="workload"):
        return None
    allowed = "a scenario (deployments with name and workload), or preset:NAME; settings are for `leadtime run`"
    return f"{file.path}: the controller's settings, not a scenario; allowed: {allowed}"


def _deployments_have(file: SettingsFile, key: str, not_: str) -> bool:
    """Whether entries of `deployments` have a key that only one kind of file knows, and not the other kind's."""
    entries = file.data.get("deployments")
    keys = {k for e in entries if isinstance(e, Mapping) for k in e} if isinstance(entries, list) else set()
    return key in keys and not_ not in keys
