"""What the settings of every source beside Ray and Kubernetes have: their check, and the parts that they come to.

The parts are imported when they are made, not when the settings are read: their libraries may be optional. A key that
ends in `_file` names a file (`SourceBlock.files`), and settings/files.py checks that it can be read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from autoscaler.settings.document.blocks import Block
from autoscaler.settings.document.problems import Complaint

if TYPE_CHECKING:
    from autoscaler.core.ports import Actuator, RateHistory, Source


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source may need of the controller around it."""

    settings_path: Path
    path: Callable[[str | None], Path | None]
    """A path of the settings, made absolute."""
    services: Callable[[], Sequence[tuple[str, str]]]
    """(namespace, name) of every Ray service that is looked after now."""
    leads: Callable[[], bool]
    release: str | None
    """A name of this installation, where several controllers share it and one leads; None: it runs alone."""
    hint_messages: Counter[str]
    """Counts messages that announce demand, by what became of them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a source's settings come to."""

    sources: tuple[Source, ...] = ()
    actuators: tuple[Actuator, ...] = ()
    history: RateHistory | None = None
    """Past traffic that the forecaster is shown at start, `history_s` back."""
    history_s: float = 0.0


class SourceBlock(Block):
    """The settings of one source, an optional mapping of the settings file under its file's name."""

    PURPOSE: ClassVar[str]
    """What it is, for the reference; with what null means."""
    EXTRA: ClassVar[str | None] = None
    """The optional part of leadtime (pyproject.toml) whose libraries it needs."""

    def files(self) -> Iterator[tuple[str, str]]:
        """Keys that name a file, with its path: those that end in `_file`, where they are given."""
        return ((key, text) for key, text in self if key.endswith("_file") and text is not None)

    @property
    def hint_max_rps(self) -> float | None:
        """Requests per second that demand announced by this source may reach; None: it announces none."""
        return None

    def check(self, elects: bool) -> Iterator[Complaint]:
        """What types and bounds cannot say. `elects`: several controllers have these settings, and one leads."""
        yield from ()

    @abstractmethod
    def parts(self, around: Surroundings) -> Parts:
        """Errors: ConfigError; ImportError where the libraries of `EXTRA` are missing."""
