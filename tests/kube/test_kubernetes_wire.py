"""What answers of odd shapes mean: always an error of ours, never one of the parser's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoscaler.common.errors import LeadtimeError
from autoscaler.kubernetes.resources import Throttled
from autoscaler.kubernetes.wire import Call, WatchStream, refusal

CALL = Call("get", "GET", "pods llm/a", "/x")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 415, 422, 429, 500, 503])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>502",
        b"[]",
        b'{"kind": "Status", "message": {"a": 1}, "details": [1]}',
        b'{"kind": "Status", "details": {"retryAfterSeconds": ["x"]}}',
        b'{"kind": "Status", "message": "cut o',
    ],
)
def test_a_refusal_of_any_shape_is_one_line(status: int, raw: bytes) -> None:
    error = refusal(CALL, status, raw, None)
    assert isinstance(error, LeadtimeError)
    assert str(error).startswith(f"kubernetes: get pods llm/a: {status} ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("3", 3.0), ("-5", 0.0), ("nan", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
def test_a_time_to_come_back_that_is_none_is_passed_over(retry_after: str, seconds: float | None) -> None:
    error = refusal(CALL, 429, b"", retry_after)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == seconds


class Lines:
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def stream(self, amt: int) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "ERROR", "object": {"code": "gone"}}\n',
        b'{"type": "ERROR", "object": {"code": [410], "details": 3, "kind": "Status"}}\n',
        b'{"type": ["ADDED"], "object": {}}\n',
        b'{"type": "ADDED", "object": {"metadata": [1]}}\n',
        b'{"type": "ADDED"}\n',
        b'{"type": "ADD\n',
        b"\xff\xfe\n",
    ],
)
def test_a_line_of_a_watch_of_any_shape_ends_it_with_an_error_of_ours(line: bytes) -> None:
    stream = WatchStream(CALL, lambda: Lines(line))
    assert stream.next_batch() == ()
    with pytest.raises(LeadtimeError, match="kubernetes: get pods llm/a"):
        stream.next_batch()
