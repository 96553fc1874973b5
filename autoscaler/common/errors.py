"""Everything that leadtime raises on purpose. Third-party exceptions are wrapped at the adapter that meets them.

The message is one line that names the file, key and value and says what is allowed. It never holds a secret.
"""

from __future__ import annotations


class LeadtimeError(Exception):
    """The root: the CLI prints its message and exits 1."""


class InputError(LeadtimeError):
    """Something the user wrote cannot be used: the CLI prints the message and exits 2."""


class ConfigError(InputError):
    """A setting: names the file, key, value and what is allowed."""


class ScenarioError(InputError):
    """A scenario file: names the file, (line,) key, value and what is allowed."""


class TraceError(InputError):
    """A trace file: names the file, row and what is wrong."""


class JournalError(InputError):
    """A journal file: names the file, line and what is wrong."""


class PolicyFault(LeadtimeError):
    """A policy's code failed, or gave what cannot be used: names the policy, the value and what is allowed."""


class SourceError(LeadtimeError):
    """A source could not be read: unknown until it can be read again."""


class StateError(LeadtimeError):
    """The state file cannot be used or written."""


class ActuatorError(LeadtimeError):
    """A write did not happen."""


class Conflict(ActuatorError):
    """Somebody else owns what we tried to write (another scaler, a stale resource version)."""


class NotFound(ActuatorError):
    """The application, deployment or object does not exist (any more)."""


class Rejected(ActuatorError):
    """The other side understood and said no (bad request, switched off)."""


class Unavailable(ActuatorError):
    """No usable answer: timeout, connection refused, 5xx, garbage. Try again later."""


class Forbidden(ActuatorError):
    """Not allowed: missing or wrong token, missing rights."""
