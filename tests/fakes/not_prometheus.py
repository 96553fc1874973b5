"""A server that is no Prometheus: dead, hanging, refusing, talking nonsense. Loopback, ended by its context."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Answering:
    """What the server answers, and what it was asked with."""

    url: str
    status: int = 200
    body: bytes = b""
    hang: bool = False
    trickle: bool = False
    location: str = ""
    tokens: list[str] = field(default_factory=list)
    requests: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def answering() -> Iterator[Answering]:
    told = Answering("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.requests += 1
            told.tokens.append(self.headers.get("Authorization", ""))
            if told.hang:
                told.stop.wait(20)
                return
            self.send_response(told.status)
            if told.location:
                self.send_header("Location", told.location)
            if told.trickle:
                self.end_headers()
                while not told.stop.wait(0.02):
                    try:
                        self.wfile.write(b" ")
                        self.wfile.flush()
                    except OSError:
                        return
                return
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        told.stop.set()
        server.shutdown()
        server.server_close()


def dead_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"
