"""`leadtime run` as a program of its own, beside a small dashboard; and the commands that ask and tell it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.cli.helpers import ROOT, Ran, leadtime, python
from tests.fakes.dashboard import FakeApplication, FakeDashboard, FakeDeployment

TOKEN = "s3cr3t-T0ken-0123456789abcdef"
HEAVY = ("ray", "simulator", "matplotlib", "plotly", "kubernetes", "numba", "optuna")
SETTINGS = """\
version: 1
dry_run: {dry_run}
tick_s: 0.5
services: [{{dashboard: "{dashboard}", token_file: token}}]
deployments: [{{match: chat/llm, replicas: {{min: 1, max: 4}}}}]
policy: {{name: static, options: {{replicas: 3}}}}
server: {{port: 0, token_file: token}}
guards: {{stale_after_s: 5}}
"""


@dataclass
class Place:
    """A folder with settings, and the dashboard that they name."""

    folder: Path
    dashboard: FakeDashboard

    def settings(self, dry_run: bool) -> Path:
        path = self.folder / "lt.yaml"
        path.write_text(SETTINGS.format(dry_run=str(dry_run).lower(), dashboard=self.dashboard.url), encoding="utf-8")
        return path


@contextlib.asynccontextmanager
async def metrics_page() -> AsyncIterator[str]:
    """A node's metrics page that has nothing to say; yields its HOST:PORT."""
    application = web.Application()
    application.add_routes([web.get("/metrics", _page)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="# HELP up one\nother 1\n")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    app = FakeApplication({"llm": FakeDeployment(), "extra": FakeDeployment()})
    fake = FakeDashboard(applications={"chat": app}, token=TOKEN)
    async with metrics_page() as page, fake.serve():
        fake.metrics_pages = [page]
        yield Place(tmp_path, fake)


@contextlib.asynccontextmanager
async def started(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`leadtime WORDS...` running beside the test, ended with it at the latest."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "autoscaler.cli.main", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield program
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


async def ran_to_the_end(*words: str) -> Ran:
    async with started(*words) as program:
        return await finished(program)


async def finished(program: asyncio.subprocess.Process) -> Ran:
    async with asyncio.timeout(60):
        out, err = await program.communicate()
    assert program.returncode is not None
    return Ran(program.returncode, out.decode(), err.decode())


def test_run_imports_nothing_that_only_a_simulation_or_a_cluster_needs() -> None:
    ran = python(
        "import sys, autoscaler.cli.run as run\n"
        "import autoscaler.settings, autoscaler.runtime, autoscaler.api.server\n"
        "import autoscaler.runtime.store, autoscaler.runtime.journal_file\n"
        "import autoscaler.wiring.controller, autoscaler.wiring.prewarm\n"
        "import autoscaler.actuators.ray_serve, autoscaler.actuators.recording\n"
        "import autoscaler.sources.ray_dashboard, autoscaler.sources.node_metrics, policies.predictive\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert ran.out.strip() == "[]", ran.err


async def test_one_round_shows_what_is_seen_and_would_be_done_and_changes_nothing(place: Place) -> None:
    ran = await ran_to_the_end("run", "--config", str(place.settings(dry_run=True)), "--once")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "source ray_dashboard: up"
    assert lines[1].startswith("source node_metrics: up")
    assert any(line.startswith("chat/extra: left alone: ") for line in lines), ran.out
    assert any(line.startswith("chat/llm: 1 → 3: ") and "dry run" in line for line in lines), ran.out
    assert place.dashboard.posts == []
    assert "dry run: changes nothing" in ran.err
    assert TOKEN not in ran.out + ran.err


async def test_one_round_with_a_source_down_says_so_and_fails(place: Place) -> None:
    path = place.settings(dry_run=True)
    path.write_text(path.read_text(encoding="utf-8").replace(", token_file: token}]", "}]"), encoding="utf-8")
    ran = await ran_to_the_end("run", "--config", str(path), "--once")
    assert ran.code == 1
    assert "source ray_dashboard: DOWN: " in ran.out
    assert "set token_file" in ran.out


async def test_the_controller_runs_acts_answers_pauses_and_ends_at_sigterm(place: Place) -> None:
    async with started("run", "--config", str(place.settings(dry_run=False)), "--log-json") as program:
        assert program.stderr is not None
        log: list[str] = []
        url = ""
        async with asyncio.timeout(60):
            while not url:
                line = (await program.stderr.readline()).decode()
                assert line, "".join(log)
                log.append(json.loads(line)["msg"])
                found = re.fullmatch(r"pages on (http://.*)", log[-1])
                url = found[1] if found else ""
        token = ("--token-file", str(place.folder / "token"))

        running = None
        async with asyncio.timeout(60):
            while running != 3:
                as_json = await asyncio.to_thread(leadtime, "status", "--url", url, "--json")
                deployments = json.loads(as_json.out)["deployments"]
                running = deployments["chat/llm"]["replicas"]["running"] if deployments else None
        status = await asyncio.to_thread(leadtime, "status", "--url", url)
        assert (status.code, status.err) == (0, "")
        assert re.match(r"tick \d+, acts\n", status.out)
        assert re.search(r"^chat/llm +3 running  ", status.out, re.MULTILINE), status.out

        refused = await asyncio.to_thread(leadtime, "pause", "--url", url)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.endswith("; --token-file names the file with it\n")
        typo = await asyncio.to_thread(leadtime, "pause", "chat/lm", "--url", url, *token)
        assert (typo.code, typo.err) == (
            2,
            f"{url}: answered 404: no deployment 'chat/lm' here; did you mean 'chat/llm'?\n",
        )
        one = await asyncio.to_thread(leadtime, "pause", "chat/llm", "--url", url, *token)
        assert (one.code, one.out) == (0, "paused: chat/llm\n")
        every = await asyncio.to_thread(leadtime, "pause", "--url", url, *token)
        assert (every.code, every.out) == (0, "paused: everything\n")
        resumed = await asyncio.to_thread(leadtime, "resume", "--url", url, *token)
        assert (resumed.code, resumed.out) == (0, "paused: nothing\n")

        program.send_signal(signal.SIGTERM)
        ran = await finished(program)
        assert ran.code == 0, ran.err
        assert TOKEN not in ran.err + "".join(log)
        assert place.dashboard.posts[0] == ("chat", "llm", {"target_num_replicas": 3})
        journal = str(place.folder / "journal")
        replayed = leadtime("replay", journal, "--strict")
        assert (replayed.code, replayed.err) == (0, ""), replayed.out
        assert "chat/llm: 1 → 3: 3 replicas, always" in leadtime("explain", journal).out


async def test_a_second_controller_on_the_same_state_is_refused(place: Place) -> None:
    path = place.settings(dry_run=True)
    async with started("run", "--config", str(path)) as program:
        assert program.stderr is not None
        async with asyncio.timeout(60):
            while b"pages on" not in await program.stderr.readline():
                pass
        ran = await ran_to_the_end("run", "--config", str(path))
        program.send_signal(signal.SIGTERM)
        assert (await finished(program)).code == 0
        assert ran.code == 1
        assert ran.err.splitlines()[-1].endswith("is in use by another leadtime: one controller, one state file")


def test_run_needs_settings() -> None:
    says = "leadtime run: the following arguments are required: --config; see: leadtime run --help\n"
    assert leadtime("run") == Ran(2, "", says)


def test_bad_settings_stop_it_before_anything_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(SETTINGS.format(dry_run="maybe", dashboard="http://127.0.0.1:1"), encoding="utf-8")
    ran = leadtime("run", "--config", str(path))
    assert (ran.code, ran.err) == (2, f"{path}:2: dry_run: 'maybe'; allowed: true or false\n")
    assert [p.name for p in tmp_path.iterdir()] == ["lt.yaml"]
