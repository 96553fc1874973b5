"""What to say where a library of an optional part (an extra of pyproject.toml) is missing. Not for looking for it."""

from __future__ import annotations


def install(extra: str) -> str:
    """What to type. leadtime is installed from its checkout; no index has it."""
    return f"pip install '.[{extra}]' in a checkout of leadtime"


def missing(extra: str, error: ImportError) -> str:
    """The end of a sentence that begins with the setting or command which needs the extra."""
    return f"needs the extra `{extra}` ({install(extra)}): {error}"
