"""Hints as messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from policies.base import DeploymentKey

KEY = DeploymentKey.parse("chat/LLMServer:llama")
TOPIC = "leadtime/hints/default/local/chat/LLMServer%3Allama"
NOW_S = 1_800_000_000.0


def moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def message(now_s: float = NOW_S, **changes: object) -> bytes:
    """A good hint that begins in ten minutes; a change to None leaves the field out."""
    said: dict[str, object] = {
        "id": "launch", "start_at": moment(now_s + 600), "end_at": moment(now_s + 4200), "rps": 40,
    }  # fmt: skip
    return json.dumps({name: value for name, value in (said | changes).items() if value is not None}).encode()
