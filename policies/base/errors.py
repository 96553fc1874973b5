"""What is wrong with a profile, an option or a policy."""

from __future__ import annotations


class PolicyError(ValueError):
    """A profile, option or policy that cannot be used; the message names the key, its value and what is allowed."""
