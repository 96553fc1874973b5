"""Connections to the controller's pages: how many, how long, from whom, and their TLS.

asyncio and aiohttp take any number of connections and wait for requests for a long time; here a connection must bring
a request soon, and one peer cannot take all places. Not for what is answered (`server`), nor for who may ask
(`access`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from autoscaler.common.errors import ConfigError

log = logging.getLogger("leadtime")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Numbers of connections, seconds and bytes."""

    total: int = 512
    """When all are taken, the connection that waits longest without a request makes room."""
    per_peer: int = 64
    """Of one IPv4 address, or one IPv6 network of 64 bits; another one is closed at once."""
    header_s: float = 10.0
    """After which a connection is closed that has brought no whole request (or TLS handshake), new or kept alive."""
    answer_s: float = 60.0
    """After which a request, its body and its answer must be through; event streams last longer."""
    received_bytes: int = 128 * 1024
    """Of one request, its headers and body together."""
    look_every_s: float = 1.0


@dataclass(eq=False, slots=True)
class Connection:
    """One connection as the limits see it."""

    peer: str
    since_s: float
    """Since when it waits for a request, or answers one."""
    busy: bool = False
    streams: bool = False
    received: int = 0
    transport: asyncio.Transport | None = None
    opening: asyncio.Task[None] | None = None

    def abort(self) -> None:
        """Close it at once, whatever is under way."""
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()


class Certificate:
    """A server's certificate and key, read again when a file changed. Errors: ConfigError at the start."""

    def __init__(self, cert_file: Path, key_file: Path | None, told: Callable[[str], None] = lambda why: None) -> None:
        """`key_file` None: the key is in `cert_file`, too. `told`: hears `problem` after each look at changed files."""
        self._told = told
        self._files = (cert_file, key_file)
        self._stamp = self._stamps()
        self.problem = ""
        """Why the files' new content is not used; the one before it goes on."""
        self.context = self._context()

    def renew(self) -> None:
        """Take up changed files; for connections from now on."""
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        try:
            self._context()  # both files belong together, before the one in use is touched
            self._load(self.context)
        except ConfigError as error:
            self.problem = str(error)
        else:
            self._stamp, self.problem = stamp, ""
            log.info("pages: a new certificate is in use")
        self._told(self.problem and f"{self.problem}; the certificate before it goes on")

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        cert, key = self._files
        try:  # an empty password: nobody is there to be asked for one
            context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            words = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "they do not fit"
            where = f"server.cert_file {cert}" + (f", server.key_file {key}" if key else "")
            raise ConfigError(f"{where}: {words}; allowed: a certificate (PEM) and its private key") from None

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(file) for file in self._files if file is not None)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class Listener:
    """Takes connections for a `web.Server` from `start` to `stop`. Errors of `start`: OSError."""

    def __init__(self, server: web.Server, limits: ConnectionLimits, certificate: Certificate | None = None) -> None:
        self._server, self._limits, self._certificate = server, limits, certificate
        self._connections: dict[Connection, None] = {}
        self._peers: Counter[str] = Counter()
        self._listening: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self.refused = 0
        """Connections closed because of a limit."""

    def __len__(self) -> int:
        return len(self._connections)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which is a free one where `port` is 0."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            listening = socket.create_server((str(address[0]), port), family=family, backlog=128)
            listening.setblocking(False)
            self._listening.append(listening)
            port = port or listening.getsockname()[1]
        self._tasks = [self._loop.create_task(self._accept(one)) for one in self._listening]
        self._tasks.append(self._loop.create_task(self._sweep()))
        return port

    async def stop(self) -> None:
        """Listen no more; connections end with the `web.Server`, those without a request now."""
        for connection in [one for one in self._connections if not one.busy]:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._listening:
            listening.close()
        self._listening = []

    # ------------------------------------------------------------ connections

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                accepted, address = await self._loop.sock_accept(listening)
            except OSError:  # no descriptor is free, or the other side is gone already
                await asyncio.sleep(0.05)
                continue
            accepted.setblocking(False)
            self._admit(accepted, _peer(str(address[0])))

    def _admit(self, accepted: socket.socket, peer: str) -> None:
        if self._peers[peer] >= self._limits.per_peer:
            self.refused += 1
            accepted.close()
            return
        if len(self._connections) >= self._limits.total:
            self.refused += 1
            victim = min(self._connections, key=lambda one: (one.busy, one.since_s))
            self._forget(victim)
            victim.abort()
        connection = Connection(peer, self._loop.time())
        self._connections[connection] = None
        self._peers[peer] += 1
        connection.opening = self._loop.create_task(self._open(connection, accepted))

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {"ssl": self._certificate.context, "ssl_handshake_timeout": self._limits.header_s}
        try:
            await self._loop.connect_accepted_socket(lambda: _Handler(self, connection), accepted, **tls)
        except (OSError, asyncio.CancelledError):  # a handshake that failed, was too slow, or had to make room
            accepted.close()
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._peers[connection.peer] -= 1
            if not self._peers[connection.peer]:
                del self._peers[connection.peer]

    async def _sweep(self) -> None:
        """Close what takes too long, and take up renewed certificates, until cancelled."""
        limits = self._limits
        while True:
            await asyncio.sleep(limits.look_every_s)
            now_s = self._loop.time()
            for one in list(self._connections):
                most_s = limits.answer_s if one.busy else limits.header_s
                if not one.streams and now_s - one.since_s > most_s:
                    self.refused += 1
                    one.abort()
            if self._certificate is not None:
                self._certificate.renew()

    # ------------------------------------------------------------ told by the handler

    @property
    def server(self) -> web.Server:
        return self._server

    @property
    def limits(self) -> ConnectionLimits:
        return self._limits

    def closed(self, connection: Connection) -> None:
        self._forget(connection)


class _Handler(web.RequestHandler):
    """aiohttp's handler of one connection, which tells how far it is."""

    __slots__ = ("_listener", "connection")

    def __init__(self, listener: Listener, connection: Connection) -> None:
        super().__init__(
            listener.server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=listener.limits.header_s,
            lingering_time=1.0,
            access_log=None,  # type: ignore[arg-type]
        )
        self._listener, self.connection = listener, connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.connection.transport = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.closed(self.connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.connection.received += len(data)
        if self.connection.received > self._listener.limits.received_bytes:
            self.connection.abort()
            return
        super().data_received(data)

    async def finish_response(self, *args: Any) -> tuple[web.StreamResponse, bool]:
        found = await super().finish_response(*args)
        one = self.connection
        one.busy, one.streams, one.received, one.since_s = False, False, 0, asyncio.get_running_loop().time()
        return found


def begun(request: web.Request) -> None:
    """A whole request is there."""
    handler = request.protocol
    if isinstance(handler, _Handler):
        handler.connection.busy, handler.connection.since_s = True, asyncio.get_running_loop().time()


def streams(request: web.Request) -> str:
    """The answer to this request has no end; the peer that it goes to."""
    handler = request.protocol
    if not isinstance(handler, _Handler):
        return ""
    handler.connection.streams = True
    return handler.connection.peer


def _peer(address: str) -> str:
    """Whoever has an IPv6 address has its network."""
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(address.partition("%")[0])
        if found.version == 6 and found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
    return address
