"""`leadtime replay`: a journal's recorded inputs through today's code, and where the outcome differs.

The state comes from the journal's checkpoints and the settings from them too (or from --config, to ask "what if").
Compared is everything but `wall` and `applied`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoscaler.cli.text import counted, moment, say, say_json
from autoscaler.common.errors import JournalError
from autoscaler.runtime.journal_file import Record, read_journal

if TYPE_CHECKING:
    from autoscaler.core.controller import Controller
    from autoscaler.core.types import ControllerConfig
    from policies.base import Policy

DESCRIPTION = """\
Run a journal's recorded inputs through today's code and show where it decides differently.
With --config: under other settings (what if). A policy that the journal names by file or package is not run, unless
you trust it (--trust-policy)."""
EXAMPLE = """
leadtime replay ./journal
leadtime replay ./journal --config other.yaml --json
leadtime replay run1/journal.jsonl --strict
leadtime replay mine/journal.jsonl --trust-policy
"""
_MAX_DIFFERENCES = 10_000
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", metavar="JOURNAL", type=Path, help="a journal file, or the folder of a controller's")
    parser.add_argument("--config", metavar="F", type=Path, help="settings to use instead of the recorded ones")
    parser.add_argument(
        "--trust-policy",
        action="store_true",
        help="import and run the policy that the journal names by file or package",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else there")
    parser.add_argument("--strict", action="store_true", help="exit 1 when anything but wall and applied differs")


def run(args: argparse.Namespace) -> int:
    config = None
    if args.config is not None:
        from autoscaler.settings import load_config

        config = load_config(args.config, look_at_files=False).controller
    report = replay(args.journal, config, args.trust_policy)
    if args.json:
        say_json(json.dumps(report.as_json(str(args.journal)), sort_keys=True))
    else:
        say(*report.lines(str(args.journal)))
    return 1 if args.strict and report.differing else 0


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that came out differently; `path` is dotted, as in the journal's line."""

    tick: int
    now_s: float
    where: str
    path: str
    recorded: Any
    today: Any

    @property
    def deployment(self) -> str | None:
        """The deployment whose target this is; None for any other figure."""
        return self.path.removeprefix(_TARGETS) if self.path.startswith(_TARGETS) else None


_TARGETS = "plan.deployments."


@dataclass(slots=True)
class Report:
    """What a replay found."""

    ticks: int = 0
    differing: int = 0
    decisions: int = 0
    """Ticks in which some deployment's target differs."""
    recorded_version: str = ""
    recorded_sha256: str = ""
    today_sha256: str = ""
    differences: list[Difference] = field(default_factory=list)
    left_out: int = 0
    sentences: dict[tuple[int, str], str] = field(default_factory=dict)
    """Today's sentence for each differing decision."""

    def add(self, found: list[Difference], today: Mapping[str, Any]) -> None:
        self.ticks += 1
        if not found:
            return
        self.differing += 1
        moved = [d for d in found if d.deployment is not None]
        self.decisions += bool(moved)
        for difference in moved:
            key = difference.deployment or ""
            reasons = today["reasons"].get(key, {"sentence": "not there"})
            self.sentences[difference.tick, key] = reasons["sentence"]
        room = max(0, _MAX_DIFFERENCES - len(self.differences))
        kept = [*moved, *(d for d in found if d.deployment is None)][:room]
        self.differences += kept
        self.left_out += len(found) - len(kept)

    def as_json(self, journal: str) -> dict[str, Any]:
        from autoscaler import __version__

        return {
            "version": 1,
            "journal": journal,
            "ticks": self.ticks,
            "differing_ticks": self.differing,
            "differing_decisions": self.decisions,
            "code_version": {"recorded": self.recorded_version, "today": __version__},
            "config_sha256": {"recorded": self.recorded_sha256, "today": self.today_sha256},
            "differences": [
                {
                    "tick": d.tick,
                    "now_s": d.now_s,
                    "where": d.where,
                    "path": d.path,
                    "recorded": d.recorded,
                    "today": d.today,
                }
                for d in self.differences
            ],
            "differences_left_out": self.left_out,
        }

    def lines(self, journal: str) -> Iterator[str]:
        from autoscaler import __version__

        other = "the recorded settings" if self.recorded_sha256 == self.today_sha256 else "other settings"
        versions = f"recorded by {self.recorded_version}, replayed by {__version__}"
        yield f"{journal}: {counted(self.ticks, 'tick')}, {versions}, {other}"
        moved = [d for d in self.differences if d.deployment is not None]
        for d in moved[:_SHOWN]:
            sentence = self.sentences[d.tick, d.deployment or ""]
            where = f"tick {d.tick}, {moment(d.now_s)}, {d.deployment}"
            yield f"{where}: recorded {_short(d.recorded)}, today {_short(d.today)}: {sentence}"
        if len(moved) > _SHOWN:
            yield f"... and {len(moved) - _SHOWN} more (--json lists them)"
        if not self.differing:
            yield f"all {self.ticks} ticks come out as recorded" if self.ticks > 1 else "the tick comes out as recorded"
            return
        rest = self.differing - self.decisions
        counts = f"{self.decisions} in a decision, {rest} only in figures or reasons"
        yield f"{self.differing} of {self.ticks} ticks differ: {counts}"
        ticks = {d.tick for d in moved}
        first = next((d for d in self.differences if d.tick not in ticks), None)
        if first is not None:
            figures = f"recorded {_short(first.recorded)}, today {_short(first.today)}"
            yield f"the first of these: {first.where}: {first.path}: {figures}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


