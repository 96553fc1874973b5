"""How the plan is read: over HTTP with a token, over TLS with a CA file, from a file; and how that can go wrong."""

from __future__ import annotations

import gc
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadtime_serve_policy import LeadtimePolicy, PlanReader, PolicySettings
from tests.fakes.kubernetes.tls import loopback_certificate
from tests.fakes.serve_context import Context, plan_text


class Controller(http.server.ThreadingHTTPServer):
    """Answers `/api/v1/plan` with what is in `answers`, the last one for ever; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = [(200, plan_text())]
        self.asked: list[tuple[str, str | None]] = []
        self.location = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Controller

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        answers = self.server.answers
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def controller() -> Iterator[Controller]:
    server = Controller()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def reader_of(plan: str, **settings: str | None) -> PlanReader:
    return PlanReader(PolicySettings(plan=plan, **settings), lambda: 0.0, lambda: 1000.0)  # type: ignore[arg-type]


def test_the_plan_is_read_over_http(controller: Controller) -> None:
    reader = reader_of(controller.address + "/")
    reader.read_once()
    assert reader.why == ""
    assert reader.seen is not None
    assert reader.seen.plan.targets == {"chat/llm": 3}
    assert controller.asked == [("/api/v1/plan", None)]


def test_the_token_is_sent_and_read_again_each_time(controller: Controller, tmp_path: Path) -> None:
    token = tmp_path / "token"
    reader = reader_of(controller.address, token_file=str(token))
    for text in ("first\n", "second\n"):
        token.write_text(text)
        reader.read_once()
    assert [given for _, given in controller.asked] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("text", ["", "two\nlines", "sp\x00ecial-secret", "gehéim"])
def test_a_token_that_is_none_is_named_by_its_file_and_never_shown(
    controller: Controller, tmp_path: Path, text: str
) -> None:
    token = tmp_path / "token"
    token.write_text(text)
    reader = reader_of(controller.address, token_file=str(token))
    reader.read_once()
    assert f"token_file {token}" in reader.why
    assert not text or text not in reader.why
    assert controller.asked == []


def test_of_several_controllers_behind_one_address_the_leader_is_found(controller: Controller) -> None:
    follower = (200, plan_text(acts=False, targets={}, withheld={"chat/llm": 9}))
    controller.answers = [follower, follower, (200, plan_text(1001.0))]
    reader = reader_of(controller.address)
    reader.read_once()
    assert reader.seen is not None
    assert (reader.seen.plan.targets, reader.why) == ({"chat/llm": 3}, "")


def test_a_controller_that_does_not_act_is_asked_a_few_times_and_not_followed(controller: Controller) -> None:
    controller.answers = [(200, plan_text(acts=False, targets={}, withheld={"chat/llm": 9}))]
    reader = reader_of(controller.address)
    reader.read_once()
    assert (reader.seen, len(controller.asked)) == (None, 6)
    assert "does not act" in reader.why


def test_a_redirect_is_not_followed_so_that_the_token_stays_here(controller: Controller, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    controller.answers, controller.location = [(302, b"")], controller.address + "/elsewhere"
    reader = reader_of(controller.address, token_file=str(token))
    reader.read_once()
    assert [path for path, _ in controller.asked] == ["/api/v1/plan"]
    assert "answered 302" in reader.why
    assert "s3cret" not in reader.why


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((503, b'{"error": "the first tick is not done yet"}'), "answered 503"),
        ((401, b""), "answered 401"),
        ((200, b"<html>"), "not JSON"),
        ((200, b" " * 5_000_000), "longer than 4 MiB"),
    ],
)
def test_a_bad_answer_is_told_in_one_line_and_the_last_plan_stays(
    controller: Controller, answer: tuple[int, bytes], words: str
) -> None:
    reader = reader_of(controller.address)
    reader.read_once()
    controller.answers = [answer]
    reader.read_once()
    assert words in reader.why
    assert "\n" not in reader.why
    assert reader.seen is not None
    assert reader.seen.plan.targets == {"chat/llm": 3}


def test_nobody_there_is_told() -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port meanwhile
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        reader = reader_of(address)
        reader.read_once()
    assert reader.why == f"{address}: connection refused"


def test_a_file_is_read_and_a_missing_one_or_a_pipe_is_told(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    reader = reader_of(str(file))
    reader.read_once()
    assert reader.why == f"{file}: no such file or directory"
    file.write_bytes(plan_text())
    reader.read_once()
    assert reader.seen is not None
    assert reader.why == ""
    os.mkfifo(tmp_path / "pipe")
    reader = reader_of(str(tmp_path / "pipe"))
    reader.read_once()
    assert reader.why.endswith("no plain file")


def test_https_trusts_the_ca_file_and_nobody_else(controller: Controller, tmp_path: Path) -> None:
    authority, context = loopback_certificate(tmp_path)
    controller.socket = context.wrap_socket(controller.socket, server_side=True)
    address = controller.address.replace("http:", "https:")
    stranger = reader_of(address)
    stranger.read_once()
    assert "not trusted" in stranger.why
    reader = reader_of(address, ca_file=str(authority))
    reader.read_once()
    assert reader.why == ""
    assert reader.seen is not None


def test_a_ca_file_that_cannot_be_read_is_named(controller: Controller, tmp_path: Path) -> None:
    reader = reader_of(controller.address.replace("http:", "https:"), ca_file=str(tmp_path / "none.pem"))
    reader.read_once()
    assert f"ca_file {tmp_path}/none.pem: no such file or directory" in reader.why


def test_the_thread_ends_with_the_policy(controller: Controller) -> None:
    of_others = set(threading.enumerate())
    policy = LeadtimePolicy(plan=controller.address)
    policy(Context())
    (thread,) = [t for t in set(threading.enumerate()) - of_others if t.name == "leadtime-plan"]
    del policy
    gc.collect()
    thread.join(timeout=60)
    assert not thread.is_alive()
