"""A real mosquitto on the loopback for one test, with TLS, users and topic rights where asked; it can be restarted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt

from autoscaler.clients.mqtt import Backoff, MqttBroker
from tests.fakes.kubernetes.tls import loopback_certificate
from tests.real import require

PASSWORD = "pa55-0f-the-controller"
ADMIN, ADMIN_PASSWORD = "admin", "pa55-0f-the-admin"
CONTROLLER = "leadtime"
ACL = """\
user admin
topic readwrite #
user leadtime
topic read leadtime/hints/#
topic readwrite leadtime/status
topic write leadtime/plans/#
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Mosquitto:
    """`secured`: TLS, passwords and rights by topic; else open to everybody. `durable`: sessions outlive a restart.

    `asks`: it lets in only who shows a certificate (its own one and its key will do).
    """

    folder: Path
    secured: bool = False
    durable: bool = False
    asks: bool = False
    acl: str = ACL
    more: str = ""
    """Further lines of its settings."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority, self.key = self.folder / "ca.crt", self.folder / "server.key"
        if self.secured:
            loopback_certificate(self.folder)
            self.set_password(CONTROLLER, PASSWORD)
            self.set_password(ADMIN, ADMIN_PASSWORD)
            (self.folder / "acl").write_text(self.acl, encoding="utf-8")
        self.password_file = self.folder / "secret"
        self.password_file.write_text(PASSWORD + "\n", encoding="utf-8")

    def set_password(self, user: str, password: str) -> None:
        passwords = self.folder / "pw"
        new = [] if passwords.exists() else ["-c"]
        tool = require("mosquitto_passwd", "mosquitto")
        subprocess.run([tool, "-b", *new, str(passwords), user, password], check=True, capture_output=True)

    def _settings(self) -> str:
        lines = [f"listener {self.port} 127.0.0.1", "user root", "max_queued_messages 100000"]
        lines += self.more.splitlines()
        if self.secured:
            lines += [f"cafile {self.authority}", f"certfile {self.authority}", f"keyfile {self.key}"]
            lines += ["require_certificate true"] if self.asks else []
            lines += ["allow_anonymous false", f"password_file {self.folder / 'pw'}", f"acl_file {self.folder / 'acl'}"]
        else:
            lines += ["allow_anonymous true"]
        if self.durable:
            lines += ["persistence true", f"persistence_location {self.folder}/", "autosave_interval 1"]
        else:
            lines += ["persistence false"]
        return "\n".join(lines) + "\n"

    async def start(self) -> None:
        settings = self.folder / "mosquitto.conf"
        settings.write_text(self._settings(), encoding="utf-8")
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(  # noqa: ASYNC220
            [require("mosquitto", "mosquitto"), "-c", str(settings)], stdout=log, stderr=log
        )
        async with asyncio.timeout(60):
            while True:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            process.terminate()
            await asyncio.to_thread(process.wait, 30)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.stop()

    def reload(self) -> None:
        """Let it read passwords and rights again."""
        import signal

        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def settings(self, **changes: object) -> MqttBroker:
        """As the controller's settings describe this broker."""
        values: dict[str, object] = {"host": "127.0.0.1", "port": self.port, "identifier": "pod-0", "timeout_s": 5.0}
        if self.secured:
            values |= {"ca_file": self.authority, "username": CONTROLLER, "password_file": self.password_file}
        else:
            values |= {"tls": False}
        return MqttBroker(**(values | changes))  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def client(self, user: str = ADMIN, password: str = ADMIN_PASSWORD) -> AsyncIterator[aiomqtt.Client]:
        """Somebody else at the broker."""
        login = {"username": user, "password": password} if self.secured else {}
        context = ssl.create_default_context(cafile=str(self.authority)) if self.secured else None
        if context is not None and self.asks:
            context.load_cert_chain(self.authority, self.key)
        async with aiomqtt.Client("127.0.0.1", self.port, tls_context=context, timeout=60, **login) as client:  # type: ignore[arg-type]
            yield client

    async def publish(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        async with self.client() as client:
            await client.publish(topic, payload, qos=1, retain=retain)


def quick() -> Backoff:
    """Attempts that follow one another quickly, the same each time."""
    return Backoff(first_s=0.02, most_s=0.2, random=lambda: 0.0)


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait for something that happens in the background."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
