"""Plays a row: a world, its servers on loopback, and `leadtime run` as a process, tick by tick in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import fcntl
import inspect
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tests.faults.patience import Pulse, hangs, spent_s
from tests.faults.row import WORLDS, Fault, Row
from tests.faults.wire import Answer, Request, Wire
from tests.faults.world import NODES, PROFILE, World

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
TICK_S = 5.0
PAST_MIN = 30.0
"""Each world is played for so long, once; rows go on from there, with what was learned."""
SETTLE_TICKS = 24
SETTINGS = """\
version: 1
dry_run: false
tick_s: 5
services: [{{dashboard: "{dashboard}", timeout_s: {timeout_s}{ca}}}]
deployments:
- {{match: chat/llm, profile: {profile}, replicas: {{min: 1, max: {max}}}}}
- {{match: tools/aux, profile: {profile}, replicas: {{min: 1, max: 6}}}}
server: {{port: 0}}
state: {{path: {state}/leadtime.sqlite}}
journal: {{path: {state}/journal, max_bytes: 20000000}}
{more}
"""


@dataclass(frozen=True)
class Post:
    tick: int
    key: str
    value: object
    status: int
    before: int | None


@dataclass
class Line:
    tick: int
    text: str


class Ended(Exception):
    """The process is no more."""


class Hung(Exception):
    """A tick took too long."""


@dataclass
class Program:
    """One `leadtime run`."""

    play: Play
    folder: Path
    settings: Path
    command: tuple[str, ...] = ("run", "--config")
    process: asyncio.subprocess.Process | None = None
    pulse: Pulse = field(init=False)
    _beating: asyncio.Task[None] | None = None
    url: str = ""
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None
    _log: int | None = None
    """What it says comes through a pipe: a full disk is not in the way."""
    _partial: str = ""

    async def start(self, preexec: Any = None) -> None:
        ours, theirs = socket.socketpair()
        play = self.play
        self._close()
        self.pulse = Pulse()
        self._beating = asyncio.create_task(self.pulse.beating())
        command = [sys.executable, "-m", "tests.faults.process", str(theirs.fileno()), str(self.pulse.fd),
                   repr(play.wall_s()), repr(play.monotonic_s), *self.command, str(self.settings)]  # fmt: skip
        self._log, log = os.pipe()
        fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(self._log, False)
        self.process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=log, stderr=log, pass_fds=(theirs.fileno(), self.pulse.fd), preexec_fn=preexec
        )
        os.close(log)
        theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self.url = ""

    async def ticked(self) -> None:
        """Wait for the end of the tick under way. Errors: Ended, Hung."""
        assert self._reader is not None
        try:
            line = await self.patiently(self._reader.readline())
        except ConnectionError:
            line = b""
        self.take_log()
        if not line:
            assert self.process is not None
            await self.patiently(self.process.wait())
            self.take_log()
            raise Ended

    async def patiently(self, what: Awaitable[T]) -> T:
        """What the process is to bring about. Errors: Hung, once it has had the time for it."""
        assert self.process is not None
        task, begun_s = asyncio.ensure_future(what), time.monotonic()
        spent_before_s = spent_s(self.pulse, self.process.pid)
        try:
            while not (await asyncio.wait((task,), timeout=1.0))[0]:
                spent = spent_s(self.pulse, self.process.pid) - spent_before_s
                if hangs(spent, time.monotonic() - begun_s):
                    raise Hung
        finally:
            task.cancel()
        return task.result()

    def go_on(self) -> None:
        assert self._writer is not None
        with contextlib.suppress(ConnectionError):
            self._writer.write(f"{self.play.wall_s()!r} {self.play.monotonic_s!r}\n".encode())

    def take_log(self) -> None:
        said = b""
        with contextlib.suppress(BlockingIOError):
            while self._log is not None and (part := os.read(self._log, 1 << 20)):
                said += part
        *lines, self._partial = (self._partial + said.decode(errors="replace")).split("\n")
        for line in lines:
            found = re.search(r"pages on (http://\S+)", line)
            self.url = found[1] if found else self.url
            self.play.lines.append(Line(self.play.tick, line))

    def _close(self) -> None:
        if self._log is not None:
            self.take_log()
            os.close(self._log)
            self._log = None
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
            self.pulse.close()

    async def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        assert self._writer is not None
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                await self.patiently(self.process.wait())
            except Hung:
                self.kill()
                await self.process.wait()
        self._writer.close()
        self._close()
        code = self.process.returncode
        assert code is not None
        return code

    def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()


@dataclass
class Play:
    """One row under way, and what came of it."""

    row: Row
    folder: Path
    world: World
    seed: int = 0
    tick: int = 0
    monotonic_s: float = 1000.0
    wall_offset_s: float = 0.0
    """Of the wall clock against the world's time."""
    faulty: bool = False
    posts: list[Post] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    levels: list[dict[str, int]] = field(default_factory=list)
    """Targets of all deployments after each tick."""
    statuses: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    first_faulty: int = 0
    last_faulty: int = 0
    ends: list[tuple[int, int]] = field(default_factory=list)
    """(tick, exit status) of ends of the process that nobody asked for."""
    kills: int = 0
    hung: bool = False
    exit_code: int | None = None
    back_after: int | None = None
    """Ticks from the end of the fault until all was as it was."""
    max: int = 12
    notes: dict[str, Any] = field(default_factory=dict)
    """What a row's own hooks keep."""
    dashboard: Wire = field(init=False)
    pages: list[Wire] = field(init=False)
    program: Program = field(init=False)
    preexec: Any = None
    tls: Any = None
    ca: Path | None = None
    own: list[Program] = field(default_factory=list)
    """Further processes of the row."""

    # ------------------------------------------------------------ time

    def wall_s(self) -> float:
        return self.world.now_s + self.wall_offset_s

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def faulty_tick(self, tick: int) -> bool:
        return self.first_faulty <= tick <= self.last_faulty

    # ------------------------------------------------------------ the servers

    def handle(self, request: Request) -> Answer:
        fault = self.row.fault if self.faulty else Fault()
        answer = self._page(request.page, fault) if request.page is not None else self._dashboard(request, fault)
        return fault.answer(request, answer) if fault.answer is not None else answer

    def _page(self, node: int, fault: Fault) -> Answer:
        shown: str | Answer = self.world.page(node)
        if fault.pages is not None:
            shown = fault.pages(str(shown), node)
        return shown if isinstance(shown, Answer) else Answer(shown.encode(errors="surrogatepass"), kind="text/plain")

    def _dashboard(self, request: Request, fault: Fault) -> Answer:
        if request.method == "POST":
            return self._scale(request)
        if request.path.startswith("/api/serve/applications"):
            shown: object = self.world.applications()
            if fault.applications is not None:
                shown = fault.applications(shown)  # type: ignore[arg-type]
            if isinstance(shown, Answer):
                return shown
            return Answer(shown.encode() if isinstance(shown, str) else json.dumps(shown).encode())
        if request.path.startswith("/api/prometheus/sd"):
            targets = [f"127.0.0.1:{page.port}" for page in self.pages]
            return Answer(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]).encode())
        if request.path.startswith("/api/version"):
            return Answer(b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "0"}')
        return Answer(b'{"error": "not found"}', 404)

    def _scale(self, request: Request) -> Answer:
        parts = request.path.split("/")
        key = f"{parts[4]}/{parts[6]}"
        before = next((one.target for one in self.world.deployments if one.key == key), None)
        refused = self.notes.get("refuse")
        status, words = refused if refused else self.world.scale(parts[4], parts[6], request.body)
        try:
            value = json.loads(request.body)["target_num_replicas"]
        except (ValueError, KeyError, TypeError):
            value = request.body
        self.posts.append(Post(self.tick, key, value, status, before))
        return Answer(json.dumps({"message" if status == 200 else "error": words}).encode(), status)

    # ------------------------------------------------------------ the play

    async def one_tick(self) -> None:
        """The world goes on by a tick, and the process with it."""
        if self.faulty:
            await self._done(self.row.fault.tick)
        self.tick += 1
        self.world.step(TICK_S)
        self.monotonic_s += TICK_S
        self.program.go_on()
        for other in self.own:
            other.go_on()
        try:
            await self.program.ticked()
            for other in self.own:
                await other.ticked()
        except Ended:
            await self._ended()
        except Hung:
            self.hung = True
            raise
        self.levels.append({one.key: one.target for one in self.world.deployments})

    async def _done(self, hook: Callable[[Play], Any] | None) -> None:
        """A hook of the row's; what it gives is awaited where it can be."""
        given = None if hook is None else hook(self)
        if inspect.isawaitable(given):
            await given

    async def _ended(self) -> None:
        assert self.program.process is not None
        code = self.program.process.returncode
        if self.notes.pop("killed", False):
            self.kills += 1
        else:
            self.ends.append((self.tick, code if code is not None else -999))
        if len(self.ends) > 3:
            raise Ended
        await self.program.start(self.preexec)
        try:
            await self.program.ticked()
        except Ended:
            await self._ended()

    async def restart(self, kill: bool = False) -> None:
        """The row ends the process and starts it again."""
        if kill:
            self.program.kill()
        await self.program.stop()
        self.kills += 1
        await self.program.start(self.preexec)
        await self.program.ticked()

    async def status(self) -> dict[str, Any] | None:
        """What the process says of itself; None: it does not answer."""
        if not self.program.url:
            return None
        try:
            found = await self.program.patiently(_json(self.program.url + "/api/v1/status"))
        except (aiohttp.ClientError, Hung, ValueError):
            return None
        self.statuses.append((self.tick, found))
        return found

    def write_settings(self, name: str = "lt.yaml", state: Path | None = None, more: str = "") -> Path:
        scheme = "https" if self.tls else "http"
        path = self.folder / name
        text = SETTINGS.format(
            dashboard=f"{scheme}://127.0.0.1:{self.dashboard.port}", timeout_s=self.row.timeout_s, profile=PROFILE,
            state=state or self.state, more=self._more_settings() + more,
            max=self.max, ca=f", ca_file: {self.ca}" if self.ca else "",
        )  # fmt: skip
        path.write_text(text, encoding="utf-8")
        return path

    def _more_settings(self) -> str:
        told = self.row.settings.replace("{folder}", str(self.folder))
        return told.replace("{port}", str(self.notes.get("port", 9)))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Servers and process, from start to end."""
        async with contextlib.AsyncExitStack() as stack:
            self.dashboard = Wire(self.handle, tls=self.tls)
            await stack.enter_async_context(self.dashboard)
            self.pages = [Wire(self.handle, node) for node in range(NODES)]
            for page in self.pages:
                await stack.enter_async_context(page)
            if self.row.beside is not None:
                await stack.enter_async_context(self.row.beside(self))
            if self.row.before is not None:
                self.row.before(self)
            self.program = Program(self, self.folder, self.write_settings())
            await self.program.start(self.preexec)
            try:
                await self._first_tick()
                yield
            finally:
                for program in (*self.own, self.program):
                    if program.process is not None:
                        code = await program.stop()
                self.exit_code = code

    async def _first_tick(self) -> None:
        try:
            await self.program.ticked()
        except Ended:
            await self._ended()

    async def whole(self) -> None:
        """Settle, fault, recovery. Errors: Ended (again and again), Hung."""
        async with self.running():
            await self._play()

    async def _play(self) -> None:
        row, fault = self.row, self.row.fault
        for _ in range(SETTLE_TICKS):
            await self.one_tick()
        for one in self.world.deployments:
            one.alone_level, one.alone_waiting = one.target, one.waiting
            one.debt = one.alone_debt = 0.0
        self.faulty, self.first_faulty = True, self.tick + 1
        await self._done(fault.begin)
        ticks = round(row.minutes * 60.0 / TICK_S)
        for number in range(ticks):
            if row.others and number == ticks // 4:
                self.world.of("tools/aux").load *= 2.0
            await self.one_tick()
            if number % 6 == 5 or number == ticks - 1:
                await self.status()
        self.faulty, self.last_faulty = False, self.tick
        await self._done(fault.end)
        if row.back is not None:
            for number in range(1, 2 * row.back + 1):
                await self.one_tick()
                if self._well(await self.status()):
                    self.back_after = number
                    break
            for _ in range(6):
                await self.one_tick()

    def _well(self, status: dict[str, Any] | None) -> bool:
        """Whether the process sees everything, and no decision is held back for want of knowledge."""
        if status is None or not all(source["up"] for source in status["sources"].values()):
            return False
        seen = [one["signals"] for one in status["deployments"].values()]
        return len(seen) == len(self.world.deployments) and all(one is not None and one["fresh"] for one in seen)


async def _json(url: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
        session.get(url) as answer,
    ):
        found: dict[str, Any] = await answer.json()
    return found


# ---------------------------------------------------------------- pasts


_PAST = Row("the past", Fault(), back=None)


async def past(word: str, folder: Path) -> tuple[Path, World, float]:
    """The world after its past, and the folder with what was learned; played once in `folder`."""
    place = folder / re.sub(r"\W", "-", word)
    world = WORLDS[word]()
    play = Play(Row("the past", Fault(), back=None, world=word), place, world)
    play.state.mkdir(parents=True)
    async with play.running():
        for _ in range(round(PAST_MIN * 60.0 / TICK_S)):
            await play.one_tick()
    assert play.exit_code == 0, "\n".join(line.text for line in play.lines)
    assert not play.ends
    return play.state, world, play.monotonic_s


PASTS: dict[str, tuple[Path, World, float]] = {}


async def played(row: Row, folder: Path, pasts: Path, seed: int = 0) -> Play:
    """The row, played to its end; what came of it is for `invariants` to judge."""
    if row.world not in PASTS:
        PASTS[row.world] = await past(row.world, pasts)
    state, world, monotonic_s = PASTS[row.world]
    play = Play(row, folder, copy.deepcopy(world), seed, monotonic_s=monotonic_s)
    shutil.copytree(state, play.state)  # makes the folder, too
    try:
        await play.whole()
    except Hung:
        play.hung = True
    except Ended:
        pass
    return play
