"""`leadtime explain`: a journal's decisions in words. Reads what was recorded; decides nothing again (replay does)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscaler.cli.parser import did_you_mean
from autoscaler.cli.text import counted, moment, number, parse_moment, percent, say, span
from autoscaler.common.errors import InputError, JournalError
from autoscaler.runtime.journal_file import read_journal

DESCRIPTION = """\
Say in words why a journal's decisions were made: one sentence a decision, changes only, and nodes that were taken away.
With --at: everything that was known and weighed at that moment."""
EXAMPLE = """
leadtime explain ./journal --deployment chat/llm
leadtime explain ./journal --at 2026-01-31T12:00:05Z
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", metavar="JOURNAL", type=Path, help="a journal file, or the folder of a controller's")
    parser.add_argument("--at", metavar="T", help="explain the last decision at or before T (seconds, or RFC 3339)")
    parser.add_argument("--deployment", metavar="D", help="only this deployment: its key, or a pattern with *")
    parser.add_argument("--all", action="store_true", help="every tick, not only the changes")


def run(args: argparse.Namespace) -> int:
    ticks = _ticks(args.journal)
    try:
        lines = _at(ticks, args) if args.at is not None else _sentences(ticks, args)
        for line in lines:
            say(line)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise JournalError(f"{args.journal}: a tick has another shape than this version writes: {error!r}") from error
    return 0


def _ticks(path: Path) -> Iterator[Mapping[str, Any]]:
    """The ticks of a journal of this version, and who changed what between them.

    Errors: JournalError naming the file and the versions.
    """
    from autoscaler.core.journal import JOURNAL_VERSION

    for record in read_journal(path):
        if record.data["kind"] in ("tick", "audit"):
            yield record.data
        elif record.data.get("version") != JOURNAL_VERSION:
            written_by = record.data.get("code_version")
            by = f" (written by leadtime {written_by})" if written_by else ""
            raise JournalError(
                f"{record.file}: a journal of version {record.data.get('version')!r}{by}; this leadtime reads version "
                f"{JOURNAL_VERSION}: use the leadtime that wrote it"
            )


# ---------------------------------------------------------------- one sentence a decision


@dataclass(frozen=True, slots=True)
class _Decision:
    """What one tick said of one deployment or pool."""

    name: str
    observed: int | None
    target: int | None
    sentence: str

    @property
    def moves(self) -> bool:
        return self.target is not None and self.target != self.observed


def _sentences(ticks: Iterator[Mapping[str, Any]], args: argparse.Namespace) -> Iterator[str]:
    last: dict[str, _Decision] = {}
    seen: set[str] = set()
    ticks_read = count = shown = 0
    for record in ticks:
        if record["kind"] == "audit":
            yield f"{moment(record['at_s'])}  {_changed_by(record)}"
            continue
        ticks_read += 1
        seen |= set(record["plan"]["deployments"])
        if args.deployment is None:
            yield from (f"{moment(record['now_s'])}  {words}" for words in _taken_away(record))
        for decision in _decisions(record, args.deployment):
            count += 1
            before, last[decision.name] = last.get(decision.name), decision
            if args.all or _is_change(decision, before):
                shown += 1
                yield f"{moment(record['now_s'])}  {decision.name}: {decision.sentence}"
    if not seen:
        yield f"{counted(ticks_read, 'tick')}, and no deployment in any of them; --at T tells which sources were down"
        return
    _check_known(args.deployment, seen)
    if not args.all:
        yield f"{shown} changes in {count} decisions; --all shows them all, --at T tells everything of a moment"


def _taken_away(record: Mapping[str, Any]) -> list[str]:
    """Nodes that went with replicas on them: nobody decided that, and what follows is decided because of it."""
    from autoscaler.core.supply.learning import TAKEN_AWAY

    return [words for words in record.get("learned", ()) if words.endswith(TAKEN_AWAY)]


def _changed_by(record: Mapping[str, Any]) -> str:
    """An audit record in words."""
    who = ", ".join(f"{name} {value}" for name, value in sorted(record["who"].items()) if value) or "unknown"
    before, after = (json.dumps(record[side], sort_keys=True) for side in ("before", "after"))
    return f"{record['what']} of {record['about']} changed by {who}: {before} -> {after}"


def _is_change(now: _Decision, before: _Decision | None) -> bool:
    """It moves a number (and did not say the same a tick ago), or it begins or stops leaving the deployment alone."""
    if before is None:
        return now.moves or now.target is None
    if (now.target is None) != (before.target is None):
        return True
    return now.moves and (now.observed, now.target) != (before.observed, before.target)


