"""Rows of the machine and the process: clocks, kills, disks, files that are not what they were, other settings."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import resource
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.play import TICK_S, Ended, Play, Program
from tests.faults.row import Fault, Row, Rows
from tests.faults.rows_metrics import both, load
from tests.faults.wire import Answer, Request
from tests.faults.world import LLM

HOUR_S, DAY_S = 3600.0, 86400.0
RELEASED_STATE = Path(__file__).parents[1] / "samples" / "state-0.1.0.sqlite.gz"

# ---------------------------------------------------------------- clocks


def set_clock(offset_s: float) -> Callable[[Play], None]:
    def change(play: Play) -> None:
        play.wall_offset_s += offset_s

    return change


def jitter(play: Play) -> None:
    """The wall clock of every tick is up to 20 s off."""
    play.wall_offset_s = random.Random(f"{play.row.name} {play.seed} {play.tick}").uniform(-20.0, 20.0)


def no_jitter(play: Play) -> None:
    play.wall_offset_s = 0.0


def sleeps(seconds: float, every_ticks: int = 10**9) -> Callable[[Play], None]:
    """The process stands still for so long while the world goes on."""

    def tick(play: Play) -> None:
        if (play.tick + 1 - play.first_faulty) % every_ticks == 0:
            for _ in range(round(seconds / TICK_S)):
                play.world.step(TICK_S)
            play.monotonic_s += seconds

    return tick


# ---------------------------------------------------------------- the process


def killed_at(times: int) -> Callable[[Play], None]:
    """Killed at so many moments of the seed's choice, within ticks and between them."""

    def tick(play: Play) -> None:
        number = play.tick + 1 - play.first_faulty
        draw = random.Random(f"{play.row.name} {play.seed}")
        ticks = round(play.row.minutes * 60.0 / TICK_S)
        moments = {at: draw.uniform(0.0, 0.04) for at in draw.sample(range(ticks), times)}
        if number in moments:
            play.notes["killing"] = asyncio.get_running_loop().create_task(_kill(play, moments[number]))

    return tick


async def _kill(play: Play, after_s: float) -> None:
    await asyncio.sleep(after_s)
    play.notes["killed"] = True
    play.program.kill()


async def ended_politely(play: Play) -> None:
    if (play.tick + 1 - play.first_faulty) % 12 == 0:
        await play.restart()


def once(do: Callable[[Play], Awaitable[None]]) -> Callable[[Play], Awaitable[None]]:
    """At the fault's first tick."""

    async def tick(play: Play) -> None:
        if play.tick + 1 == play.first_faulty:
            await do(play)

    return tick


def while_stopped(do: Callable[[Play], None], kill: bool = False) -> Callable[[Play], Awaitable[None]]:
    """Once: the process is ended, something is done, and it is started again."""

    async def change(play: Play) -> None:
        if kill:
            play.program.kill()
        await play.program.stop()
        play.kills += 1
        do(play)
        await play.program.start(play.preexec)
        await play.program.ticked()

    return once(change)


def limited(what: int, soft: int) -> Callable[[Play], None]:
    """A limit of the running process, from outside of it."""

    def change(play: Play) -> None:
        assert play.program.process is not None
        play.notes["limit"] = resource.prlimit(play.program.process.pid, what)
        resource.prlimit(play.program.process.pid, what, (soft, play.notes["limit"][1]))

    return change


def unlimited(what: int) -> Callable[[Play], None]:
    def change(play: Play) -> None:
        assert play.program.process is not None
        resource.prlimit(play.program.process.pid, what, play.notes["limit"])

    return change


# ---------------------------------------------------------------- files


def database(play: Play) -> Path:
    return play.state / "leadtime.sqlite"


def file_is(change: Callable[[bytes], bytes]) -> Callable[[Play], None]:
    """The state file's bytes are changed."""

    def do(play: Play) -> None:
        play.notes["state may be set aside"] = True
        for suffix in ("-wal", "-shm"):
            database(play).with_name(database(play).name + suffix).unlink(missing_ok=True)
        database(play).write_bytes(change(database(play).read_bytes()))

    return do


def rows_are(sql: str) -> Callable[[Play], None]:
    """Rows of the state are changed."""

    def do(play: Play) -> None:
        with contextlib.closing(sqlite3.connect(database(play))) as connection, connection:
            connection.execute(sql)

    return do


