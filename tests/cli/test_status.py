"""`leadtime status` puts a controller's answer into words; what goes wrong on the way is one line."""
# ruff: noqa: E501 (whole lines, as people will read them)

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from autoscaler.cli.status import status_lines
from tests.cli.helpers import leadtime

NOW_S = 1_790_000_100.0


def status(**changes: Any) -> dict[str, Any]:
    """An answer of /api/v1/status with one deployment that is growing."""
    deployment = {
        "signals": {
            "rate_rps": 12.34,
            "waiting": 7.0,
            "ongoing": 20.0,
            "kv_usage_fraction": 0.42,
            "fresh": True,
            "why_stale": "",
        },
        "forecast": {
            "forecaster": "seasonal",
            "horizons_s": [60.0, 240.0],
            "levels": [0.5, 0.99],
            "values_rps": [[12.0, 14.0], [13.0, 21.5]],
            "calibrated": True,
            "why": "",
        },
        "replicas": {"target": 4, "running": 3, "starting": 1, "draining": 0, "planned": 5},
        "starting": [{"expected_ready_at_s": NOW_S + 84, "stage": "load", "path": "new_node"}],
        "capacity_rps": 4.5,
        "slo": {"target_fraction": 0.99, "attained_fraction": 0.973, "window_s": 600},
        "sentence": "4 → 5: 99 % of what may come within 240 s needs 5",
        "blocked": None,
        "paused": False,
        "last_decision": {
            "at_s": NOW_S - 30,
            "sentence": "4 → 5: more",
            "applied": {"outcome": "ok", "why": ""},
        },
    }
    answer = {
        "now_s": NOW_S,
        "tick": 12,
        "leader": True,
        "dry_run": False,
        "paused": False,
        "sources": {
            "ray_dashboard": {"up": True, "age_s": 1.2, "why": ""},
            "node_metrics": {"up": False, "age_s": 250.0, "why": "no answer within 4 s"},
        },
        "deployments": {"chat/llm": deployment},
        "pools": {
            "h100": {
                "nodes": {"busy": 2, "prewarmed": 1, "arriving": 0, "refused": 1},
                "cost_usd_per_hour": 264.0,
            }
        },
        "hints": [],
    }
    return answer | changes


def test_a_growing_deployment_is_told_at_a_glance() -> None:
    assert list(status_lines(status())) == [
        "tick 12, acts",
        "",
        "source               age",
        "ray_dashboard  up    1 s",
        "node_metrics   DOWN  4 min  no answer within 4 s",
        "",
        "deployment  replicas                    demand  one carries  may come         SLO met         waiting  KV cache",
        "chat/llm    3 running + 1 starting → 5  12.3/s  4.5/s        21.5/s in 4 min  97.3 % of 99 %  7        42 %",
        "",
        "chat/llm: 4 → 5: 99 % of what may come within 240 s needs 5",
        "  a start: load, ready in about 84 s (new node)",
        "  since 2026-09-21T14:14:30Z: 4 → 5: more [ok]",
        "",
        "pool  busy  warm  arriving  refused  $/h",
        "h100  2     1     0         1        264",
    ]


def test_a_pool_whose_nodes_are_taken_away_says_how_often() -> None:
    nodes = {"busy": 2, "prewarmed": 0, "arriving": 0, "refused": 0}
    spot = {"nodes": nodes, "cost_usd_per_hour": 60.0, "taken_per_node_hour": 0.124}
    calm = spot | {"taken_per_node_hour": 0.0}
    lines = list(status_lines(status(pools={"spot": spot, "h100": calm})))
    assert lines[-1] == "pool spot: a node with replicas on it is taken away 0.12 times an hour"
    assert not [line for line in lines if "pool h100" in line]


def test_what_is_unknown_is_a_question_mark_and_never_a_zero() -> None:
    blind = {
        "signals": None,
        "forecast": None,
        "replicas": {"target": 1, "running": None, "starting": None, "draining": None, "planned": None},
        "starting": [],
        "capacity_rps": None,
        "slo": None,
        "sentence": "left alone: nothing is known of it",
        "blocked": "give it autoscaling_config: null",
        "paused": True,
        "last_decision": None,
    }
    lines = list(status_lines(status(deployments={"chat/llm": blind}, pools={}, sources={})))
    text = "\n".join(lines)
    assert re.split(r"  +", lines[3]) == ["chat/llm", "? running", "?", "?", "?", "no target", "?", "?"]
    assert "chat/llm (PAUSED): left alone: nothing is known of it" in text
    assert "  not applied: give it autoscaling_config: null" in text
    assert "  not fresh: nothing seen yet" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tick": None}, "the first tick is not done yet"),
        ({"dry_run": True, "leader": False}, "tick 12, dry run: changes nothing, not the leader"),
        ({"paused": True}, "tick 12, acts, PAUSED: everything (`leadtime resume` ends it)"),
    ],
)
def test_the_first_line_tells_the_mode(changes: dict[str, Any], says: str) -> None:
    assert next(status_lines(status(**changes))) == says


