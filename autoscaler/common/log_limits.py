"""At most some lines a minute of one kind of trouble, however often and for however many deployments it comes.

A filter for log handlers. The first line of a kind always passes; that of a new subject (a source, a deployment) passes
while fewer than ten lines did so in the last minute. What is left out is counted and said with the next line of that
kind that passes. Lines of ordinary work (INFO without a kind) pass untouched.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

KIND, SUBJECT = "kind", "subject"
"""Names of the extra fields of a record: what kind of trouble, and whose. Without a kind, the line of code is one."""
WINDOW_S = 60.0
PER_KIND, IN_ALL = 3, 10
_FORGET_S = 10 * WINDOW_S
"""A kind or a subject that was quiet for so long is new again."""
_MOST_KINDS, _MOST_SUBJECTS = 200, 2_000


@dataclass(slots=True)
class _Seen:
    passed_s: deque[float] = field(default_factory=lambda: deque(maxlen=PER_KIND))
    left_out: int = 0
    last_s: float = 0.0


class LogLimiter(logging.Filter):
    """`clock_s`: monotonic seconds."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._kinds: dict[str, _Seen] = {}
        self._subjects: dict[str, float] = {}
        """When each subject was last written of."""
        self._passed_s: deque[float] = deque(maxlen=IN_ALL)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        named = record.__dict__.get(KIND)
        if named is None and record.levelno < logging.WARNING:
            return True
        kind, now_s = str(named or f"{record.pathname}:{record.lineno}"), self._clock_s()
        subject = f"{kind}|{record.__dict__.get(SUBJECT, '')}"
        new = now_s - self._subjects.get(subject, -_FORGET_S) >= _FORGET_S
        seen = self._kinds.get(kind)
        if seen is None or now_s - seen.last_s >= _FORGET_S:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds = {k: v for k, v in self._kinds.items() if now_s - v.last_s <= WINDOW_S}
            seen = self._kinds[kind] = _Seen()
        elif _full(self._passed_s, IN_ALL, now_s) or (_full(seen.passed_s, PER_KIND, now_s) and not new):
            seen.left_out, seen.last_s = seen.left_out + 1, now_s
            return False
        if len(self._subjects) >= _MOST_SUBJECTS:
            self._subjects = {k: at_s for k, at_s in self._subjects.items() if now_s - at_s < WINDOW_S}
        self._subjects[subject] = now_s
        seen.passed_s.append(now_s)
        self._passed_s.append(now_s)
        seen.last_s = now_s
        if seen.left_out:
            record.msg, record.args = f"{record.getMessage()} ({seen.left_out} similar lines were left out)", ()
            seen.left_out = 0
        return True


def _full(passed_s: deque[float], most: int, now_s: float) -> bool:
    return len(passed_s) == most and now_s - passed_s[0] < WINDOW_S
