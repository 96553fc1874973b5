"""What must hold in every row. Each check gives its breaches, in words; none means that the row stands."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator

from autoscaler.core.checkpoint import from_rows
from autoscaler.runtime.store import StateStore
from tests.faults.play import TICK_S, Play
from tests.faults.world import LLM

MOST_LINES_A_MINUTE = 10
RESTART_LINES = 6
"""What a start may say."""
_DEBT_SLACK = 60.0
"""Request-seconds of waiting that are no worse."""


def breaches(play: Play) -> list[str]:
    """Everything that does not hold of what was played."""
    return [words for check in CHECKS for words in check(play)]


def alive(play: Play) -> Iterator[str]:
    if play.hung:
        yield f"a tick hung: the process stood still at tick {play.tick}"
    if play.ends and not play.row.ends:
        tick, code = play.ends[0]
        yield f"the process ended by itself with {code} at tick {tick}, {len(play.ends)} times: {_last_words(play)}"
    if len(play.ends) > 3:
        yield "it ends again and again: a restart mends nothing"
    elif play.exit_code != 0 and not play.hung:
        yield f"told to end, it ended with {play.exit_code}"


def _last_words(play: Play) -> str:
    said = [line.text for line in play.lines if line.text.strip() and not line.text.startswith(" ")]
    return said[-1][:200] if said else ""


def bounds(play: Play) -> Iterator[str]:
    """Every level that was ever posted: a whole number within the bounds."""
    found = list(_out_of_bounds(play))
    yield from found[:1]
    if len(found) > 1:
        yield f"and {len(found) - 1} more such posts"


def _out_of_bounds(play: Play) -> Iterator[str]:
    for post in play.posts:
        value = post.value
        one = next((one for one in play.world.deployments if one.key == post.key), None)
        if one is None:
            yield f"tick {post.tick}: a post for {post.key}, which is not there"
        elif not isinstance(value, int) or isinstance(value, bool):
            yield f"tick {post.tick}: {value!r} was posted"
        else:
            most = play.max if post.key == LLM else one.max
            if not one.min <= value <= most:
                yield f"tick {post.tick}: {post.key} was posted {value}, bounds are {one.min} to {most}"


def level(play: Play) -> Iterator[str]:
    """The level of the row's deployment during the fault, as the row says."""
    row = play.row
    before = play.levels[play.first_faulty - 2][row.key]
    during = [levels[row.key] for levels in play.levels[play.first_faulty - 1 : play.last_faulty]]
    own = [p.value for p in play.posts if p.key == row.key and play.first_faulty <= p.tick <= play.last_faulty]
    posted = [value for value in own if isinstance(value, int)]
    if row.level in ("stays", "not down") and posted and min(posted) < before:
        yield f"scaled down on what is not known: {before} -> {min(posted)}"
    if row.level == "stays" and posted and max(posted) > before:
        yield f"made of nothing: {before} -> {max(posted)}"
    if row.most is not None and posted and max(posted) > row.most:
        yield f"made of nothing: {before} -> {max(posted)}, allowed are {row.most}"
    least = play.world.of(row.key).min
    if row.level == "falls" and (not during or during[-1] > least):
        yield f"true zero did not scale down in {row.minutes:g} min: {during[-1:]} and not {least}"
    if row.level == "rises" and max(during, default=0) < math.ceil(1.5 * before):
        yield f"it needs {math.ceil(1.5 * before)} and got {max(during, default=0)} from {before}"


def others(play: Play) -> Iterator[str]:
    """The deployment beside it is still seen to."""
    if not play.row.others:
        return
    most = max(levels["tools/aux"] for levels in play.levels[play.first_faulty - 1 : play.last_faulty])
    if most < 3:
        yield f"the other deployment's demand doubled, and it stayed at {most}"


def recovery(play: Play) -> Iterator[str]:
    back = play.row.back
    if back is not None and (play.back_after is None or play.back_after > back):
        after = "never" if play.back_after is None else f"after {play.back_after}"
        yield f"back {after}, allowed are {back} ticks"


def told(play: Play) -> Iterator[str]:
    if not play.row.told:
        return
    seen: set[str] = set()
    for tick, status in play.statuses:
        if play.first_faulty <= tick <= play.last_faulty:
            seen |= {one["name"] for one in status.get("conditions", ())}
    if not seen & set(play.row.told):
        yield f"not told: none of {', '.join(play.row.told)} among {sorted(seen)}"


def debt(play: Play) -> Iterator[str]:
    """Users never wait more than with the replicas left alone."""
    if play.row.worse:
        return
    for one in play.world.deployments:
        if one.debt > 1.05 * one.alone_debt + _DEBT_SLACK:
            waited = f"{one.debt:.0f} request-seconds waited, {one.alone_debt:.0f} then"
            yield f"worse than leaving {one.key} alone: {waited}"


def log(play: Play) -> Iterator[str]:
    """Lines in any minute, those of starts apart."""
    window = round(60.0 / TICK_S)
    starts = {tick for tick, _ in play.ends} | {0}
    by_tick = Counter(line.tick for line in play.lines if line.text.strip() and not _of_a_start(line.text))
    if play.kills:  # what every start says is no lasting failure
        by_tick = Counter({tick: max(0, count - RESTART_LINES) for tick, count in by_tick.items()})
    for first in range(1, play.tick + 1):
        if starts & set(range(first, first + window)):
            continue
        count = sum(by_tick[tick] for tick in range(first, first + window))
        if count > MOST_LINES_A_MINUTE:
            yield f"{count} log lines in the minute from tick {first}"
            return


def _of_a_start(text: str) -> bool:
    return ": settings " in text or "pages on http" in text


def kept(play: Play) -> Iterator[str]:
    """What is written can be read: the state as a whole, and every line of the journal."""
    path = play.state / "leadtime.sqlite"
    if play.notes.get("no state"):
        return
    try:
        store = StateStore(path)
        try:
            rows = store.load_controller()
            if rows is None:
                yield "nothing was saved"
            else:
                from_rows(rows)
            if store.notice and not play.notes.get("state may be set aside"):
                yield f"the state cannot be read: {store.notice}"
        finally:
            store.close()
    except Exception as error:
        yield f"the state cannot be read: {type(error).__name__}: {error}"
    for file in sorted((play.state / "journal").glob("journal-*.jsonl")):
        lines = file.read_bytes().split(b"\n")
        cut = len(lines) - 1 if lines[-1] else None  # a kill may cut the last line
        for number, line in enumerate(lines):
            if not line or number == cut:
                continue
            try:
                json.loads(line, parse_constant=_no_number)
            except ValueError as error:
                if not play.notes.get("journal may be cut"):
                    yield f"journal {file.name}:{number + 1} cannot be read: {error}"
                    return


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def own(play: Play) -> Iterator[str]:
    if play.row.check is not None:
        yield from play.row.check(play)


def safely(check: Callable[[Play], Iterator[str]]) -> Callable[[Play], Iterator[str]]:
    """A play that broke off early has less to look at."""

    def checked(play: Play) -> Iterator[str]:
        if play.last_faulty == 0:
            yield from ()
        else:
            yield from check(play)

    return checked


CHECKS: tuple[Callable[[Play], Iterator[str]], ...] = (
    alive, bounds, safely(level), safely(others), safely(recovery), safely(told), debt, log, kept, safely(own),
)  # fmt: skip