def flipped(seed: int) -> Callable[[bytes], bytes]:
    draw = random.Random(f"bytes {seed}")

    def change(data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(200):
            damaged[draw.randrange(4096, len(damaged))] ^= draw.randrange(1, 256)
        return bytes(damaged)

    return change


def released(play: Play) -> None:
    """What 0.1.0 saved, of another fleet."""
    for suffix in ("-wal", "-shm"):
        database(play).with_name(database(play).name + suffix).unlink(missing_ok=True)
    database(play).write_bytes(gzip.decompress(RELEASED_STATE.read_bytes()))


def of_the_future(play: Play) -> None:
    rows_are("PRAGMA user_version = 99")(play)
    play.notes["state may be set aside"] = True


def kept_aside(play: Play) -> list[str]:
    """What a newer leadtime saved is still there, whole."""
    for aside in play.state.glob("leadtime.sqlite.*"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(aside)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (99,):
                return []
    return ["what the newer leadtime saved is gone"]


def deleted(play: Play) -> None:
    database(play).unlink()
    play.notes["no state"] = True


def last_line_cut(play: Play) -> None:
    newest = max((play.state / "journal").glob("journal-*.jsonl"), key=lambda file: file.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-100])
    play.notes["journal may be cut"] = True


def journal_gone(play: Play) -> None:
    shutil.rmtree(play.state / "journal", ignore_errors=True)


def journal_is_a_file(play: Play) -> None:
    journal_gone(play)
    (play.state / "journal").write_text("not a folder", encoding="utf-8")


def journal_is_none(play: Play) -> None:
    (play.state / "journal").unlink(missing_ok=True)


async def second_on_one_state(play: Play) -> None:
    other = Program(play, play.folder, play.folder / "lt.yaml")
    await other.start()
    try:
        await other.ticked()
        play.notes["second"] = "a second one runs on the same state"
        await other.stop()
    except Ended:
        assert other.process is not None
        play.notes["second"] = "" if other.process.returncode == 1 else "it ended otherwise than with 1"


def second_on_one_cluster(most: int) -> Callable[[Play], Awaitable[None]]:
    """Another controller with a state of its own, and other bounds, writes to the same targets."""

    async def start(play: Play) -> None:
        most_before, play.max = play.max, most
        settings = play.write_settings("other.yaml", play.folder / "other")
        play.max = most_before
        other = Program(play, play.folder, settings)
        await other.start()
        await other.ticked()
        play.own.append(other)

    return once(start)


def few_turns(most: int) -> Callable[[Play], list[str]]:
    """How often the level turned round."""

    def check(play: Play) -> list[str]:
        values = [post.value for post in play.posts if post.key == LLM and isinstance(post.value, int)]
        ways = [b > a for a, b in pairwise(values) if a != b]
        turns = sum(1 for a, b in pairwise(ways) if a != b)
        return [f"{turns} turns of direction in {len(values)} posts"] if turns > most else []

    return check


def says(words: str) -> Callable[[Play], list[str]]:
    """One of the processes logs it."""
    return lambda play: [] if any(words in line.text for line in play.lines) else [f"nobody logs {words!r}"]


def both_checks(*checks: Callable[[Play], list[str]]) -> Callable[[Play], list[str]]:
    return lambda play: [words for check in checks for words in check(play)]


# ---------------------------------------------------------------- settings


def with_settings(most: int | None = None, replace: tuple[str, str] | None = None) -> Callable[[Play], None]:
    """Other settings from the next start on."""

    def do(play: Play) -> None:
        play.max = most or play.max
        path = play.write_settings()
        if replace is not None:
            text = path.read_text(encoding="utf-8")
            assert replace[0] in text
            path.write_text(text.replace(*replace), encoding="utf-8")

    return do


def posts_at_most(value: int) -> Callable[[Play], list[str]]:
    """One post of this level, or none at all where it would not carry what is in flight."""

    def check(play: Play) -> list[str]:
        found = [post.value for post in play.posts if post.key == LLM and play.faulty_tick(post.tick)]
        return [] if found in ([], [value]) else [f"posted {found[:10]}, allowed is {value} once"]

    return check


def within_budget(gpus: int) -> Callable[[Play], list[str]]:
    def check(play: Play) -> list[str]:
        most = max(sum(levels.values()) for levels in play.levels)
        return [f"{most} GPUs of {gpus}"] if most > gpus else []

    return check


def no_posts(play: Play) -> list[str]:
    return [f"{len(play.posts)} posts"] if play.posts else []


# ---------------------------------------------------------------- rows


def closes(request: Request, answer: Answer) -> Answer:
    return answer.but(how="close")


def build(rows: Rows, seed: int = 0) -> None:
    draw = random.Random(f"process {seed}")
    back_s = HOUR_S if seed == 0 else draw.uniform(0.2, 5.0) * HOUR_S
    forward_s = DAY_S if seed == 0 else draw.uniform(0.2, 30.0) * DAY_S
    rows.add(
        Row("clock: back an hour, and right again",
            Fault(begin=set_clock(-back_s), end=set_clock(back_s)), "not down", most=7, minutes=10.0,
            why="time goes on a tenth slower, rates are a tenth higher"),
        Row("clock: back an hour for good, and demand doubles",
            Fault(begin=both(set_clock(-back_s), load(2.0)), end=load(0.5)), "rises"),
        Row("clock: forward a day, and right again",
            Fault(begin=set_clock(forward_s), end=set_clock(-forward_s)), minutes=10.0),
        Row("clock: forward a day for good, and demand doubles",
            Fault(begin=both(set_clock(forward_s), load(2.0)), end=load(0.5)), "rises"),
        Row("clock: at 0, the beginning of time",
            Fault(begin=lambda play: set_clock(-play.world.now_s)(play), end=no_jitter), "not down", most=7),
        Row("clock: up to 20 s off, another way at each tick", Fault(tick=jitter, end=no_jitter), "not down",
            most=8),
        Row("clock: forward 90 s", Fault(begin=set_clock(90.0))),
        Row("clock: suspended for 5 minutes", Fault(tick=sleeps(300.0))),
        Row("clock: suspended for 5 minutes while demand doubles",
            Fault(begin=load(2.0), tick=sleeps(300.0), end=load(0.5)), "rises", worse=False),
        Row("clock: suspended for a minute, again and again", Fault(tick=sleeps(60.0, 6)), minutes=6.0),
        Row("clock: suspended for a night", Fault(tick=sleeps(8 * HOUR_S))),
    )  # fmt: skip
    kills = 20
    rows.add(
        Row("process: killed at 20 random moments", Fault(tick=killed_at(kills)), minutes=10.0,
            why="nothing is lost but the tick under way"),
        Row("process: killed at 20 random moments while demand doubles",
            Fault(begin=load(2.0), tick=killed_at(kills), end=load(0.5)), "rises", minutes=10.0),
        Row("process: killed at 20 random moments in a quiet night",
            Fault(begin=load(0.0), tick=killed_at(kills)), "falls", minutes=16.0, back=None,
            why="true zero is seen through restarts, too"),
        Row("process: restarted every minute", Fault(tick=ended_politely), minutes=10.0),
        Row("process: the disk is full",
            Fault(begin=limited(resource.RLIMIT_FSIZE, 1), end=unlimited(resource.RLIMIT_FSIZE)),
            minutes=8.0, told=("state_not_saved", "journal_not_written"), others=True),
        Row("process: the disk is full while demand doubles",
            Fault(begin=both(limited(resource.RLIMIT_FSIZE, 1), load(2.0)),
                  end=both(unlimited(resource.RLIMIT_FSIZE), load(0.5))), "rises"),
        Row("process: the disk is full at 64 KiB a file",
            Fault(begin=limited(resource.RLIMIT_FSIZE, 65536), end=unlimited(resource.RLIMIT_FSIZE))),
        Row("process: no file descriptor is left",
            Fault(begin=limited(resource.RLIMIT_NOFILE, 8), end=unlimited(resource.RLIMIT_NOFILE), answer=closes),
            minutes=1.5,
        ),
        Row("process: few file descriptors are left",
            Fault(begin=limited(resource.RLIMIT_NOFILE, 20), end=unlimited(resource.RLIMIT_NOFILE), answer=closes)),
        Row("process: a second one on the same state", Fault(tick=once(second_on_one_state)),
            check=lambda play: [play.notes["second"]] if play.notes["second"] else [], others=True,
            why="it is refused, the first goes on"),
        Row(
            "process: two with separate states and other bounds on one cluster, without election",
            Fault(tick=second_on_one_cluster(5)),
            "free",
            minutes=10.0,
            check=both_checks(few_turns(8), says("second_writer: ")),
            worse=True,
            back=None,
            why="no see-saw, and the second writer is told",
        ),
        Row("process: two with separate states and the same settings on one cluster, without election",
            Fault(tick=second_on_one_cluster(12)), "not down", minutes=8.0, back=None, most=8,
            check=few_turns(1)),
    )  # fmt: skip
    aside = "set aside, begun anew"
    for name, do, why in (
        ("cut in half", file_is(lambda data: data[: len(data) // 2]), aside),
        ("empty", file_is(lambda data: b""), aside),
        ("no SQLite at all", file_is(lambda data: b"garbage " * 1000), aside),
        ("with bytes flipped", file_is(flipped(seed)), "what can be read is kept"),
        ("with a row cut in half",
         rows_are("UPDATE saved SET value = substr(value, 1, length(value) / 2) WHERE name LIKE 'controller/%llm%'"),
         "costs that part"),
        ("with NaN in it",
         rows_are("UPDATE saved SET value = replace(CAST(value AS TEXT), '0.0', 'NaN') WHERE name LIKE '%llm%'"), ""),
        ("with rows of null", rows_are("UPDATE saved SET value = 'null' WHERE name LIKE 'controller/%llm%'"), ""),
        ("with rows missing", rows_are("DELETE FROM saved WHERE name LIKE 'controller/%llm%'"), ""),
        ("without its head", rows_are("DELETE FROM saved WHERE name = 'controller/head'"), ""),
        ("whose pause is garbage", rows_are("INSERT OR REPLACE INTO saved VALUES ('pause', '{\"everything\": 7')"),
         "unknown: everything counts as paused"),
        ("of release 0.1.0", released, "read on"),
    ):  # fmt: skip
        paused = "pause" in name
        rows.add(
            Row(f"state: {name}", Fault(tick=while_stopped(do)), "not down", most=8, why=why,
                back=None if paused else 24),
        )  # fmt: skip
    rows.add(
        Row(
            "state: of a newer leadtime",
            Fault(tick=while_stopped(of_the_future)),
            "not down",
            most=8,
            check=kept_aside,
            why="set aside whole, begun anew",
        ),
        Row("state: read-only",
            Fault(tick=once(_read_only), end=_writable), told=("state_not_saved",), others=True),
        Row(
            "state: deleted under way",
            Fault(begin=deleted),
            why="the open file goes on; a restart begins anew",
        ),
        Row("journal: its last line is cut", Fault(tick=while_stopped(last_line_cut, kill=True))),
        Row("journal: deleted under way", Fault(begin=journal_gone)),
        Row("journal: a file in its place under way", Fault(begin=journal_is_a_file, end=journal_is_none)),
    )  # fmt: skip
    for name, do, level, more in (
        ("max lowered to 4 while 6 run", with_settings(4), "free",
         {"check": posts_at_most(4), "worse": True, "back": None, "told": ("above_max_replicas",)}),
        ("max raised while demand doubles", with_settings(20), "rises", {"begin": load(2.0), "end": load(0.5)}),
        ("dry_run under way", with_settings(None, ("dry_run: false", "dry_run: true")), "stays", {"check": no_posts}),
        ("another policy", with_settings(None, ("server:", "policy: {name: hpa_ongoing}\nserver:")), "free",
         {"most": 9}),
        ("another policy and back", with_settings(None, ("server:", "policy: {name: keda}\nserver:")), "free",
         {"most": 12}),
        ("a deployment is no longer named",
         with_settings(None, ("- {match: tools/aux", "- {match: tools/other")), "stays", {}),
        ("a tick of 10 s", with_settings(None, ("tick_s: 5", "tick_s: 10")), "stays", {}),
    ):  # fmt: skip
        options: dict[str, Any] = dict(more)
        fault = Fault(tick=while_stopped(do), begin=options.pop("begin", None), end=options.pop("end", None))
        rows.add(Row(f"settings: {name}", fault, level, **options))  # type: ignore[arg-type]
    budget = "gpu_budget: {nvidia-h100-80gb: 9}"
    rows.add(
        Row("settings: a budget of 9 GPUs while demand trebles",
            Fault(begin=load(3.0), end=load(1 / 3)), "not down", settings=budget, check=within_budget(9)),
        Row("settings: a budget of 9 GPUs while demand trebles and the dashboard's reads fail at times",
            Fault(begin=load(3.0), end=load(1 / 3), tick=_flicker, answer=_flickers), "not down", settings=budget,
            check=within_budget(9)),
        Row("settings: the file is garbage under way",
            Fault(begin=lambda play: (play.folder / "lt.yaml").write_text("{{{") and None), others=True,
            why="read at starts only"),
    )  # fmt: skip


_flicker_at = [0]


def _flicker(play: Play) -> None:
    _flicker_at[0] = play.tick


def _flickers(request: Request, answer: Answer) -> Answer:
    return answer.but(how="reset") if request.page is None and _flicker_at[0] % 3 == 0 else answer


async def _read_only(play: Play) -> None:
    """Root may write everywhere, so the database itself refuses."""
    await _with_stopped(play, "CREATE TRIGGER no_writes BEFORE INSERT ON saved BEGIN SELECT RAISE(ABORT, 'no'); END")


async def _writable(play: Play) -> None:
    await _with_stopped(play, "DROP TRIGGER no_writes")


async def _with_stopped(play: Play, sql: str) -> None:
    await play.program.stop()
    play.kills += 1
    rows_are(sql)(play)
    await play.program.start()
    await play.program.ticked()
