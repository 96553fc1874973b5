"""What both MQTT parts share: the broker's settings and secrets, topics, and a connection that is kept.

It knows no MQTT library: the two files that connect (sources/mqtt_hints.py, actuators/mqtt_plans.py) hand in how to
connect and which errors to expect. Secrets are read from their file at each connection and reach no message.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote

from autoscaler.common.errors import ConfigError, LeadtimeError
from autoscaler.common.redaction import blank, remember
from policies.base import DeploymentKey

C = TypeVar("C")

LIBRARY_LOG = logging.getLogger("leadtime.mqtt")
"""For the library's own words: what matters of them is in `Link.why`, once and in our words."""
LIBRARY_LOG.setLevel(logging.CRITICAL)

KEEPALIVE_S = 15
"""A broker takes a client for gone after one and a half times this."""
_STOP_S = 4.0
_TAKEN_AFTER = 3
"""Connections in a row that end soon: then somebody takes them over."""
_STEADY_S = 30.0
"""A connection that held so long ends a row of failures."""


@dataclass(frozen=True, slots=True)
class MqttBroker:
    """Where the broker is and how to log in.

    `identifier` names this process at the broker, and must be its own. `release` names what outlives the process: the
    session that the broker keeps, which one process at a time takes over. None: nothing is kept at the broker.
    """

    host: str
    port: int
    identifier: str
    tls: bool = True
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    """None: the key is in client_cert_file."""
    username: str | None = None
    password_file: Path | None = None
    prefix: str = "leadtime"
    timeout_s: float = 10.0
    release: str | None = None

    @property
    def shown(self) -> str:
        return f"MQTT broker {self.host}:{self.port}"

    def password(self) -> str | None:
        """As the file holds it now. Errors: ConfigError naming the file, never its content."""
        if self.password_file is None:
            return None
        try:
            password = self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"password_file {self.password_file}: {_file_problem(error)}") from None
        if not password or "\n" in password:
            raise ConfigError(f"password_file {self.password_file}: expected one line with the password")
        remember(password)
        return password

    def connection(self, part: str, as_release: bool = False) -> dict[str, Any]:
        """What any client of the broker is made with; `part` tells the connections of one name apart.

        Made anew for each connection, secrets and certificates too. Errors: ConfigError.
        """
        return {
            "hostname": self.host,
            "port": self.port,
            "username": self.username,
            "password": self.password(),
            "tls_context": self.tls_context(),
            "identifier": f"{self.release if as_release else self.identifier}-{part}",
            "keepalive": KEEPALIVE_S,
            "timeout": self.timeout_s,
            "logger": LIBRARY_LOG,
        }

    def tls_context(self) -> ssl.SSLContext | None:
        """Made anew for each connection, so that a renewed certificate file counts. Errors: ConfigError."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ca_file {self.ca_file}: {_file_problem(error)}") from None
        if self.client_cert_file is not None:
            try:  # an empty password: nobody is there to be asked for one
                context.load_cert_chain(self.client_cert_file, self.client_key_file, password="")
            except (OSError, ValueError) as error:
                key = f" with client_key_file {self.client_key_file}" if self.client_key_file else ""
                raise ConfigError(f"client_cert_file {self.client_cert_file}{key}: {_file_problem(error)}") from None
        return context


def _file_problem(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) and error.strerror else type(error).__name__


# ---------------------------------------------------------------- topics


def topic_of(prefix: str, kind: str, key: DeploymentKey) -> str:
    """`PREFIX/KIND/NAMESPACE/SERVICE/APP/DEPLOYMENT`, each part percent-encoded."""
    parts = (key.namespace, key.service, key.app, key.deployment)
    return "/".join((prefix, kind, *(quote(part, safe="") for part in parts)))


def key_of(prefix: str, kind: str, topic: str) -> DeploymentKey | None:
    """The deployment that a topic names; None when it names none."""
    parts = topic.removeprefix(f"{prefix}/{kind}/").split("/")
    if not topic.startswith(f"{prefix}/{kind}/") or len(parts) != 4:
        return None
    names = [unquote(part) for part in parts]
    if any(not name or "/" in name or not name.isprintable() for name in names):
        return None
    return DeploymentKey(*names)


def namespace_of(prefix: str, topic: str) -> str:
    """The part of a topic that says whose it is, as it is written; "" where there is none."""
    parts = topic.removeprefix(f"{prefix}/").split("/", 2)
    return parts[1] if len(parts) == 3 else ""


# ---------------------------------------------------------------- a connection that is kept


@dataclass(slots=True)
class Backoff:
    """Waits between attempts: doubling up to `most_s`, each cut by up to half at random, so that many do not meet."""

    first_s: float = 1.0
    most_s: float = 60.0
    random: Callable[[], float] = random.random
    failures: int = 0

    def next_s(self) -> float:
        wait_s = min(self.most_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait_s * (1.0 - 0.5 * self.random())

    def reset(self) -> None:
        self.failures = 0


class RetryLater(Exception):
    """A session asks for another connection at once; no failure."""


@dataclass(slots=True)
class ReconnectingClient(Generic[C]):
    """Connects, lets `session` work until the connection ends, and connects again, until cancelled.

    `connect` makes a new connection each time; `session` calls `up` when it is ready. Failures are `errors` of the
    library, LeadtimeError (a secret that cannot be read) and the operating system's; anything else is a bug that ends
    it.
    """

    broker: MqttBroker
    connect: Callable[[], AbstractAsyncContextManager[C]]
    session: Callable[[C], Awaitable[None]]
    errors: tuple[type[Exception], ...]
    backoff: Backoff = field(default_factory=Backoff)
    connected: bool = False
    connections: int = 0
    why: str = "not connected yet"
    """Why it is not connected; empty while it is."""
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first attempt has ended, one way or the other."""
    _up_at_s: float = 0.0
    _short: int = 0
    """Connections in a row that were ended soon after they were ready."""
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the running event loop; a second call does nothing. One that ended by a bug begins anew."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self.run(), name=f"{self.broker.identifier} at {self.broker.shown}")

    async def stop(self) -> None:
        """End the connection properly, but wait for no broker longer than a moment."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,), timeout=_STOP_S)

    def up(self) -> None:
        """The session is ready."""
        self.connected, self.why = True, ""
        self.connections += 1
        self._up_at_s = asyncio.get_running_loop().time()
        self.tried.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        expected: tuple[type[Exception], ...] = (*self.errors, OSError, LeadtimeError)
        try:
            while True:
                try:
                    async with self.connect() as client:
                        await self.session(client)
                    self.why = f"{self.broker.shown}: the connection was closed"
                except RetryLater:
                    continue
                except expected as error:
                    self.why = f"{self.broker.shown}: {self._words(error)}"
                if self.connected:
                    steady = loop.time() - self._up_at_s >= _STEADY_S
                    self._short = 0 if steady else self._short + 1
                    if steady:
                        self.backoff.reset()
                    if self._short >= _TAKEN_AFTER:
                        self.why += "; again and again: does another controller use this prefix or identifier?"
                self.connected = False
                self.tried.set()
                await asyncio.sleep(self.backoff.next_s())
        except Exception as error:
            self.why = blank(f"bug in the MQTT connection: {type(error).__name__}: {error}")
            raise
        finally:
            self.connected = False
            self.tried.set()

    def _words(self, error: BaseException) -> str:
        words = words_of(error)
        if words not in (_CUT_OFF, _LATE) or self.connected:
            return words
        tls = "no TLS at this port? tls: false" if self.broker.tls else "TLS at this port? tls: true"
        if self.broker.tls and self.broker.client_cert_file is None:
            tls += "; does it ask for a certificate? client_cert_file"  # a broker that does just hangs up
        return f"{words} while connecting ({tls})"


_CUT_OFF, _LATE = "cut off", "no answer in time"


def words_of(error: BaseException) -> str:
    """One line for a failed connection; never a secret."""
    if isinstance(error, LeadtimeError):
        return str(error)
    text = " ".join(blank(str(error)).split())
    for found, words in _WORDS:
        if re.search(found, text, re.IGNORECASE):
            return words
    return (re.sub(r"^\[[^\]]*\]:? *", "", text) or type(error).__name__).lower()


_WORDS = (
    (r"not authorized|code:135|bad user ?name", "it refused the login (not authorized)"),
    (
        r"CERTIFICATE_REQUIRED|alert certificate|BAD_CERTIFICATE|handshake failure|UNKNOWN_CA|alert unknown ca",
        "the broker wants another client certificate than this one, or one at all (client_cert_file?)",
    ),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify", "the TLS certificate is not trusted (ca_file?)"),
    (r"WRONG_VERSION_NUMBER|\bEOF occurred|UNEXPECTED_EOF", "no TLS at this port (tls: false?)"),
    (r"name or service not known|name resolution|nodename nor", "the host name is not known"),
    (r"connection refused", "connection refused"),
    (r"timed out", _LATE),
    (r"during message iteration|unexpected disconnection|connection lost|broken pipe|reset by peer", _CUT_OFF),
)
