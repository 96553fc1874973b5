"""No client of ours follows a redirect: a token, or a request at all, must not travel to where an answer points."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.sources.node_metrics import NodeMetricsSource

ROOT = Path(__file__).resolve().parents[3]
_VERBS = {"get", "post", "put", "delete", "patch", "request"}


def requests_by_aiohttp() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a verb on a name that ends in `session`, in what runs in the pod or asks servers of others."""
    for package in ("autoscaler", "simulator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _VERBS:
                    on = node.func.value
                    name = on.attr if isinstance(on, ast.Attribute) else on.id if isinstance(on, ast.Name) else ""
                    if name.endswith("session"):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_request_says_that_it_follows_no_redirect() -> None:
    found = dict(requests_by_aiohttp())
    assert len(found) >= 4
    for place, call in found.items():
        said = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        handed_on = None in said  # **arguments: tried out below
        assert handed_on or said.get("allow_redirects") is False, place


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/api/prometheus/sd":
            return web.json_response([{"targets": [request.host]}])
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = DashboardClient(f"http://127.0.0.1:{runner.addresses[0][1]}")
    assert (await client.get("/a")).status == status
    assert (await client.post_json("/b", {})).status == status
    source = NodeMetricsSource("m", "default", "local", client)
    assert f"answered {status}" in (await source.read(1.0)).why
    await source.close()
    await runner.cleanup()
    assert asked == ["/a", "/b", "/api/prometheus/sd", "/metrics"]
