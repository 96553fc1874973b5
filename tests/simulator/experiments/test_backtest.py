"""The backtest of forecasters: origins, losses and coverage by hand, refusals; the command and its picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoscaler.common.errors import InputError, TraceError
from policies.base import ForecastSpec
from simulator.experiments import backtest
from simulator.report.fan_chart import fan_chart
from simulator.workload.traces import RateTrace, write_rates
from tests.cli.helpers import leadtime

DAY = 1440


def series(days: float, bin_s: float = 60.0, seed: int = 1) -> backtest.Series:
    """A noisy daily hump."""
    bins = round(days * 86400 / bin_s)
    phase = np.arange(bins) * bin_s % 86400 / 86400
    rates = (5 + 4 * np.sin(2 * np.pi * phase)) * np.random.default_rng(seed).gamma(50, 1 / 50, bins)
    return backtest.Series("made", bin_s, 0, rates)


class Fixed:
    """Answers the same quantiles always, and keeps what it was shown."""

    name = "fixed"

    def __init__(self, spec: ForecastSpec) -> None:
        self.seen: list[tuple[float, float | None]] = []
        self.asked: list[int] = []

    def observe(self, time_s: float, value: float | None) -> None:
        self.seen.append((time_s, value))

    def needs_refit(self) -> bool:
        return False

    def quantiles(self, horizons_s: Sequence[float], levels: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        self.asked.append(len(self.seen))
        return tuple((4.0, 6.0, 8.0, 10.0) for _ in horizons_s)


def run_fixed(given: backtest.Series, horizons_s: Sequence[float]) -> tuple[Fixed, backtest.Track]:
    made = Fixed(ForecastSpec())

    def make(spec: ForecastSpec) -> Any:
        return made

    return made, backtest.run(given, backtest.course_of(given, horizons_s), "last", make=make)


# ---------------------------------------------------------------- where forecasts are made


@pytest.mark.parametrize(("bin_s", "stride"), [(60.0, 7), (30.0, 17), (10.0, 43), (300.0, 1), (1800.0, 1), (57.0, 8)])
def test_origins_beat_with_neither_5_nor_10_minutes(bin_s: float, stride: int) -> None:
    assert backtest.stride_of(bin_s, 420.0) == stride
    for rhythm_s in (300.0, 600.0):
        assert math.gcd(stride, max(1, round(rhythm_s / bin_s))) == 1


def test_three_days_warm_up_and_six_hours_where_there_is_but_one() -> None:
    assert backtest.course_of(series(7)).origins[0] == 3 * DAY
    assert backtest.course_of(series(1)).origins[0] == 360
    assert backtest.course_of(series(7)).horizons_s == (120.0, 300.0, 600.0)
    assert backtest.course_of(series(30)).stride_s == 780.0


def test_every_window_lies_within_the_series() -> None:
    given = series(1)
    course = backtest.course_of(given, (600.0,))
    assert course.origins[-1] + 10 < len(given.rates)


def test_a_horizon_shorter_than_the_bin_is_refused() -> None:
    with pytest.raises(InputError, match=r"--horizon-s 120: allowed: at least the bin's width, 300 s"):
        backtest.course_of(series(5, 300.0), (120.0,))
    assert backtest.course_of(series(5, 300.0)).horizons_s == (300.0, 600.0)


def test_too_short_a_series_is_refused_with_the_length_it_needs() -> None:
    with pytest.raises(TraceError, match=r"are too short to judge forecasts of 600 s; allowed: 8\.5 h or more"):
        backtest.course_of(series(0.2))


def test_bins_are_averaged_and_must_fit_the_file() -> None:
    trace = RateTrace("f.csv", 10.0, 20.0, np.arange(12.0))
    found = backtest.series_of(trace)
    assert (found.bin_s, found.rates.tolist()) == (60.0, [1.0, 4.0, 7.0, 10.0])
    assert backtest.series_of(trace, 40.0).rates.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]
    assert backtest.series_of(RateTrace("f.csv", 0.0, 57.0, np.ones(9))).bin_s == 57.0
    with pytest.raises(InputError, match="--bin-s 30: allowed: a multiple of the file's bins of 20 s"):
        backtest.series_of(trace, 30.0)
    with pytest.raises(TraceError, match="no traffic in it"):
        backtest.series_of(RateTrace("f.csv", 0.0, 20.0, np.zeros(12)))


def test_seasonal_rivals_are_left_out_of_series_under_two_days() -> None:
    names, out = backtest.names_for(series(1))
    assert out == ("seasonal_naive", "holt_winters")
    assert not set(out) & set(names)
    assert {"last", "max10", "max30", "holt", "arima", "dynamo_arima", "dynamo_kalman", "mixture"} <= set(names)
    assert set(out) <= set(backtest.names_for(series(2))[0])


# ---------------------------------------------------------------- what is measured


def test_a_forecaster_sees_each_bin_once_and_is_asked_before_it_sees_the_window() -> None:
    given = series(1)
    forecaster, track = run_fixed(given, (120.0,))
    assert [t for t, _ in forecaster.seen] == [(i + 1) * 60.0 for i in range(DAY)]
    assert forecaster.asked == (track.course.origins + 1).tolist()


def test_loss_is_of_the_largest_bin_of_the_window_over_the_mean_rate() -> None:
    given = series(1)
    _, track = run_fixed(given, (120.0, 600.0))
    scores = list(backtest.scores(track, given))
    for score, width in zip(scores, (2, 10), strict=True):
        came = [given.rates[o + 1 : o + 1 + width].max() for o in track.course.origins]
        for level, quantile, loss, covered in zip(
            backtest.LEVELS, (4.0, 6.0, 8.0, 10.0), score.pinball, score.coverage, strict=True
        ):
            by_hand = np.mean([max(level * (y - quantile), (level - 1) * (y - quantile)) for y in came])
            assert loss == pytest.approx(by_hand / given.rates.mean())
            assert covered == pytest.approx(np.mean([y <= quantile for y in came]))
        assert score.pinball_mean == pytest.approx(np.mean(score.pinball[1:]))


def test_a_perfect_forecaster_loses_nothing() -> None:
    given = series(1)
    course = backtest.course_of(given)
    came = backtest.outcomes(given, course)
    track = backtest.Track("oracle", course, np.repeat(came[:, :, None], 4, axis=2), came, 0.0, None, 0)
    assert [s.pinball_mean for s in backtest.scores(track, given)] == [0.0, 0.0, 0.0]


def test_the_picture_shows_a_panel_for_each_horizon_and_escapes_names() -> None:
    given = backtest.Series("<a & b>", 60.0, 0, series(1).rates)
    _, track = run_fixed(given, (120.0, 300.0))
    text = fan_chart(track, given)
    assert text.count("coverage of 0.95") == 2
    assert "&lt;a &amp; b&gt;" in text
    assert "<script" not in text


@pytest.mark.parametrize(("first", "label"), [(0, ">day 0, 12 h<"), (29_674_080, ">06-03 12:00<")])
def test_the_axis_tells_days_of_the_series_or_dates(first: int, label: str) -> None:
    given = replace(series(1.0), first=first, name="/a/long/way/to/rates.csv")
    text = fan_chart(backtest.run(given, backtest.course_of(given, (300.0,)), "last"), given)
    assert label in text
    assert ">last on rates.csv<" in text


# ---------------------------------------------------------------- the command


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    file = tmp_path / "rates.csv.gz"
    write_rates(file, RateTrace("made", 0.0, 60.0, series(0.6).rates))
    return file


def test_json_has_the_contracts_keys_and_nothing_else_is_printed(rates: Path) -> None:
    ran = leadtime("forecast", str(rates), "--forecaster", "last", "--horizon-s", "300", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert {k: found[k] for k in ("version", "bin_s", "default_forecaster")} == {
        "version": 1,
        "bin_s": 60.0,
        "default_forecaster": ForecastSpec().forecaster,
    }
    (row,) = found["results"]
    assert set(row) == {"forecaster", "horizon_s", "pinball", "pinball_mean", "coverage", "update_ms", "fit_ms"}
    assert set(row["pinball"]) == set(row["coverage"]) == {"0.5", "0.9", "0.95", "0.99"}
    assert (row["forecaster"], row["horizon_s"], row["fit_ms"]) == ("last", 300.0, None)


def test_the_default_forecaster_is_judged_when_none_is_named(rates: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = leadtime("forecast", str(rates), "--horizon-s", "600", "--out", str(out))
    assert ran.code == 0
    assert ForecastSpec().forecaster in ran.out
    assert json.loads((out / "forecast.json").read_text())["results"][0]["horizon_s"] == 600.0
    assert (out / f"{ForecastSpec().forecaster}.svg").read_text().startswith("<svg")


def test_one_forecaster_alone_is_still_held_against_the_last_value(rates: Path, tmp_path: Path) -> None:
    words = ("forecast", str(rates), "--horizon-s", "600", "--forecaster", "holt", "--out", str(tmp_path))
    ran = leadtime(*words)
    (row,) = [line.split() for line in ran.out.splitlines() if line.split()[:2] == ["600", "holt"]]
    both = [json.loads(leadtime("forecast", *words[1:4], "--forecaster", f, "--json").out) for f in ("holt", "last")]
    holt, last = (document["results"][0]["pinball_mean"] for document in both)
    assert row[3] == f"{holt / last:.3f}"
    assert "600  last" not in ran.out
    assert [r["forecaster"] for r in json.loads((tmp_path / "forecast.json").read_text())["results"]] == ["holt"]
    assert not (tmp_path / "last.svg").exists()


def test_it_says_how_much_is_done_before_the_first_tenth_is() -> None:
    told: list[float] = []
    given = series(0.6)
    backtest.run(given, backtest.course_of(given, (300.0,)), "last", told.append)
    assert told == sorted(told)
    assert told[0] == 0
    assert 0 < told[1] < 0.1
    assert told[-1] > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--horizon-s", "30"), "--horizon-s 30: allowed: at least the bin's width, 60 s"),
        (("--forecaster", "holtt"), "forecaster 'holtt': unknown; did you mean 'holt'?"),
        (("--bin-s", "50"), "--bin-s 50: allowed: a multiple of the file's bins of 60 s"),
    ],
)
def test_bad_input_is_one_clear_line(rates: Path, words: tuple[str, ...], message: str) -> None:
    ran = leadtime("forecast", str(rates), *words)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    ran = leadtime("forecast", str(tmp_path / "none.csv"))
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "no such file" in ran.err
