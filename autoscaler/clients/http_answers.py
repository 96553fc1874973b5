"""Connections of aiohttp on which what comes around an answer is bounded, not only its body.

aiohttp parses whatever one read brings (256 KiB) before anybody can look at it: ten thousand interim answers (`100
Continue`), or as many chunks of one byte. A Ray head that never stops sending them would block the event loop.
"""

from __future__ import annotations

import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

MOST_INTERIM = 8
"""Answers 1xx before the real one. Real servers send one at most."""
_SLICE_BYTES = 8 * 1024
"""Parsed at a time: some three hundred interim answers, about a millisecond."""
_WRAPPING_BYTES = 16 * 1024
"""Of heads and of the marks between chunks, besides a quarter of the body."""


class TooMuchAround(aiohttp.ClientError):
    """The answer was given up; its text says why."""


class OneAnswer(ResponseHandler):
    """The protocol of a connection that carries one answer and is closed then. What follows the answer is dropped."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._interim = self._came = 0
        self._body: Any = None
        """The stream of the body, once there is a head."""

    def feed_data(self, data: Any, *arguments: Any) -> None:
        """A head came, with the stream of its body."""
        message, body = data
        if 100 <= message.code < 200 and message.code != 101:
            self._interim += 1
        elif self._body is None:
            self._body = body
        else:
            return
        super().feed_data(data, *arguments)

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp's own call, to go on with what it held back
            super().data_received(data)
        for start in range(0, len(data), _SLICE_BYTES):
            if (self._body is not None and self._body.is_eof()) or self.exception() is not None:
                break
            part = data[start : start + _SLICE_BYTES]
            self._came += len(part)
            super().data_received(part)
            self._check()

    def _check(self) -> None:
        """What came so far is in proportion, or the connection is given up."""
        if self._interim > MOST_INTERIM:
            self._give_up(f"more than {MOST_INTERIM} interim answers (1xx)")
        elif self._body is not None:
            size = self._body.total_bytes
            if self._came - size > _WRAPPING_BYTES + size // 4:
                self._give_up("too long a head, or too small chunks")

    def _give_up(self, why: str) -> None:
        error = TooMuchAround(why)
        self.set_exception(error)
        if self._body is not None:
            self._body.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


class OneAnswerConnector(aiohttp.TCPConnector):
    """A connector whose connections carry one answer each."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, force_close=True)
        self._factory = functools.partial(OneAnswer, loop=self._loop)  # type: ignore[assignment]
