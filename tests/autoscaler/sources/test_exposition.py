"""The reader of metric pages: what it must find, what it must survive, and what it must not waste time on."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.types import Histogram
from autoscaler.sources import exposition, names
from autoscaler.sources.exposition import Memory, Sample, Series, parse

WANTED = frozenset({b"up", b"q_total", b"lat_bucket"})


def only(page: bytes) -> Sample:
    (sample,) = parse(page, WANTED)
    return sample


def test_a_plain_line_gives_name_labels_and_value() -> None:
    sample = only(b'up{app="chat",handle="h 1"} 3.5\n')
    assert (sample.name, dict(sample.labels), sample.value) == ("up", {"app": "chat", "handle": "h 1"}, 3.5)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"up 1", 1.0),
        (b"up{} 1", 1.0),
        (b'up {a="b"} 1', 1.0),
        (b'up{a="b",} 1', 1.0),
        (b"up 1e3 1700000000000", 1000.0),
        (b'up{a="b"} 7 # {trace="x"} 0.5 1700000000.0', 7.0),
        (b"up +Inf", math.inf),
        (b"up -Inf", -math.inf),
    ],
)
def test_every_legal_way_to_write_a_sample_is_read(line: bytes, value: float) -> None:
    assert only(line).value == value


def test_not_a_number_is_passed_on_as_it_is() -> None:
    value = only(b"up NaN").value
    assert isinstance(value, float)
    assert math.isnan(value)


def test_escapes_braces_and_commas_in_label_values_are_kept() -> None:
    sample = only(rb'up{a="x\\y\"z\n}{,=",b="2"} 1')
    assert dict(sample.labels) == {"a": 'x\\y"z\n}{,=', "b": "2"}


@pytest.mark.parametrize(
    "garbage",
    [b"up", b"up{", b'up{a="b" 1', b'up{a="b"}', b"up one", b"up 1_0", b"\xff\xfe", b"<html>", b"# TYPE up gauge", b""],
)
def test_a_garbage_line_is_skipped_and_its_neighbours_are_read(garbage: bytes) -> None:
    values = [sample.value for sample in parse(b'up{n="1"} 1\n' + garbage + b'\nup{n="2"} 2', WANTED)]
    assert values == [1.0, 2.0]


def test_other_metrics_are_left_out_even_with_a_common_beginning() -> None:
    assert parse(b"upper 1\nq 2\nq_total_created 3\nq_total 4\n", WANTED)[0].value == 4.0


def test_buckets_become_one_histogram_in_ascending_order() -> None:
    page = b"""lat_bucket{app="a",le="1.0"} 3
lat_bucket{app="b",le="0.5"} 1
lat_bucket{app="a",le="+Inf"} 9
lat_bucket{app="a",le="0.5"} 2
lat_bucket{app="b",le="+Inf"} 1
"""
    found = {sample.labels["app"]: sample.value for sample in parse(page, WANTED)}
    assert found == {
        "a": Histogram((0.5, 1.0, math.inf), (2.0, 3.0, 9.0)),
        "b": Histogram((0.5, math.inf), (1.0, 1.0)),
    }


def test_a_histogram_that_was_cut_off_is_left_out() -> None:
    assert parse(b'lat_bucket{le="0.5"} 1\nlat_bucket{le="1.0"} 2\n', WANTED) == []


def test_a_series_id_tells_processes_apart_and_ignores_what_says_nothing() -> None:
    base = {"handle": "h", "WorkerId": "w1", "SessionName": "s1"}
    one = Series("up", base).id
    assert one == Series("q_total", base | {"Version": "2", "otel_scope_name": "x", "NodeAddress": "10.0.0.1"}).id
    assert one != Series("up", base | {"WorkerId": "w2"}).id
    assert one != Series("up", base | {"SessionName": "s2"}).id


def test_a_memory_gives_the_same_series_again_and_forgets_those_that_went() -> None:
    memory = Memory()
    first = parse(b'up{a="1"} 1\nup{a="2"} 1\n', WANTED, memory)
    second = parse(b'up{a="1"} 2\n', WANTED, memory)
    assert second[0].series is first[0].series
    assert list(memory.by_raw) == [b'up{a="1"']


@given(st.binary(max_size=200))
def test_no_page_makes_it_raise(page: bytes) -> None:
    parse(page, WANTED)
    parse(b"up{" + page + b"} 1", WANTED)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_labels_survive_writing_and_reading(labels: dict[str, str]) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    labels = {name: value.replace("\r", " ") for name, value in labels.items() if name != "le"}
    line = "up{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "} 1"
    assert dict(only(line.encode()).labels) == labels


def test_of_a_page_of_one_megabyte_only_wanted_lines_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_apart = []
    monkeypatch.setattr(exposition, "_LINE", Counted(exposition._LINE, taken_apart))
    labels_read = []
    monkeypatch.setattr(exposition, "_LABEL", Counted(exposition._LABEL, labels_read))
    others = b"".join(b'ray_other_total{node="n%d",worker="w%d"} %d\n' % (i, i, i) for i in range(30_000))
    wanted = b"".join(b'up{app="a%d"} 1\n' % i for i in range(20))
    assert len(others) > 1_000_000
    memory = Memory()
    assert len(parse(others + wanted + others, WANTED, memory)) == 20
    assert (len(taken_apart), len(labels_read)) == (20, 20)
    assert len(parse(others + wanted, WANTED, memory)) == 20
    assert (len(taken_apart), len(labels_read)) == (40, 20)  # labels that were read once are known


class Counted:
    """A compiled pattern that notes what it is asked to read."""

    def __init__(self, pattern: re.Pattern[bytes], asked: list[bytes]) -> None:
        self._pattern, self._asked = pattern, asked

    def match(self, text: bytes) -> re.Match[bytes] | None:
        self._asked.append(text)
        return self._pattern.match(text)

    def findall(self, text: bytes) -> list[tuple[bytes, bytes]]:
        self._asked.append(text)
        return self._pattern.findall(text)


def test_a_series_that_is_there_twice_with_two_values_is_left_out() -> None:
    """Halved by the second line it would look like half of the requests, for ever."""
    of, by = '{application="a",deployment="d",handle="%s"}', '{ReplicaId="%s",le="%s"}'
    lines = [f"{names.SERVE_ROUTED}{of % handle} {value}" for handle, value in (("x", 8), ("y", 6), ("x", 4), ("y", 6))]
    for replica, edge, value in (("r", "+Inf", 8), ("r", "+Inf", 4), ("s", "+Inf", 3), ("s", "+Inf", 3)):
        lines.append(f"{names.VLLM_TTFT_BUCKET}{by % (replica, edge)} {value}")
    found = parse("\n".join(lines).encode(), names.NAMES)
    assert {one.labels.get("handle") or one.labels["ReplicaId"] for one in found} == {"y", "s"}
