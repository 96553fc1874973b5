"""Does the flagship keep its target over whole traces of weeks, and what does it pay? In a fluid fleet.

    python -m benchmarks.attainment [--only WORD,..] [--targets 0.95,0.99,0.999] [--lead-times 60,480] [--peaks 4,24]
                                    [--ablate] [--jobs N] [--render] [--publish docs/attainment.md]

Costs are multiples of what somebody pays who knows the traffic and misses nothing. Beside the flagship: 21 HPA settings
and every constant fleet, chosen in hindsight on each trace, and each rule alone. `--ablate` adds the flagship minus one
part at a time, at the first lead time and peak. Traces are development traces (rates/NAME.csv.gz); without them there
is nothing to play. What is finished is kept below results/attainment and not played again until the code changes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import blake2b
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoscaler.common.errors import InputError
from benchmarks.attainment_fluid import (
    BIN_S,
    DAY,
    Figures,
    Material,
    Variant,
    case_of,
    forecasts_of,
    play,
    rates_of,
    rivals,
)
from benchmarks.attainment_page import Played, page
from benchmarks.command import INTERRUPTED, play_missing, run_and_exit, tell
from benchmarks.pages import Marks
from benchmarks.results.store import ROOT, Store, what_it_does
from benchmarks.results.traces import public_traces, traces_argument
from policies.predictive.rules.family import Family
from policies.predictive.rules.shadow_price import PriceSettings
from simulator.experiments.parallel.workers import Workers, workers

MARKS = Marks("python -m benchmarks.attainment")
LIST = ROOT / "benchmarks" / "attainment.yaml"
_SETTINGS = PriceSettings()
_PARTS_TARGET = Variant("").target
_REACTIVE = ("steady", "reactive")


def parts() -> tuple[Variant, ...]:
    """The flagship minus one part at a time, at a target of 99 %."""
    blocks = tuple(Family().blocks)
    forecasts = tuple(block for block in blocks if block not in _REACTIVE)
    return (
        Variant("no clock rules", without=tuple(block for block in blocks if block.startswith("clock"))),
        *(Variant(f"no {block} rules", without=(block,)) for block in ("hold", "early", "keep", "clock vendor")),
        Variant("no forecast rules", without=forecasts),
        Variant("no steady rules", without=("steady",)),
        Variant("no reactive rules", without=("reactive",)),
        Variant("only reactive rules", without=(*forecasts, "steady")),
        Variant("no cost of a start", replace(_SETTINGS, start_cost=0.0)),
        Variant("no cap on the price", replace(_SETTINGS, cap=1e6)),
        Variant("no doubt about single events", replace(_SETTINGS, doubt_days=0.0)),
        Variant("steers for the whole target", replace(_SETTINGS, aim_share=1.0)),
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """One trace at one lead time and size of fleet."""

    trace: str
    days: float
    """0: the whole."""
    lead_s: float
    peak: float
    targets: tuple[float, ...]
    ablate: bool
    forecasts: str
    """Folder."""

    @property
    def name(self) -> str:
        return f"{_name(self.trace)}, {self.lead_s:g} s, {self.peak:g} replicas"

    @property
    def key(self) -> str:
        said = [v for v in parts() if self.ablate]
        content = [BIN_S, _content(self.trace), self.days, self.lead_s, self.peak, self.targets, repr(said), _code()]
        return blake2b(json.dumps(content).encode(), digest_size=12).hexdigest()

    @property
    def variants(self) -> list[Variant]:
        return [Variant(f"{target:g}", target=target) for target in self.targets] + [v for v in parts() if self.ablate]


def main() -> None:
    args = _arguments()
    run_and_exit(lambda: _attainment(args))


def _attainment(args: argparse.Namespace) -> int:
    if args.ablate and _PARTS_TARGET not in args.targets:
        said = ",".join(f"{target:g}" for target in args.targets)
        raise InputError(f"--targets {said}: --ablate compares at {_PARTS_TARGET:g} (allowed: targets with it)")
    files = _files(args)
    if not files:
        print("skipped: no such traces of that length here (rates/NAME.csv.gz of --traces)")
        return 0
    store = Store(args.folder / "runs")
    forecasts = str(args.folder / "forecasts")
    pieces = [
        Piece(str(file), args.days, lead_s, peak, args.targets, args.ablate and i == 0, forecasts)
        for i, (lead_s, peak) in enumerate(product(args.lead_times, args.peaks))
        for file in files
    ]
    interrupted = False
    if not args.render:
        try:
            with workers(args.jobs) as pool:
                _play(pool, store, {piece.key: piece for piece in pieces})
        except KeyboardInterrupt:
            interrupted = True
    text = written(store, pieces)
    if args.publish is not None:
        MARKS.publish(args.publish, text)
    print(text)
    if interrupted:
        sys.stderr.write("stopped; the same command goes on from here\n")
    return INTERRUPTED if interrupted else 0


def _play(pool: Workers, store: Store, pieces: Mapping[str, Piece]) -> None:
    """Forecasts first: several cases of a trace stand on the same."""
    missing = [piece for key, piece in pieces.items() if not store.has(key)]
    traces = list(dict.fromkeys((p.trace, p.days, p.forecasts) for p in missing))
    for i, _ in pool.each(forecast, traces):
        tell(f"{_name(traces[i][0])}: forecast")
    play_missing(pool, store, pieces, play_piece, attrgetter("name"))


def written(store: Store, pieces: Sequence[Piece]) -> str:
    """What is there of the pieces."""
    found = [(piece, store.get(piece.key)) for piece in pieces]
    runs = [(piece, run) for piece, run in found if run is not None]
    missing = [piece.name for piece, run in found if run is None]
    revisions = sorted({run["revision"] for _, run in runs})
    return page([_played(*one) for one in runs], missing, sum(run["cpu_s"] for _, run in runs), revisions)


def _played(piece: Piece, run: dict[str, Any]) -> Played:
    ours, others, alone = ([Figures(**one) for one in run[name]] for name in ("ours", "rivals", "alone"))
    count = len(piece.targets)
    return Played(
        _name(piece.trace),
        run["days"],
        piece.lead_s,
        piece.peak,
        dict(zip(piece.targets, ours[:count], strict=True)),
        {f.name: f for f in ours[count:]},
        others,
        alone,
    )


# ---------------------------------------------------------------- what a worker does


def forecast(task: tuple[str, float, str]) -> None:
    """Makes and keeps a trace's forecasts, where they are not there."""
    material(*task)


