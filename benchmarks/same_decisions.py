"""Holds the decisions of two checkouts against each other, tick by tick: for a refactoring that must change none.

    python benchmarks/same_decisions.py OLD [NEW] [--only NAME]... [--ticks N]

OLD and NEW are checkouts (NEW: this one). Each plays the same scenarios with its own code: ten and a hundred
deployments for --ticks ticks (300), and every shipped preset whole. Compared are the numbers of each journal line
(levels, pools, forecasts, lead times, capacities), the names and numbers of its guards, and the names and numbers of
the terms behind each proposal. Not compared: sentences, and names that RENAMED maps. The exit status is 1 when
anything differs; the first difference of each scenario is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parents[1]
_HUNDRED = HERE / "benchmarks" / "jobs" / "b-hundred.yaml"
_TICK_S = 10.0

RENAMED: Mapping[str, str] = {}
"""Names of guards and terms of an older checkout -> today's. A name that is here may change; its numbers may not."""


def scenarios(folder: Path, ticks: int) -> Iterator[tuple[str, str]]:
    """Name, and file or preset, of everything that is played."""
    hundred = yaml.safe_load(_HUNDRED.read_text(encoding="utf-8"))
    hundred["duration_s"] = ticks * _TICK_S
    for name, count in (("ten", 10), ("hundred", 100)):
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**hundred, "deployments": hundred["deployments"][:count]}), encoding="utf-8")
        yield name, str(path)
    for preset in sorted((HERE / "simulator" / "presets").glob("*.yaml")):
        yield preset.stem, f"preset:{preset.stem}"


def play(checkout: Path, scenario: str, out: Path) -> Path:
    """The journal of one scenario, played by the code of `checkout`. Errors: SystemExit with what it said."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["leadtime"].split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, "simulate", scenario, "--json", "--out", str(out)]
    ran = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{checkout}: {scenario}: exit {ran.returncode}: {ran.stderr.strip()[-500:]}")
    return out / "journal.jsonl"


def essence(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a tick's record must not change."""
    return {
        "tick": record["tick"],
        "now_s": record["now_s"],
        "plan": record["plan"],
        "proposals": record["proposals"],
        "forecast": {key: _forecast(one) for key, one in record["forecast"].items()},
        "lead_times": record["lead_times"],
        "capacity_rps": record["capacity_rps"],
        "guards": [[_name(g["name"]), g["deployment"], g["from"], g["to"]] for g in record["guards"]],
        "terms": {
            key: [[_name(term["name"]), term["wants"]] for term in reason.get("terms") or ()]
            for key, reason in record["reasons"].items()
        },
    }


def _forecast(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in ("why", "forecaster")}


def _name(name: str) -> str:
    return RENAMED.get(name, name)


def ticks_of(journal: Path) -> Iterator[dict[str, Any]]:
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["kind"] == "tick":
                yield essence(record)


def first_difference(old: Path, new: Path) -> tuple[int, str]:
    """Ticks compared, and where they differ first ("" where nowhere)."""
    count = 0
    for before, after in zip_longest(ticks_of(old), ticks_of(new)):
        if before is None or after is None:
            return count, f"tick {count + 1}: only one of them has it"
        if before != after:
            where, was, now = next(_differences("", before, after))
            return count, f"tick {before['tick']}: {where}: {was!r} -> {now!r}"
        count += 1
    return count, ""


def _differences(where: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(f"{where}.{key}".lstrip("."), old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{where}[{i}]", before, after)
    elif old != new:
        yield where, old, new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="the checkout to compare with")
    parser.add_argument("new", type=Path, nargs="?", default=HERE, help="the other checkout (default: this one)")
    parser.add_argument("--only", action="append", metavar="NAME", help="only these scenarios")
    parser.add_argument("--ticks", type=int, default=300, help="of the two fleets (default: 300)")
    arguments = parser.parse_args()
    differ = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        known = dict(scenarios(folder, arguments.ticks))
        unknown = set(arguments.only or ()) - known.keys()
        if unknown:
            parser.error(f"--only: {', '.join(sorted(unknown))}: no such scenario; allowed: {', '.join(known)}")
        for name, scenario in known.items():
            if arguments.only and name not in arguments.only:
                continue
            began_s = time.perf_counter()
            journals = [
                play(checkout.resolve(), scenario, folder / side / name)
                for side, checkout in (("old", arguments.old), ("new", arguments.new))
            ]
            count, words = first_difference(*journals)
            differ += bool(words)
            took_s = time.perf_counter() - began_s
            print(f"{name:22} {count:6} ticks equal{'; ' + words if words else ''} ({took_s:.0f} s)", flush=True)
    print("all equal" if not differ else f"{differ} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
