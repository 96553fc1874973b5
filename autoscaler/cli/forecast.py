"""`leadtime forecast`: how good forecasters are on a series of rates, how well calibrated, and what they cost."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.cli.progress import share_done
from autoscaler.cli.text import console, say, say_json, warn
from autoscaler.common.safe_files import make_output_folder, write_output

if TYPE_CHECKING:
    from simulator.experiments.backtest import Course, Score, Series

_MEASURE = "last"
"""What the table relates losses to; played beside the forecaster that was named."""
DESCRIPTION = """Rolling-origin backtest on a `rates` CSV (timestamp_s,rps; .gz too): at each origin the quantiles of
the largest rate in (t, t + horizon] against what came. Losses are over the mean rate; `vs last` relates them to the
last value. The first 3 days (6 h of a one-day series) only warm up."""
EXAMPLE = """leadtime forecast rates.csv.gz
leadtime forecast rates.csv --bin-s 60 --horizon-s 300 --forecaster all --out out/forecast
leadtime forecast rates.csv --forecaster holt_winters --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rates", type=Path, metavar="RATES.csv", help="rates trace: timestamp_s,rps")
    parser.add_argument(
        "--bin-s", type=float, metavar="B", help="average into bins of B s (60, or the file's if wider)"
    )
    parser.add_argument(
        "--horizon-s", type=float, action="append", metavar="H", help="seconds ahead; repeatable (120, 300 and 600)"
    )
    parser.add_argument("--forecaster", default="", metavar="F", help="by name, or `all` (the default forecaster)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write forecast.json and a fan chart per forecaster there"
    )


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are tiny: threads only wait for each other
    from policies.base import ForecastSpec
    from policies.forecasting import check_spec
    from simulator.experiments import backtest
    from simulator.report.fan_chart import fan_chart
    from simulator.workload.traces import read_rates

    trace = read_rates(args.rates)
    if trace.gaps:
        warn(f"note: {args.rates}: {len(trace.gaps)} gaps, {trace.gap_s:,.0f} s, are taken as straight lines")
    series = backtest.series_of(trace, args.bin_s)
    course = backtest.course_of(series, args.horizon_s)
    if args.forecaster == "all":
        names, left_out = backtest.names_for(series)
        for name in left_out:
            warn(f"warning: {name} is left out: the series is shorter than two days")
    else:
        names = (args.forecaster or ForecastSpec().forecaster,)
        check_spec(ForecastSpec(names[0], series.bin_s))
    played = names if args.json or _MEASURE in names else (_MEASURE, *names)  # the table compares with it
    found: list[Score] = []
    measure: list[Score] = []
    if args.out is not None:
        make_output_folder(args.out)
    with share_done("forecast", args.rates.name) as progress:
        for i, name in enumerate(played):
            step = (lambda share, i=i: progress((i + share) / len(played))) if progress is not None else None
            track = backtest.run(series, course, name, step)
            scores = list(backtest.scores(track, series))
            measure += scores if name == _MEASURE else []
            found += scores if name in names else []
            if args.out is not None and name in names:
                write_output(args.out / f"{name}.svg", fan_chart(track, series))
    text = json.dumps(backtest.document(series, found), indent=1)
    if args.out is not None:
        write_output(args.out / "forecast.json", text + "\n")
    if args.json:
        say_json(text)
    else:
        _print(series, course, found, {s.horizon_s: s.pinball_mean for s in measure}, args.out)
    return 0


def _print(
    series: Series, course: Course, found: list[Score], measure: Mapping[float, float], out: Path | None
) -> None:
    """The table; `measure`: losses of the last value by horizon."""
    from rich.table import Table

    title = (
        f"{series.name}: {series.length_s / 86400:.3g} d in bins of {series.bin_s:g} s, "
        f"mean {series.mean_rps:.4g} req/s; "
        f"{len(course.origins)} origins after {course.warm_up_s / 3600:.3g} h"
    )
    table = Table(title=title, title_justify="left", box=None)
    for heading in (
        "horizon s",
        "forecaster",
        "loss",
        "vs last",
        "loss 0.5",
        "in 0.9",
        "in 0.95",
        "in 0.99",
        "ms",
        "fit ms",
    ):
        table.add_column(heading, justify="left" if heading == "forecaster" else "right")
    for score in sorted(found, key=lambda s: (s.horizon_s, s.pinball_mean)):
        base = measure.get(score.horizon_s)
        table.add_row(
            f"{score.horizon_s:g}",
            score.forecaster,
            f"{score.pinball_mean:.4g}",
            f"{score.pinball_mean / base:.3f}" if base else "",
            f"{score.pinball[0]:.4g}",
            *(f"{share:.3f}" for share in score.coverage[1:]),
            f"{score.update_ms:.3f}",
            "" if score.fit_ms is None else f"{score.fit_ms:.0f}",
        )
    console(width=None if sys.stdout.isatty() else 130).print(table)
    say(
        "loss: mean pinball loss at 0.9, 0.95 and 0.99 over the mean rate; vs last: that over the last value's loss; "
        "in: share of windows at or under the level"
    )
    if out is not None:
        say(f"written to {out}")
