"""Where the demo shows itself: a live screen on a terminal, a line now and then elsewhere.

Only the writing out; what a scene looks like is in `view`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from leadtime.demo import view
from leadtime.demo.scene import Decision, Scene

_PLAIN_EVERY_S = 5.0


@dataclass(slots=True)
class Step:
    """One thing the demo does on its way: not begun, under way since, done after."""

    words: str
    began_s: float | None = None
    took_s: float | None = None


class Screen(Protocol):
    """What the demo needs of a screen. `columns`: how many columns of time a chart has."""

    columns: int

    def steps(self, steps: Sequence[Step], now_s: float) -> None:
        """Preparations: called often while one is under way."""

    def scene(self, scene: Scene, fresh: Sequence[Decision]) -> None:
        """A moment of a pass, and the decisions that are new in it."""

    def end_pass(self) -> None:
        """The last scene stays where it is; what follows comes below it."""

    def say(self, lines: Sequence[str]) -> None:
        """Lines that stay."""

    def close(self) -> None: ...


class LiveScreen:
    """A terminal."""

    def __init__(self, console: Console, lanes: int) -> None:
        self._console = console
        self._live: Live | None = None
        self.columns = view.columns_for(console.width, lanes)

    def steps(self, steps: Sequence[Step], now_s: float) -> None:
        self._show(_steps(steps, now_s))

    def scene(self, scene: Scene, fresh: Sequence[Decision]) -> None:
        self._show(view.screen(scene, self._console.width, self._console.height))

    def end_pass(self) -> None:
        self.close()

    def say(self, lines: Sequence[str]) -> None:
        for line in lines:
            # Sentences are wrapped at words; what is indented (tables, commands to copy) stays in one piece.
            self._console.print(line, markup=False, highlight=False, soft_wrap=line.startswith(" "))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, picture: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(picture, refresh=True)


class PlainScreen:
    """A pipe or a log: each decision, and a line every few seconds."""

    def __init__(self, out: TextIO, lanes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._said_at_s = -_PLAIN_EVERY_S
        self._told: set[tuple[str, bool]] = set()
        self.columns = view.columns_for(view.WIDTH, lanes)

    def steps(self, steps: Sequence[Step], now_s: float) -> None:
        for step in steps:
            if step.took_s is not None:
                self._once(step.words, True, f"{step.words}: done after {step.took_s:.0f} s")
            elif step.began_s is not None:
                self._once(step.words, False, f"{step.words} ...")

    def _once(self, words: str, done: bool, line: str) -> None:
        if (words, done) not in self._told:
            self._told.add((words, done))
            self.say([line])

    def scene(self, scene: Scene, fresh: Sequence[Decision]) -> None:
        if self._said_at_s == -_PLAIN_EVERY_S:  # a pass begins: what one is looking at
            self.say(view.plain_head(scene))
        self.say([view.plain_decision(decision) for decision in fresh])
        if self._clock() - self._said_at_s >= _PLAIN_EVERY_S:
            self._said_at_s = self._clock()
            self.say([view.plain_line(scene)])

    def end_pass(self) -> None:
        self._said_at_s = -_PLAIN_EVERY_S

    def say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._out.write(line + "\n")
        self._out.flush()

    def close(self) -> None: ...


def make_screen(plain: bool, lanes: int) -> Screen:
    """A live one when standard output is a terminal that can, unless `plain`."""
    console = Console()
    if plain or not console.is_terminal or console.is_dumb_terminal:
        return PlainScreen(sys.stdout, lanes)
    return LiveScreen(console, lanes)


def _steps(steps: Sequence[Step], now_s: float) -> RenderableType:
    lines = [
        Text.assemble(
            ("leadtime demo", "bold"), "  a replica takes 20 s and more to start: decide before the traffic comes"
        )
    ]
    lines.append(Text())
    for step in steps:
        if step.took_s is not None:
            lines.append(Text(f"  ✓ {step.words}  {step.took_s:.0f} s"))
        elif step.began_s is not None:
            lines.append(Text(f"  ◌ {step.words}  {now_s - step.began_s:.0f} s", "yellow"))
        else:
            lines.append(Text(f"  · {step.words}", "dim"))
    lines += [Text(), Text("Ctrl-C ends it at any time and leaves nothing behind.", "dim")]
    return Group(*lines)