def material(trace: str, days: float, folder: str) -> Material:
    """A trace with its forecasts, which are kept by its content and by the code of forecasters."""
    rates = rates_of(Path(trace), days)
    digest = blake2b(f"{_content(trace)} {len(rates)} {_forecasters()}".encode(), digest_size=8).hexdigest()
    kept = Path(folder) / f"{_name(trace)}-{digest}.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, forecasts_of(rates))
        part.replace(kept)
    return Material(_name(trace), rates, np.load(kept, mmap_mode="r"))


def play_piece(piece: Piece) -> dict[str, Any]:
    """What came of it, as plain data, and the CPU seconds that it took; forecasts are not among them."""
    m = material(piece.trace, piece.days, piece.forecasts)
    began_s = time.process_time()
    case = case_of(m, piece.lead_s, piece.peak)
    ours, alone = play(m, case, piece.variants)
    found = {"ours": ours, "rivals": rivals(case), "alone": alone}
    return {
        "name": piece.name,
        "days": len(m.rates) / DAY,
        **{name: [asdict(one) for one in some] for name, some in found.items()},
        "cpu_s": round(time.process_time() - began_s, 2),
    }


def _name(trace: str) -> str:
    return Path(trace).name.removesuffix(".csv.gz")


@cache
def _content(trace: str) -> str:
    return blake2b(Path(trace).read_bytes(), digest_size=8).hexdigest()


@cache
def _forecasters() -> str:
    return _digest([*(ROOT / "policies" / "forecasting").rglob("*.py")])


@cache
def _code() -> str:
    """The code that figures depend on."""
    own = ROOT / "benchmarks" / "attainment_fluid.py"
    return _digest([*(ROOT / "policies" / "shadow").glob("*.py"), own]) + _forecasters()


def _digest(files: Sequence[Path]) -> str:
    text = "".join(what_it_does(path.read_text("utf-8")) for path in sorted(files))
    return blake2b(text.encode(), digest_size=8).hexdigest()


# ---------------------------------------------------------------- what was typed


def _files(args: argparse.Namespace) -> list[Path]:
    """The traces that were asked for, are there, and are long enough."""
    names = yaml.safe_load(LIST.read_text("utf-8"))["traces"]
    words = [word for word in args.only.split(",") if word]
    for word in words:
        if not any(word in name for name in names):
            raise InputError(f"--only {word}: no trace's name holds it (allowed: parts of {', '.join(names)})")
    folder = public_traces(args.traces)
    names = [name for name in names if not words or any(word in name for word in words)]
    files = [] if folder is None else [folder / "rates" / f"{name}.csv.gz" for name in names]
    return [file for file in files if file.is_file() and len(rates_of(file)) >= args.least_days * DAY]


def _arguments() -> argparse.Namespace:
    said = yaml.safe_load(LIST.read_text("utf-8"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attainment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", metavar="WORD,..", help="only traces whose name holds one of these")
    numbers = _numbers(lambda n: n > 0, "numbers > 0")
    shares = _numbers(lambda n: 0 < n < 1, "numbers between 0 and 1")
    parser.add_argument("--targets", type=shares, default=tuple(said["targets"]), metavar="N,..")
    parser.add_argument("--lead-times", type=numbers, default=tuple(said["lead_times_s"]), metavar="S,..")
    parser.add_argument("--peaks", type=numbers, default=tuple(said["peaks"]), metavar="REPLICAS,..")
    days = _number(lambda n: n >= 0, "a number >= 0")
    parser.add_argument("--days", type=days, default=0.0, help="cut each trace to so many (default: 0, the whole)")
    parser.add_argument(
        "--least-days", type=days, default=said["least_days"], help="no shorter traces (default: %(default)s)"
    )
    parser.add_argument("--ablate", action="store_true", help="minus one part at a time too, first lead and peak")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (0: one per core; default: 1)")
    traces_argument(parser)
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "results" / "attainment", metavar="DIR", help="where results go"
    )
    parser.add_argument("--render", action="store_true", help="show what is there; play nothing")
    parser.add_argument("--publish", type=MARKS.typed, metavar="FILE", help="put it into this page, between its marks")
    return parser.parse_args()


def _number(fits: Callable[[float], bool], allowed: str) -> Callable[[str], float]:
    def typed(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not fits(number):
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: {allowed}")
        return number

    return typed


def _numbers(fits: Callable[[float], bool], allowed: str) -> Callable[[str], tuple[float, ...]]:
    one = _number(fits, f"{allowed}, separated by commas")
    return lambda text: tuple(dict.fromkeys(one(part) for part in text.split(",")))


if __name__ == "__main__":
    main()
