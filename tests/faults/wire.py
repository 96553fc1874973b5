"""An HTTP server on loopback that can answer as no library would: late, by drips, in halves, not at all."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

How = Literal["whole", "hang", "drip", "half", "reset", "garbage", "headers", "close"]
"""`close`: whole, then the connection ends; `half`: the promised length, half of it, and the end; `headers`: the status
line and then nothing; `garbage`: no HTTP at all."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes
    page: int | None = None
    """Of which node's page it is; None: the dashboard's."""


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    how: How = "whole"
    kind: str = "application/json"
    location: str = ""

    def but(self, **changes: object) -> Answer:
        return replace(self, **changes)  # type: ignore[arg-type]


Handler = Callable[[Request], Answer]
_DRIP_S = 0.05


@dataclass
class Wire:
    """Serves `handler` on a port of its own; use as an async context."""

    handler: Handler
    page: int | None = None
    tls: ssl.SSLContext | None = None
    port: int = 0
    refuses: bool = False
    """Hangs up on whoever connects."""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
                while not self.refuses and await self._one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection lives on."""
        first = (await reader.readline()).split()
        if len(first) < 2:
            return False
        length = 0
        while (line := (await reader.readline()).strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = await reader.readexactly(length) if length else b""
        answer = self.handler(Request(first[0].decode(), first[1].decode(), body, self.page))
        return await _SAY[answer.how](answer, writer)


def _head(answer: Answer) -> bytes:
    location = f"Location: {answer.location}\r\n" if answer.location else ""
    return (
        f"HTTP/1.1 {answer.status} Said\r\nContent-Type: {answer.kind}\r\n{location}"
        f"Content-Length: {len(answer.body)}\r\n\r\n"
    ).encode()


async def _whole(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    writer.write(_head(answer) + answer.body)
    await writer.drain()
    return True


async def _close(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    await _whole(answer, writer)
    return False


async def _hang(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(3600)
    return False


async def _headers(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    writer.write(_head(answer.but(body=answer.body or b"x")))
    return await _hang(answer, writer)


async def _drip(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    writer.write(_head(answer))
    for at in range(len(answer.body)):
        writer.write(answer.body[at : at + 1])
        await writer.drain()
        await asyncio.sleep(_DRIP_S)
    return True


async def _half(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    writer.write(_head(answer) + answer.body[: len(answer.body) // 2])
    await writer.drain()
    return False


async def _reset(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    writer.transport.abort()
    return False


async def _garbage(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"\x16\x03\x01\x00\xa5 SSH-2.0-OpenSSH_9.2 \xff\xfe\r\n")
    await writer.drain()
    return False


_SAY: dict[How, Callable[[Answer, asyncio.StreamWriter], Awaitable[bool]]] = {
    "whole": _whole, "hang": _hang, "drip": _drip, "half": _half, "reset": _reset, "garbage": _garbage,
    "headers": _headers, "close": _close,
}  # fmt: skip
