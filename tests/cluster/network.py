"""Loopback ports for the parts of a test cluster, and a relay through which a client reaches one: cut, and healed.

Tier A needs no network of its own: everything listens on 127.0.0.1, and no pod has an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has: all are held until all are known, so that none is given twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Relay:
    """A way to a port that can be cut: bytes both ways, on a thread of its own. TLS goes through it untouched."""

    def __init__(self, port: int) -> None:
        self.to_port = port
        self.port = 0
        self.connections = 0
        """Accepted so far."""
        self._whole = asyncio.Event()
        self._whole.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def silence(self) -> None:
        """Partition: what was open stays open and carries nothing more, what is new is never answered."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def heal(self) -> None:
        """The partition is over; connections from before are closed, as a firewall that forgot them would."""
        self._loop.call_soon_threadsafe(self._close_all)

    def break_connections(self) -> None:
        """Close every open connection, as a dying proxy would; new ones are served."""
        self._loop.call_soon_threadsafe(self._close_all)

    def _close_all(self) -> None:
        self._whole.set()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with self._held(writer):
            await self._while_cut()
            try:
                there, onward = await asyncio.open_connection("127.0.0.1", self.to_port)
            except OSError:
                return
            with self._held(onward), contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(self._carry(reader, onward), self._carry(there, writer))

    @contextlib.contextmanager
    def _held(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _while_cut(self) -> None:
        await self._whole.wait()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 16):
                await self._while_cut()
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        self._close_all()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
