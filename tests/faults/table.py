"""docs/faults.md, made of what was played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.play import Play
from tests.faults.row import Row

ROWS_PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = """\
# Faults

What happens to the controller when something around it lies, fails, or is gone. Each row was played against
`leadtime run` as a process of its own, acting, in virtual time: a scripted Ray dashboard and three nodes' metric pages
on loopback, a large deployment (`chat/llm`, 6 replicas) and a small one beside it (`tools/aux`) under steady load, 30
minutes of past, a restart, then the fault. `make faults` plays all rows and writes this page; `make test` plays a fixed
part of them.

In every row must hold:

- the process lives (or, where the row says so, ends and is well after a restart), no tick hangs, and SIGTERM ends it
  with status 0;
- every level that is posted is a whole number within the deployment's bounds;
- nothing is scaled down on what is not known;
- after the fault all is as it was within the row's number of ticks (of 5 s);
- users never wait more than with the replicas left alone;
- at most 10 log lines in any minute;
- state and journal can be read.

`level` is what the row asks of the level during the fault: *stays* (neither down nor up), *not down*, *falls* (true
zero: to the minimum), *rises* (by half or more), or *free* (within the bounds). `told` are the conditions of which one
must be shown. `back` is how many ticks after the end of the fault all was read again and known, and how many it may be.

"""


@dataclass(frozen=True)
class Outcome:
    """`back`: ticks from the end of the fault until all was well; None: never, or not asked."""

    breaches: tuple[str, ...]
    back: int | None


def outcome(play: Play, breaches: Sequence[str]) -> Outcome:
    return Outcome(tuple(breaches), play.back_after)


def page(rows: Sequence[Row], outcomes: Mapping[str, Outcome]) -> str:
    """The page's text; rows without an outcome are listed as not played."""
    parts = [HEAD]
    for topic in dict.fromkeys(row.topic for row in rows):
        parts.append(f"## {topic[0].upper()}{topic[1:]}\n\n")
        parts.append("| fault | minutes | level | must also hold | outcome | back |\n|---|---|---|---|---|---|\n")
        parts += [_line(row, outcomes.get(row.name)) for row in rows if row.topic == topic]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _line(row: Row, played: Outcome | None) -> str:
    also = [row.why] if row.why else []
    also += [f"told: {' or '.join(row.told)}"] if row.told else []
    also += ["the other deployment is scaled on"] if row.others else []
    words, back = "not played", ""
    if played is not None:
        words = "holds" if not played.breaches else "**" + "; ".join(played.breaches).replace("|", "\\|") + "**"
        took = "never" if played.back is None else f"{played.back}"
        back = "" if row.back is None else f"{took} (≤ {row.back})"
    name = row.name.partition(": ")[2].replace("|", "\\|")
    return f"| {name} | {row.minutes:g} | {row.level} | {'; '.join(also)} | {words} | {back} |\n"


def names_on_page(page: str) -> list[str]:
    """The rows' names, in the page's order."""
    found, topic = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            topic = line[3:4].lower() + line[4:]
        elif line.startswith("| ") and not line.startswith("| fault |"):
            found.append(f"{topic}: {line[2:].split(' | ')[0]}")
    return found
