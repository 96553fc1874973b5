"""What a row of the matrix says: a fault, for how long, and what must hold. Records only; they are played by `play`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tests.faults.wire import Answer, Request
from tests.faults.world import LLM, World, steady

if TYPE_CHECKING:
    from tests.faults.play import Play

Level = Literal["stays", "not down", "falls", "rises", "free"]
"""Of `chat/llm`, from the fault's begin to its end. `stays`: at what it was. `falls`: to its minimum by the end,
`rises`: by half or more by the end."""

Pages = Callable[[str, int], "str | Answer"]
"""A node's page, and the node -> what is shown instead."""
Document = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Hooks, all of them optional; each is in force while the fault lasts.

    What `begin`, `tick` and `end` give is awaited where it can be.
    """

    pages: Pages | None = None
    applications: Callable[[Document], object] | None = None
    """What the dashboard lists -> what it says instead (an Answer, JSON as text, or anything that JSON can hold)."""
    answer: Callable[[Request, Answer], Answer] | None = None
    """Any answer of any server -> the one that is given."""
    begin: Callable[[Play], Any] | None = None
    tick: Callable[[Play], Any] | None = None
    """Before each tick."""
    end: Callable[[Play], Any] | None = None


@dataclass(frozen=True)
class Row:
    """`minutes`: how long the fault lasts. `back`: ticks after its end within which all is as it was (None: not asked).

    `told`: names of conditions, one of which must be there before the fault ends. `others`: whether the small
    deployment beside it goes on being scaled. `ends`: the process may end; it is started again at once. `settings`:
    further lines
    of the settings file. `world`: what it is played in; rows with the same word share one past.
    """

    name: str
    fault: Fault
    level: Level = "stays"
    minutes: float = 8.0
    back: int | None = 24
    told: tuple[str, ...] = ()
    others: bool = False
    ends: bool = False
    settings: str = ""
    timeout_s: float = 4.0
    world: str = "steady"
    key: str = LLM
    why: str = ""
    """What is expected beyond the level, in words for the table."""
    check: Callable[[Play], list[str]] | None = None
    """What else must hold at the end: breaches, in words."""
    most: int | None = None
    """The highest level that may be posted during the fault."""
    worse: bool = False
    """It may be worse than leaving the level alone (the fault is of the kind that takes replicas)."""
    before: Callable[[Play], None] | None = None
    """Before the process starts."""
    beside: Callable[[Play], Any] | None = None
    """An async context that is there from before the start to the end; a row's own servers."""

    @property
    def topic(self) -> str:
        return self.name.partition(":")[0]


WORLDS: dict[str, Callable[[], World]] = {
    "steady": steady,
    "no engine metrics": lambda: steady(engines=False),
    "gauges vanish": lambda: steady(lingers=False),
}


@dataclass
class Rows:
    """Collects rows; a name is there once."""

    found: dict[str, Row] = field(default_factory=dict)

    def add(self, *rows: Row) -> None:
        for row in rows:
            assert row.name not in self.found, row.name
            self.found[row.name] = row
