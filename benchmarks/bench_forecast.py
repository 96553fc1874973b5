"""Judges every forecaster on the development series: loss relative to `last`, coverage, rises, cost. Prints Markdown.

    python benchmarks/bench_forecast.py [--forecasters A,B|all] [--series WORD,..] [--sparse N] [--out DIR]
    python benchmarks/bench_forecast.py --cost            # 100 deployments, bins of 10 s, ticks of 5 s

Protocol of `leadtime forecast` (docs/forecasting.md): 60 s bins (300 s for nab_*), horizons of 120, 300 and 600 s. What
was computed is kept in DIR and taken from there until the code of the forecasters changes: an interrupted run goes on.
About a quarter of an hour on one core; `--sparse 5` uses a fifth of the origins, which saves only what answers cost.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from policies.base import ForecastSpec
from policies.forecasting import create, forecaster_names
from policies.forecasting.batch import BatchedEnsemble
from simulator.experiments import backtest
from simulator.experiments.backtest import DAY_S, LEVELS, Course, Floats, Series, Track
from simulator.workload.traces import read_rates

ROOT = Path(__file__).parents[1]
OURS = "mixture"
RIVALS = tuple(name for name in forecaster_names() if name not in (OURS, "seasonal"))
ONLY_OURS = {
    "blend.py",
    "spread.py",
    "members.py",
    "regression.py",
    "forecaster.py",
    "bank.py",
    "ramp_correction.py",
}
LEFT_OUT = ("gentd26", "nab_nyc")
Q95 = LEVELS.index(0.95)
STEEP_SHARE = 0.05
STEEP_S = 600.0
STEEP_FROM_S = 300.0
"""As in the study: a rise is counted from the mean of the last five minutes to the largest bin of the next ten."""
SEASON_FROM = 0.3
"""Share of the variance of hourly means within days that one daily profile explains; below it there is no season."""


@dataclass(frozen=True)
class Figures:
    """What is kept of one forecaster on one series."""

    loss: list[float]
    coverage: list[float]
    by_hour: list[float]
    steep: float
    steep_from_bin: float
    update_ms: float
    fit_ms: float | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forecasters", default="all")
    parser.add_argument("--series", default="")
    parser.add_argument("--sparse", type=int, default=1)
    parser.add_argument("--rates", type=Path, default=ROOT.parent / "shared" / "traces" / "rates")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench_forecast")
    parser.add_argument("--cost", action="store_true")
    args = parser.parse_args()
    if args.cost:
        cost()
        return 0
    files = [f for f in sorted(args.rates.glob("*.csv.gz")) if not f.name.startswith(LEFT_OUT)]
    words = [w for w in args.series.split(",") if w]
    files = [f for f in files if not words or any(w in f.name for w in words)]
    if not files:
        print(f"skipped: no rates series in {args.rates}")
        return 0
    names = forecaster_names() if args.forecasters == "all" else tuple(args.forecasters.split(","))
    args.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Figures]] = {}
    seasons: dict[str, float | None] = {}
    for file in files:
        trace = read_rates(file)
        series = backtest.series_of(trace)
        course = backtest.course_of(series, sparse=args.sparse)
        name = file.name.removesuffix(".csv.gz")
        seasons[name] = season_strength(series)
        possible, _ = backtest.names_for(series)
        table[name] = {
            f: figures(args.out / f"{name}.{f}.json", series, course, f, args.sparse) for f in names if f in possible
        }
    report(table, seasons, names)
    return 0


def figures(kept: Path, series: Series, course: Course, name: str, sparse: int) -> Figures:
    """From the file, when the code is the same; else computed and kept."""
    stamp = f"{code_stamp(name)}/{sparse}"
    if kept.exists():
        found = json.loads(kept.read_text())
        if found.pop("stamp") == stamp:
            return Figures(**found)
    began = time.perf_counter()
    track = backtest.run(series, course, name)
    made = measure(track, series)
    kept.write_text(json.dumps({"stamp": stamp, **made.__dict__}))
    print(f"{kept.stem}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return made


def code_stamp(name: str) -> str:
    """A digest of the code that a forecaster's figures depend on."""
    files = sorted((ROOT / "policies" / "forecasting").rglob("*.py"))
    if name != OURS:
        files = [f for f in files if f.name not in ONLY_OURS]
    digest = hashlib.sha256()
    for file in [*files, ROOT / "simulator" / "backtest.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def measure(track: Track, series: Series) -> Figures:
    scores = list(backtest.scores(track, series))
    covered = (track.actual <= track.quantiles[:, :, Q95]).astype(np.float64)
    return Figures(
        [s.pinball_mean for s in scores],
        covered.mean(axis=0).tolist(),
        by_hour(track.course, series, covered),
        steep_rises(track, series, covered, STEEP_FROM_S),
        steep_rises(track, series, covered, series.bin_s),
        track.update_ms,
        track.fit_ms,
    )


def by_hour(course: Course, series: Series, covered: Floats) -> list[float]:
    """For each horizon the coverage in the worst hour of the day."""
    at_s = (series.first + course.origins + 1) * series.bin_s
    hour = (at_s % DAY_S // 3600).astype(int)
    return [min(float(covered[hour == h, j].mean()) for h in np.unique(hour)) for j in range(covered.shape[1])]


def steep_rises(track: Track, series: Series, covered: Floats, from_s: float) -> float:
    """Share of the 5 % of origins before the steepest 10 minutes in which what came stayed under q0.95.

    A rise is counted from the mean of the last `from_s` seconds (at least the last bin).
    """
    widest = int(np.argmin(np.abs(np.array(track.course.horizons_s) - STEEP_S)))
    bins = max(1, round(from_s / series.bin_s))
    level = np.lib.stride_tricks.sliding_window_view(series.rates, bins).mean(axis=1)
    rise = track.actual[:, widest] - level[track.course.origins - bins + 1]
    steep = rise >= np.quantile(rise, 1 - STEEP_SHARE)
    return float(covered[steep, widest].mean())


def season_strength(series: Series) -> float | None:
    """None under three days."""
    per_hour = max(1, round(3600 / series.bin_s))
    hours = series.rates[: len(series.rates) // per_hour * per_hour].reshape(-1, per_hour).mean(axis=1)
    per_day = round(DAY_S / (per_hour * series.bin_s))
    days = hours[: len(hours) // per_day * per_day].reshape(-1, per_day)
    if len(days) < 3:
        return None
    within = days - days.mean(axis=1, keepdims=True)
    return float(1 - ((within - within.mean(axis=0)) ** 2).sum() / max(float((within**2).sum()), 1e-300))


# ---------------------------------------------------------------- tables


def report(table: dict[str, dict[str, Figures]], seasons: dict[str, float | None], names: Sequence[str]) -> None:
    if any("last" not in row for row in table.values()):
        print("no relative losses without `last`")
        return
    print("\nLoss relative to `last`, geometric mean over series and horizons:\n")
    print("| forecaster | series | loss / last | update ms | fit ms |\n|---|---|---|---|---|")
    for name in sorted(names, key=lambda n: relative(table, n)):
        rows = [row[name] for row in table.values() if name in row]
        fits = [r.fit_ms for r in rows if r.fit_ms is not None]
        update = np.mean([r.update_ms for r in rows])
        fit = f"{np.mean(fits):.0f}" if fits else ""
        print(f"| {name} | {len(rows)} | {relative(table, name):.3f} | {update:.2f} | {fit} |")
    print("\nOn every series, geometric mean over the horizons:\n")
    print(f"| series | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for series, row in table.items():
        print(f"| {series} | " + " | ".join(f"{on_one(row, n):.2f}" if n in row else "" for n in names) + " |")
    if OURS not in names:
        return
    print(f"\n`{OURS}` on every series (loss / last at each horizon; coverage of q0.95 likewise):\n")
    print("Steep rises: held of those from the mean of five minutes / from the last bin (`last`: the first).\n")
    print("| series | season | loss / last | best named rival | over it | coverage | worst hour | steep rises (last) |")
    print("|---|---|---|---|---|---|---|---|")
    for series, row in table.items():
        print("| " + " | ".join(cells(series, row, seasons[series])) + " |")


def relative(table: dict[str, dict[str, Figures]], name: str) -> float:
    """Geometric mean over series and horizons."""
    logs = [np.log(np.array(row[name].loss) / np.array(row["last"].loss)) for row in table.values() if name in row]
    return float(np.exp(np.concatenate(logs).mean()))


def on_one(row: dict[str, Figures], name: str) -> float:
    """Loss relative to `last` on one series, geometric mean over its horizons."""
    return float(np.exp(np.log(np.array(row[name].loss) / np.array(row["last"].loss)).mean()))


def cells(series: str, row: dict[str, Figures], season: float | None) -> Iterator[str]:
    own, last = row[OURS], row["last"]
    rivals = {name: float(np.mean(row[name].loss)) for name in RIVALS if name in row}
    best = min(rivals, key=lambda name: rivals[name])
    yield series
    yield "" if season is None else f"{season:.2f}"
    yield " / ".join(f"{a / b:.3f}" for a, b in zip(own.loss, last.loss, strict=True))
    yield best
    yield f"{np.mean(own.loss) / rivals[best] - 1:+.1%}"
    yield " / ".join(f"{c:.3f}" for c in own.coverage)
    yield " / ".join(f"{c:.2f}" for c in own.by_hour)
    steep = f"{own.steep:.2f} / {own.steep_from_bin:.2f} ({last.steep:.2f})"
    yield steep if season is not None and season >= SEASON_FROM else ""


# ---------------------------------------------------------------- cost


def cost(deployments: int = 100, bin_s: float = 10.0, tick_s: float = 5.0, ticks: int = 240) -> None:
    """A controller's ticks: every deployment takes in a bin when one ends and answers at every tick. CPU time."""
    horizons = tuple(bin_s * 2**k for k in range(8))
    spec = ForecastSpec(OURS, bin_s)
    rng = np.random.default_rng(1)
    seed_bins = round(DAY_S / bin_s)
    phase = np.arange(seed_bins + ticks) * bin_s / DAY_S
    ends_s = np.arange(1, seed_bins + 1, dtype=np.float64) * bin_s
    forecasters: list[tuple[Any, Floats]] = []
    for _ in range(deployments):
        rates = 20 * (1.2 + np.sin(2 * np.pi * phase)) * rng.gamma(20, 1 / 20, len(phase))
        forecasters.append((create(spec), rates))
    began, together = time.process_time(), BatchedEnsemble()
    together.learn([(f, [(ends_s, rates[:seed_bins])]) for f, rates in forecasters])
    seeded_s = time.process_time() - began
    spent, refits = [], []
    for tick in range(1, ticks + 1):
        i = seed_bins - 1 + int(tick * tick_s / bin_s + 1e-9)
        due = [f for f, _ in forecasters if f.needs_refit()]
        began = time.process_time()
        for forecaster in due:  # the runtime does this in a thread
            forecaster.refit()
        refits.append((len(due), 1000 * (time.process_time() - began)))
        began = time.process_time()
        together.observe([(f, [((i + 1) * bin_s, float(rates[i]))]) for f, rates in forecasters])
        together.ask([(f, horizons) for f, _ in forecasters], spec.levels)
        for forecaster, _ in forecasters:
            forecaster.quantiles(horizons, spec.levels)
        spent.append(1000 * (time.process_time() - began))
    began = time.process_time()
    state = len(msgspec.json.encode(forecasters[0][0].state()))
    print(f"{deployments} deployments, bins of {bin_s:g} s, ticks of {tick_s:g} s, {len(horizons)} horizons asked")
    print(
        f"a tick: mean {np.mean(spent):.1f} ms, median {np.median(spent):.1f}, "
        f"99th percentile {np.quantile(spent, 0.99):.1f}"
    )
    written_ms = 1000 * (time.process_time() - began)
    count, all_ms = (sum(column) for column in zip(*refits, strict=True))
    each = f"{all_ms / count:.0f} ms each, at most {max(n for n, _ in refits)} at a tick" if count else "none was due"
    print(f"refits, in a thread: {count}; {each}")
    print(
        f"a deployment: {seeded_s / deployments:.2f} s to take in a day of history, {state / 1000:.0f} kB of state, "
        f"{written_ms:.0f} ms to write it out (in a thread, one a minute)"
    )


if __name__ == "__main__":
    raise SystemExit(main())