# ---------------------------------------------------------------- on the way


@contextmanager
def answering(code: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that always gives this answer; yields its URL and the requests it has seen."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            words = (
                self.command,
                self.path,
                self.headers.get("Authorization") or "-",
                self.rfile.read(length).decode(),
            )
            seen.append(" ".join(words).strip())
            self.send_response(code)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_json_is_the_answer_and_nothing_else() -> None:
    with answering(200, json.dumps(status()).encode()) as (url, seen):
        ran = leadtime("status", "--url", f"{url}/", "--json")
    assert (ran.code, ran.err, json.loads(ran.out)) == (0, "", status())
    assert seen == ["GET /api/v1/status -"]


def test_the_url_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, json.dumps(status()).encode()) as (url, _):
        monkeypatch.setenv("LEADTIME_URL", url)
        assert leadtime("status").out.startswith("tick 12, acts\n")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("localhost:8080", "'localhost:8080'"),
        ("http://me:hunter2@host:8080", "'host:8080'"),
        ("http://host:port", "'http://host:port'"),
        ("file:///etc/passwd", "'file:///etc/passwd'"),
    ],
)
def test_a_bad_url_is_bad_input_and_shows_no_password(url: str, shown: str) -> None:
    ran = leadtime("status", "--url", url)
    allowed = "http://HOST:PORT or https://HOST:PORT, without user and password"
    assert (ran.code, ran.err) == (2, f"--url: {shown}; allowed: {allowed}\n")


def test_nobody_there_says_where_to_look() -> None:
    ran = leadtime("status", "--url", "http://127.0.0.1:1")
    assert ran.code == 1
    assert ran.err == (
        "http://127.0.0.1:1: no controller answers there (connection refused); --url, or $LEADTIME_URL, says where it is\n"
    )


@pytest.mark.parametrize(
    ("code", "body", "exit_code", "says"),
    [
        (200, b"<html>", 1, "{url}/api/v1/status: the answer is not JSON; is that a leadtime controller?"),
        (200, b"{}", 1, "{url}: the answer has another shape than this version's: KeyError('tick')"),
        (503, b'{"error": "not\\nyet"}', 1, "{url}: answered 503: not yet"),
        (500, b"oops", 1, "{url}: answered 500: Internal Server Error"),
        (404, b'{"error": "no such page"}', 2, "{url}: answered 404: no such page"),
    ],
)
def test_an_answer_that_is_no_status_is_one_line(code: int, body: bytes, exit_code: int, says: str) -> None:
    with answering(code, body) as (url, _):
        ran = leadtime("status", "--url", url)
    assert (ran.code, ran.out, ran.err) == (exit_code, "", says.format(url=url) + "\n")


def test_a_token_does_not_follow_a_redirect(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("s3cr3t\n", encoding="utf-8")
    with answering(200, b"{}") as (elsewhere, stolen), answering(302, b"", {"Location": elsewhere}) as (url, seen):
        ran = leadtime("pause", "chat/llm", "--url", url, "--token-file", str(tmp_path / "t"))
    assert ran.code == 1
    assert seen == ['POST /api/v1/pause Bearer s3cr3t {"key": "chat/llm"}']
    assert stolen == []
    assert "s3cr3t" not in ran.err


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "no such file or directory"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_text("a b"), "no single word in it"),
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8 text"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_bad_input(
    tmp_path: Path, write: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / "t"
    write(path)
    ran = leadtime("resume", "--url", "http://127.0.0.1:1", "--token-file", str(path))
    allowed = "allowed: a file that holds just the token"
    assert (ran.code, ran.err) == (2, f"--token-file: {path}: {says}; {allowed}\n")


def test_a_forecast_that_is_not_used_is_marked() -> None:
    answer = status()
    answer["deployments"]["chat/llm"]["forecast"]["calibrated"] = False
    assert "21.5/s in 4 min (not trusted)" in "\n".join(status_lines(answer))
