"""Log lines of long-running commands, on stderr: for people, or one JSON object a line. Not for a command's output.

No line, and no traceback, holds a secret that this process has read (`redaction`).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime

from autoscaler.cli.text import loudness
from autoscaler.common.escaping import for_terminal, in_json
from autoscaler.common.log_limits import LogLimiter
from autoscaler.common.redaction import blank

_LINES = "\n\t"


def set_up_logs(as_json: bool) -> None:
    """Everything from INFO up (`--quiet`: only warnings); of other libraries only warnings (`--verbose`: INFO too)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Text())
    handler.addFilter(LogLimiter())
    others = logging.INFO if loudness.is_verbose() else logging.WARNING
    logging.basicConfig(level=others, handlers=[handler], force=True)
    ours = logging.WARNING if loudness.is_quiet() else logging.DEBUG if loudness.is_verbose() else logging.INFO
    logging.getLogger("leadtime").setLevel(ours)
    threading.excepthook = _log_thread


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    """Python itself would write a thread's last traceback to stderr as it is."""
    if ended.exc_value is not None:
        logging.getLogger("leadtime").error("a thread ended by a bug", exc_info=ended.exc_value)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        message = for_terminal(blank(record.getMessage()))
        trace = blank(f"\n{self.formatException(record.exc_info)}") if record.exc_info else ""
        return f"{_time(record)} {level}{message}{for_terminal(trace, keep=_LINES)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": blank(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = blank(self.formatException(record.exc_info))
        return in_json(json.dumps(line, ensure_ascii=False))
