"""At most some lines a minute of one kind of trouble, however often and for however many deployments it comes.

A filter for log handlers. The first line of a kind always passes, so nothing new is hidden; what is left out is counted
and said with the next line of that kind that passes. Lines of ordinary work (INFO without a kind) pass untouched.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

KIND = "kind"
"""Name of the extra field of a record that says what kind of trouble it is about."""
WINDOW_S = 60.0
PER_KIND, IN_ALL = 3, 10
_MOST_KINDS = 200


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
        self._passed_s: deque[float] = deque(maxlen=IN_ALL)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        named = record.__dict__.get(KIND)
        if named is None and record.levelno < logging.WARNING:
            return True
        kind, now_s = str(named or record.msg), self._clock_s()
        seen = self._kinds.get(kind)
        if seen is None or now_s - seen.last_s > 10 * WINDOW_S:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds = {k: v for k, v in self._kinds.items() if now_s - v.last_s <= WINDOW_S}
            seen = self._kinds[kind] = _Seen()
        elif _full(seen.passed_s, PER_KIND, now_s) or _full(self._passed_s, IN_ALL, now_s):
            seen.left_out, seen.last_s = seen.left_out + 1, now_s
            return False
        seen.passed_s.append(now_s)
        self._passed_s.append(now_s)
        seen.last_s = now_s
        if seen.left_out:
            record.msg, record.args = f"{record.getMessage()} ({seen.left_out} similar lines were left out)", ()
            seen.left_out = 0
        return True


def _full(passed_s: deque[float], most: int, now_s: float) -> bool:
    return len(passed_s) == most and now_s - passed_s[0] < WINDOW_S