# ---------------------------------------------------------------- running it


def replay(path: Path, config: ControllerConfig | None = None, trust_policy: bool = False) -> Report:
    """Step today's controller through a journal. Errors: JournalError naming file and line.

    `trust_policy`: import what the journal names as its policy, too; a `config` is trusted as it is.
    """
    from autoscaler.core import journal

    report = Report()
    controller: Controller | None = None
    for record in read_journal(path):
        if record.data["kind"] == "audit":
            continue
        if record.data["kind"] == "checkpoint":
            controller = _controller(record, config, report, trust_policy)
            continue
        assert controller is not None, "read_journal sees to it that a checkpoint comes first"
        try:
            signals = journal.decode_signals(record.data)
            plan = controller.step(signals, record.data["now_s"])
        except (JournalError, KeyError) as error:
            raise JournalError(f"{_where(record)}: {error}") from error
        today = json.loads(journal.encode(journal.tick_record(signals, plan)))
        same = journal.comparable(record.data) == journal.comparable(today)
        report.add([] if same else list(_differences(record, today)), today)
    if not report.ticks:
        raise JournalError(f"{path}: no ticks in it")
    return report


def _where(record: Record) -> str:
    return f"{record.file}: line {record.line}"


def _controller(record: Record, config: ControllerConfig | None, report: Report, trust_policy: bool) -> Controller:
    """A controller that goes on from a checkpoint."""
    from autoscaler.core import journal
    from autoscaler.core.build import new_controller

    if config is None and "settings" not in record.data:
        raise JournalError(f"{_where(record)}: the checkpoint holds no settings; give them with --config FILE")
    try:
        state = journal.decode_state(record.data)
        settings = config or journal.decode_settings(record.data)
    except JournalError as error:
        raise JournalError(f"{_where(record)}: {error}") from error
    if config is None and not trust_policy:
        _check_built_in(record, settings.policy_name)
    report.recorded_version = str(record.data.get("code_version"))
    report.recorded_sha256 = str(record.data.get("config_sha256"))
    report.today_sha256 = settings.sha256
    return new_controller(settings, state, _found_fleet(settings))


def _check_built_in(record: Record, policy: str) -> None:
    """A journal is data: whoever wrote it may not choose what is imported here. Errors: JournalError."""
    from policies.registry import is_built_in

    if not is_built_in(policy):
        raise JournalError(
            f"{_where(record)}: the journal names the policy {policy!r}, which is not leadtime's own, so its code was "
            "not run; allowed: --trust-policy, if you trust that file or package, or --config FILE with your own"
        )


def _found_fleet(settings: ControllerConfig) -> Policy | None:
    """`static` as the simulator found it: a number for each deployment, which nobody can state for a live one."""
    sizes = settings.policy_options.get("replicas")
    if settings.policy_name != "static" or not isinstance(sizes, Mapping):
        return None
    from policies.references.static import ConstantFleet, ConstantOptions

    return ConstantFleet(ConstantOptions(dict(sizes)))


def _differences(record: Record, today: Mapping[str, Any]) -> Iterator[Difference]:
    recorded = record.data
    for key in sorted((recorded.keys() | today.keys()) - {"wall", "applied"}):
        for path, before, now in _unequal(recorded.get(key), today.get(key), key):
            yield Difference(recorded["tick"], recorded["now_s"], _where(record), path, before, now)


def _unequal(before: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Every leaf at which two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _unequal(before.get(key), now.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (b, n) in enumerate(zip(before, now, strict=True)):
            yield from _unequal(b, n, f"{path}[{i}]")
    elif before != now or type(before) is not type(now):
        yield path, before, now
