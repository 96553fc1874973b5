"""HTTP to a Ray dashboard, shared by the source that reads it and the actuator that writes to it.

It knows tokens, certificates, deadlines and size limits, and nothing of Serve. The token is read from its file at each
request (so that it can be rotated) and reaches no message; credentials inside a URL are refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from autoscaler.clients.addresses import ServiceHost, is_loopback
from autoscaler.clients.bodies import ACCEPT, TooLarge, pieces
from autoscaler.clients.http_answers import OneAnswerConnector, TooMuchAround
from autoscaler.clients.reading_limits import ReadingLimits
from autoscaler.clients.resolving import CheckedResolver, NoAnswer, Resolve, system_resolve
from autoscaler.common.errors import ConfigError
from autoscaler.common.fields import without_surrogates
from autoscaler.common.redaction import blank, remember
from autoscaler.common.secret_files import problem, read_secret

LARGE_BYTES = 1 << 17
__all__ = ["Answer", "DashboardClient", "NoAnswer"]

_WRITTEN_BYTES = 64 * 1024
"""An answer to a write is a line of JSON, or an error's text; it is read on the event loop, for each deployment."""
_EXCERPT_BYTES = 64 * 1024
"""So much of an answer is searched for secrets before it is shortened for a message."""


_HALVES = re.compile(rb"\\u[dD]|\xed[\xa0-\xbf]")
"""A half of a surrogate pair, perhaps, as JSON escapes it or as bytes that json.loads lets pass."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it came."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON, with U+FFFD for halves of surrogate pairs. Errors: ValueError."""
        try:
            document = json.loads(self.body)
            return without_surrogates(document) if _HALVES.search(self.body) else document
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def excerpt(self, limit: int = 200) -> str:
        """The beginning of the body in one line, for a message; of JSON `{"error": ...}` only the text."""
        text = self.body[:_EXCERPT_BYTES].decode(errors="replace")
        try:
            if len(self.body) <= _EXCERPT_BYTES:
                text = str(self.json()["error"])
        except (ValueError, KeyError, TypeError):
            pass
        line = " ".join(blank(text[:_EXCERPT_BYTES]).split())
        return line if len(line) <= limit else line[: limit - 3] + "..."


class DashboardClient:
    """One dashboard. Errors of every request: NoAnswer; ConfigError when the token or CA file cannot be read."""

    def __init__(
        self,
        url: str,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 5.0,
        *,
        only: ServiceHost | None = None,
        token_folder: Path | None = None,
        resolve: Resolve = system_resolve,
        limits: ReadingLimits | None = None,
    ) -> None:
        """`only`: the URL was built of others' words, and is connected to only as that Service. `token_folder`: the
        token file is where those words say, under this folder, and may be nowhere else."""
        self._url = _base_url(url)
        self._only, self._resolve = only, resolve
        self.limits = limits or ReadingLimits()
        self._token_file, self._token_folder = token_file, token_folder
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[object, ssl.SSLContext] | None = None
        self.shown = str(self._url).rstrip("/")
        """The URL for messages (it holds no credentials: those are refused)."""

    @property
    def loopback(self) -> bool:
        """The dashboard is on this machine."""
        return is_loopback(self._url.host or "")

    @property
    def sends_token(self) -> bool:
        return self._token_file is not None

    async def get(self, path: str, on_large: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """`on_large` is awaited before more than LARGE_BYTES are taken."""
        return await self._request("GET", path, None, on_large=on_large)

    async def post_json(self, path: str, body: object, timeout_s: float | None = None) -> Answer:
        return await self._request("POST", path, body, timeout_s)

    async def delete(self, path: str, timeout_s: float | None = None) -> Answer:
        return await self._request("DELETE", path, None, timeout_s)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(
        self,
        method: str,
        path: str,
        body: object,
        timeout_s: float | None = None,
        on_large: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """`path` is percent-encoded by the caller. Redirects are not followed: a token must not travel on."""
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        url = URL(str(self._url).rstrip("/") + path, encoded=True)
        arguments: dict[str, Any] = {"headers": self._headers(), "ssl": self._ssl(), "allow_redirects": False}
        if body is not None:
            arguments["json"] = body
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=self._connector(), auto_decompress=False)
        try:
            async with asyncio.timeout(limit_s), self._session.request(method, url, **arguments) as answer:
                if method == "GET":
                    return Answer(answer.status, await self._body(answer, self.limits.answer_bytes, on_large))
                most_bytes = min(_WRITTEN_BYTES, self.limits.answer_bytes)
                return Answer(answer.status, await self._body(answer, most_bytes))
        except TimeoutError:
            raise NoAnswer(f"{self.shown}: no answer within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(f"{self.shown}: {connection_problem(error)}") from None

    async def _body(
        self,
        answer: aiohttp.ClientResponse,
        most_bytes: int,
        on_large: Callable[[], Awaitable[None]] | None = None,
    ) -> bytes:
        """Errors: NoAnswer when it is more than may be read: as JSON it would take many times its size in memory."""
        limits, taken, size = self.limits, [], 0
        try:
            async for piece in pieces(answer, most_bytes):
                taken.append(piece)
                size += len(piece)
                if size > LARGE_BYTES and on_large is not None:
                    await on_large()
        except TooLarge as error:
            setting = " (reading.answer_bytes)" if most_bytes == limits.answer_bytes else ""
            raise TooLarge(f"{self.shown}: the answer is {error}{setting}") from None
        except NoAnswer as error:
            raise NoAnswer(f"{self.shown}: the answer is {error}") from None
        body = b"".join(taken)
        if len(body) > limits.answer_values and sum(map(body.count, (b",", b"[", b"{"))) > limits.answer_values:
            raise TooLarge(f"{self.shown}: the answer has over {limits.answer_values} values (reading.answer_values)")
        return body

    def _connector(self) -> aiohttp.TCPConnector:
        """Anywhere, or to one Service alone. What a head sent on a connection that is kept would pile up in memory."""
        only = self._only
        if only is None:
            return OneAnswerConnector()
        return OneAnswerConnector(
            resolver=CheckedResolver(lambda _, name, address: only.refusal(name, address), self._resolve),
        )

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return dict(ACCEPT)
        return {**ACCEPT, "Authorization": f"Bearer {read_secret(self._token_file, self._token_folder)}"}

    def _ssl(self) -> ssl.SSLContext | bool:
        """The context for the CA file, made again when the file changed; True without one (the system's)."""
        if self._ca_file is None:
            return True
        try:
            stat = self._ca_file.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._tls is None or self._tls[0] != stamp:
                self._tls = (stamp, ssl.create_default_context(cafile=str(self._ca_file)))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ca_file {self._ca_file}: {problem(error)}") from None
        return self._tls[1]


def connection_problem(error: Exception) -> str:
    """One line for a failed connection; never the request's headers or URL."""
    if isinstance(error, TooMuchAround):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "the TLS certificate is not trusted (ca_file?)"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _refusal(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError | aiohttp.ClientPayloadError):
        return "the connection was cut off"
    return f"no usable HTTP answer ({type(error).__name__})"


def _refusal(error: OSError) -> str:
    """The system's own words; asyncio puts the address into them."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    words = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
    return (words or "cannot connect").lower()


def _base_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    shown = text.rpartition("@")[2]  # what stands before an @ may be a password
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"dashboard URL {shown!r}: expected http://HOST:PORT or https://HOST:PORT")
    if url.user is not None or url.password is not None:
        remember(url.password or "")
        raise ConfigError(f"dashboard URL for {shown!r}: user and password do not belong in it; use token_file")
    return url.with_query(None).with_fragment(None)
