"""Trace files: what is read, and every way in which a file can be wrong is one line that names the row."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from autoscaler.common.errors import TraceError
from simulator.workload import traces
from simulator.workload.traces import RateTrace, kind_of, read_rates, read_requests, write_rates, write_requests

REQUESTS = "timestamp_s,prompt_tokens,output_tokens\n"
SHARED = Path(__file__).parents[4] / "shared" / "traces"


def file(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_requests_are_read_with_their_optional_columns(tmp_path: Path) -> None:
    rows = "timestamp_s,prompt_tokens,output_tokens,deployment,cached_prompt_tokens\n0,5,6,a/b,2\n1.5,7,8,c/d,0\n"
    trace = read_requests(file(tmp_path, rows, "trace.csv.gz"))
    assert trace.time_s.tolist() == [0.0, 1.5]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([5, 7], [6, 8])
    assert trace.cached_prompt_tokens is not None
    assert trace.cached_prompt_tokens.tolist() == [2, 0]
    assert trace.deployment is not None
    assert trace.deployment.tolist() == ["a/b", "c/d"]


def test_rates_know_their_bin_width(tmp_path: Path) -> None:
    trace = read_rates(file(tmp_path, "timestamp_s,rps,output_tokens\n60,1,10\n120,2,20\n180,0,30\n"))
    assert (trace.start_s, trace.bin_s, trace.end_s) == (60.0, 60.0, 240.0)
    assert trace.output_tokens is not None
    assert trace.output_tokens.tolist() == [10.0, 20.0, 30.0]


RATES = "timestamp_s,rps\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        (REQUESTS, "no rows after the header"),
        ("when,prompt_tokens,output_tokens\n0,1,1\n", "row 1: unknown column 'when'"),
        (REQUESTS + "2026-11-16T00:00:00Z,1,1\nlunch,1,1\n", "row 3: timestamp_s: 'lunch' is not a number"),
        ("timestamp_s,prompt_tokens,output_tokens,colour\n0,1,1,3\n", "row 1: unknown column 'colour'"),
        (REQUESTS + "1,1,1\n1700000000000,1,1\n", "row 3: timestamp_s: 1700000000000; allowed: at most 100000000000"),
        (REQUESTS + "1e300,1,1\n", "row 2: timestamp_s: 1e+300; allowed: at most 100000000000"),
        (REQUESTS + "0,1,1\n2,1,1\n1,1,1\n", "row 4: timestamp_s: 1 after 2"),
        (REQUESTS + "0,1,1\n1,nan,1\n", "row 3: prompt_tokens: 'nan'; allowed: a finite number"),
        (REQUESTS + "0,1,1\n1,-4,1\n", "row 3: prompt_tokens: -4"),
        (REQUESTS + "0,1,1\n1,4.5,1\n", "row 3: prompt_tokens: 4.5; allowed: a whole number"),
        (REQUESTS + "-1,1,1\n", "row 2: timestamp_s: -1"),
        (REQUESTS + "0,1,1\n1,,1\n", "row 3: prompt_tokens: '' is not a number"),
        (REQUESTS + "0,1,1\n\n1,x,1\n", "row 4: prompt_tokens: 'x' is not a number"),
        (REQUESTS + "0,1,1\n1,1\n", "row 3: 2 columns, the header has 3"),
        (
            "timestamp_s,prompt_tokens,output_tokens,cached_prompt_tokens\n0,1,1,2\n",
            "row 2: cached_prompt_tokens is larger",
        ),
    ],
)
def test_a_bad_requests_file_is_one_line_naming_file_and_row(tmp_path: Path, text: str, said: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(TraceError) as error:
        read_requests(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RATES + "0,1\n", "one row only"),
        (RATES + "0,1\n60,-2\n120,1\n", "row 3: rps: -2"),
        (RATES + "0,1\n60,inf\n", "row 3: rps: 'inf'"),
        (RATES + "0,1\n60,1\n170,1\n", "row 4: timestamp_s: 170 comes 110 s after the row before"),
        (RATES + "0,1\n60,1\n180,1\n300,1\n", "row 4: timestamp_s: 180 comes 120 s after the row before"),
        (
            RATES + "0,1\n1,1\n2,1\n1700000000,1\n",
            "row 5: timestamp_s: 1700000000 comes 1.7e+09 s after the row before; allowed: at most 10000000 bins",
        ),
        (RATES + "0,1\n0,1\n", "allowed: bins of one width"),
        (RATES + "120,1\n60,1\n", "row 3: timestamp_s: 60 after 120"),
    ],
)
def test_a_bad_rates_file_is_one_line_naming_file_and_row(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError, match=r"trace\.csv") as error:
        read_rates(file(tmp_path, text))
    assert said in str(error.value)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        read_requests(tmp_path / "nothing.csv")
    damaged = tmp_path / "damaged.csv.gz"
    damaged.write_bytes(gzip.compress(b"timestamp_s,rps\n0,1\n60,1\n")[:20])
    with pytest.raises(TraceError, match="cannot be read"):
        read_rates(damaged)


def test_what_lies_past_the_cut_is_not_even_parsed(tmp_path: Path) -> None:
    good = RATES + "0,1\n60,2\n120,3\n"
    whole = read_rates(file(tmp_path, good + "180,4\n240,5\n"), before_s=180.0)
    for garbage in ("180,nonsense\n", "180,4\n7,-3\n;;\n", "180\n"):
        cut = read_rates(file(tmp_path, good + garbage), before_s=180.0)
        assert cut.rps.tolist() == whole.rps.tolist() == [1.0, 2.0, 3.0]


def test_a_bin_that_reaches_past_the_cut_is_left_out(tmp_path: Path) -> None:
    assert read_rates(file(tmp_path, RATES + "0,1\n60,2\n120,3\n"), before_s=150.0).rps.tolist() == [1.0, 2.0]


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    rates = RateTrace("made", 0.0, 10.0, np.array([1.0, 2.5, 0.25]))
    write_rates(tmp_path / "rates.csv.gz", rates)
    assert read_rates(tmp_path / "rates.csv.gz").rps.tolist() == rates.rps.tolist()
    write_requests(tmp_path / "r.csv", np.array([0.0, 1.25]), np.array([3, 4], np.int32), np.array([5, 6], np.int32))
    assert read_requests(tmp_path / "r.csv").time_s.tolist() == [0.0, 1.25]
    assert (kind_of(tmp_path / "rates.csv.gz"), kind_of(tmp_path / "r.csv")) == ("rates", "requests")


def test_a_sound_file_is_read_in_no_python_loop_over_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looped(text: str) -> list[tuple[int, list[str]]]:
        raise AssertionError("row by row is for files that are wrong")

    monkeypatch.setattr(traces, "_numbered_rows", looped)
    text = "".join(f"{i / 100:.2f},{i % 900 + 1},{i % 300 + 1}\n" for i in range(2000))
    assert len(read_requests(file(tmp_path, REQUESTS + text)).time_s) == 2000


@pytest.mark.skipif(not SHARED.exists(), reason="the development traces are not here")
def test_the_development_traces_can_be_read() -> None:
    for path in sorted(SHARED.glob("requests/*.gz")):
        assert len(read_requests(path).time_s) > 3000
    for path in sorted(SHARED.glob("rates/*.gz")):
        name = path.name.removesuffix(".csv.gz")
        assert read_rates(path).bin_s == pytest.approx(float(name.rpartition("_")[2].removesuffix("s")), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("0,1,1\n1_0,1,1\n", "row 3: timestamp_s: '1_0'; allowed: digits"),
        ("0,1,1\n\u0663,1,1\n", "row 3: timestamp_s: '\u0663'; allowed: digits"),
        ('0,1,1\n1,"1",1\n', "row 3: a cell in quotes"),
        ("0,1,1\n1,1,1,9\n", "row 3: 4 columns, the header has 3"),
    ],
)
def test_cells_that_only_look_like_numbers_are_named_with_their_row(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(TraceError) as error:
        read_requests(file(tmp_path, REQUESTS + rows))
    assert said in str(error.value)


@pytest.mark.parametrize("rows", ["0,1\n10,1e12\n20,1\n", "0,1\n1e10,1\n"])
def test_a_bin_with_more_requests_than_memory_holds_is_refused(tmp_path: Path, rows: str) -> None:
    with pytest.raises(TraceError, match=r"row [23]: rps: .*; allowed: at most 100000000 requests in a bin"):
        read_rates(file(tmp_path, RATES + rows))


def test_an_unknown_column_is_told_with_the_columns_of_its_kind(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"'foo'; the header must be timestamp_s,rps \(and optionally prompt_tokens"):
        kind_of(file(tmp_path, "timestamp_s,rps,foo\n0,1,1\n60,1,1\n"))
    with pytest.raises(TraceError, match="'colour'; the header must be timestamp_s,prompt_tokens,output_tokens"):
        kind_of(file(tmp_path, "timestamp_s,colour\n0,1\n"))


@pytest.mark.parametrize(
    "rows",
    [
        "timestamp_s,rps\n0,2\n60,4\n240,10\n300,5\n360,5\n",
        "timestamp_s,rps\n0,2\n60,4\n120,\n180,NaN\n240,10\n300,5\n360,5\n",
        "rps,time\n2,0\n4,60\nnull,120\n,180\n10,240\n5,300\n5,360\n",
    ],
)
def test_bins_that_were_not_recorded_are_gaps_with_a_line_through_them(tmp_path: Path, rows: str) -> None:
    trace = read_rates(file(tmp_path, rows))
    assert trace.gaps == ((2, 4),)
    assert trace.gap_s == 120.0
    assert trace.rps.tolist() == [2.0, 4.0, 6.0, 8.0, 10.0, 5.0, 5.0]
    assert trace.recorded.tolist() == [True, True, False, False, True, True, True]


def test_a_gap_has_lengths_between_those_of_its_neighbours(tmp_path: Path) -> None:
    trace = read_rates(file(tmp_path, "timestamp_s,rps,output_tokens\n0,1,10\n60,1,20\n180,1,40\n240,1,40\n"))
    assert trace.output_tokens is not None
    assert trace.output_tokens.tolist() == [10.0, 20.0, 30.0, 40.0, 40.0]


@pytest.mark.parametrize(
    "times",
    [
        ("2026-11-16T00:00:00Z", "2026-11-16T01:01:00.5+01:00"),
        ("2026-11-16 00:00:00", "2026-11-16 00:01:00.5"),
        ("1794787200", "1794787260.5"),
    ],
)
def test_times_are_dates_or_seconds_since_1970(tmp_path: Path, times: tuple[str, str]) -> None:
    trace = read_requests(file(tmp_path, REQUESTS + "".join(f"{at},5,6\n" for at in times)))
    assert trace.time_s.tolist() == [1794787200.0, 1794787260.5]


def test_json_lines_are_read_like_the_same_rows_of_csv(tmp_path: Path) -> None:
    text = (
        '{"time": "2026-11-16T00:00:00Z", "prompt_tokens": 5, "output_tokens": 6, "deployment": "a/b"}\n\n'
        '{"time": "2026-11-16T00:00:02Z", "prompt_tokens": 7, "output_tokens": 8, "deployment": "c/d"}\n'
    )
    trace = read_requests(file(tmp_path, text, "requests.jsonl.gz"))
    assert trace.time_s.tolist() == [1794787200.0, 1794787202.0]
    assert trace.output_tokens.tolist() == [6, 8]
    assert trace.deployment is not None
    assert trace.deployment.tolist() == ["a/b", "c/d"]
    lines = "".join(f'{{"timestamp_s":{10 * i},"rps":{rps}}}\n' for i, rps in enumerate((1, 1, "null", 2, 2)))
    rates = read_rates(file(tmp_path, lines, "r.ndjson"))
    assert (rates.bin_s, rates.rps.tolist(), rates.gaps) == (10.0, [1.0, 1.0, 1.5, 2.0, 2.0], ((2, 3),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n", "row 1: not JSON; allowed: one JSON object a line"),
        ("[1]\n", "row 1: allowed: one JSON object a line"),
        ('{"timestamp_s":0,"rps":1}\n{"timestamp_s":60,"rate":1}\n', "row 2: key 'rate', which the first row does not"),
        ('{"timestamp_s":0,"rps":1}\n{"timestamp_s":60,"rps":-2}\n', "row 2: rps: -2"),
        ('{"timestamp_s":0,"rps":1}\n{"timestamp_s":60,"rps":"x"}\n', "row 2: rps: 'x' is not a number"),
        ('{"timestamp_s":0,"rps":1}\n{"timestamp_s":60,"rps":"1,2"}\n', "row 2: rps: '1,2' is not a number"),
    ],
)
def test_a_bad_file_of_json_lines_is_one_line_naming_file_and_row(tmp_path: Path, text: str, said: str) -> None:
    path = file(tmp_path, text, "trace.jsonl")
    with pytest.raises(TraceError) as error:
        read_rates(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