def _decisions(record: Mapping[str, Any], pattern: str | None) -> Iterator[_Decision]:
    plan = record["plan"]
    for key, target in plan["deployments"].items():
        if _wanted(key, pattern):
            yield _Decision(key, plan["observed"].get(key), target, record["reasons"][key]["sentence"])
    if pattern is None:
        for name, nodes in plan["pools"].items():
            if nodes is None:
                continue
            terms = record["reasons"].get(f"pool:{name}", {}).get("terms") or [{"why": "no reason recorded"}]
            yield _Decision(f"pool {name}", None, nodes, f"{counted(nodes, 'node')}: {terms[0]['why']}")


def _wanted(key: str, pattern: str | None) -> bool:
    from policies.base import DeploymentKey

    return pattern is None or key == pattern or DeploymentKey.parse(key).matches(pattern)


def _check_known(pattern: str | None, seen: set[str]) -> None:
    if pattern is not None and not any(_wanted(key, pattern) for key in seen):
        known = sorted(seen)
        raise InputError(f"--deployment: {pattern!r}; allowed: {', '.join(known)}{did_you_mean(pattern, known)}")


# ---------------------------------------------------------------- everything of a moment


def _at(ticks: Iterator[Mapping[str, Any]], args: argparse.Namespace) -> Iterator[str]:
    at_s = parse_moment(args.at, "--at")
    chosen: Mapping[str, Any] | None = None
    first_s: float | None = None
    for record in (one for one in ticks if one["kind"] == "tick"):
        first_s = record["now_s"] if first_s is None else first_s
        if record["now_s"] > at_s:
            break
        chosen = record
    if chosen is None:
        begins = "no decisions in it" if first_s is None else f"its first decision is at {moment(first_s)}"
        raise InputError(f"--at: {args.at}; {args.journal}: {begins}")
    _check_known(args.deployment, set(chosen["plan"]["deployments"]))
    leader = "" if chosen["leader"] else ", not the leader"
    yield f"tick {chosen['tick']} at {moment(chosen['now_s'])}{leader}"
    for source in chosen["sources"]:
        if not source["up"]:
            yield f"  source {source['name']} is down: {source['why']}"
    for key in chosen["plan"]["deployments"]:
        if _wanted(key, args.deployment):
            yield ""
            yield from _everything(key, chosen)


def _everything(key: str, record: Mapping[str, Any]) -> Iterator[str]:
    yield f"{key}: {record['reasons'][key]['sentence']}"
    yield f"  seen:       {_seen(record['signals'].get(key, {}))}"
    forecast = record["forecast"].get(key)
    if forecast:
        yield f"  forecast:   {_forecast(forecast)}"
    yield f"  capacity:   {number(record['capacity_rps'].get(key), ' requests/s')} per replica within the SLO"
    for term in record["reasons"][key]["terms"]:
        yield f"  argument:   {term['name']} wants {term['wants']}: {term['why']}"
    for guard in record["guards"]:
        if guard["deployment"] in (None, key):
            yield f"  guard:      {guard['name']}: {_name(guard['from'])} → {_name(guard['to'])}: {guard['why']}"
    applied = record["applied"].get(key)
    if applied:
        yield f"  written:    {applied['outcome']}{': ' + applied['why'] if applied['why'] else ''}"


def _name(value: int | None) -> str:
    return "left alone" if value is None else str(value)


def _seen(signals: Mapping[str, Any]) -> str:
    return (
        f"{number(signals.get('rate_rps'), ' requests/s')} of {number(signals.get('prompt_tokens'))} + "
        f"{number(signals.get('output_tokens'))} tokens; {number(signals.get('waiting'))} waiting, "
        f"{number(signals.get('ongoing'))} ongoing; KV cache {percent(signals.get('kv_usage_fraction'))}; "
        f"{number(signals.get('running'))} running, {number(signals.get('starting'))} starting, "
        f"{number(signals.get('draining'))} draining; SLO met by {percent(signals.get('attained_fraction'))}"
    )


def _forecast(forecast: Mapping[str, Any]) -> str:
    """The farthest horizon's quantiles."""
    pairs = zip(forecast["levels"], forecast["values_rps"][-1], strict=True)
    quantiles = ", ".join(f"{100 * level:g} %: {number(value)}" for level, value in pairs)
    trust = "" if forecast["calibrated"] else f"; not trusted: {forecast['why'] or 'not calibrated'}"
    horizon = span(forecast["horizons_s"][-1])
    return f"most requests/s within {horizon}, as far as it looks, by {forecast['forecaster']}: {quantiles}{trust}"
