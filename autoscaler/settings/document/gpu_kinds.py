"""Kinds of GPUs in words: profiles that do not say theirs. Not for what a kind can do."""

from __future__ import annotations

from collections.abc import Collection

UNKNOWN_KIND = "unknown"
"""Of a profile that was calibrated without `--gpu`."""


def naming_hint(kind: str, kinds: Collection[str]) -> str:
    """How a profile gets a kind, for the error of one that no profile has; nothing where every profile says its own."""
    hint = f"; a profile's kind is named by `leadtime calibrate --gpu {kind}`, or by `gpu:` in its file"
    return hint if UNKNOWN_KIND in kinds else ""
