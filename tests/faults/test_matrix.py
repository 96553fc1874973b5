"""Rows of the fault matrix (docs/faults.md): `make faults` plays all of them, `make test` a fixed tenth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.expected import EXPECTED_FAILURES
from tests.faults.invariants import breaches
from tests.faults.matrix import all_rows, in_every_run
from tests.faults.play import Play, played
from tests.faults.row import Fault, Row
from tests.faults.rows_metrics import load
from tests.faults.table import ROWS_PAGE, names_on_page


@pytest.fixture(scope="module")
def pasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pasts")


async def test_what_must_hold_holds(row: Row, tmp_path: Path, pasts: Path, request: pytest.FixtureRequest) -> None:
    play = await played(row, tmp_path, pasts, request.config.getoption("faults_seed"))
    found = breaches(play)
    if row.name in EXPECTED_FAILURES:
        assert found, "it holds now: take it off EXPECTED_FAILURES"
        pytest.xfail("; ".join(found))
    assert not found, "\n".join((*found, *(f"{line.tick}: {line.text}" for line in play.lines[-60:])))


async def test_a_row_that_is_scaled_down_and_whose_process_ends_does_not_hold(tmp_path: Path, pasts: Path) -> None:
    def end(play: Play) -> None:
        if play.tick == play.first_faulty + 10:
            play.program.kill()

    asked = Row("quiet", Fault(begin=load(0.0), tick=end), "stays", minutes=12.0, told=("nothing",), others=True)
    found = "; ".join(breaches(await played(asked, tmp_path, pasts)))
    assert "the process ended by itself with -9" in found
    assert "scaled down on what is not known: 6 -> " in found
    assert "not told: none of nothing" in found


def test_the_matrix_has_more_than_a_hundred_rows_and_a_part_of_each_topic_is_played_each_time() -> None:
    rows = all_rows()
    assert len(rows) >= 100
    assert {row.topic for row in rows.values()} == {r.topic for name, r in rows.items() if in_every_run(name)}
    assert set(rows) >= EXPECTED_FAILURES
    assert set(all_rows(seed=7)) == set(rows)


def test_the_page_lists_all_rows() -> None:
    assert names_on_page(ROWS_PAGE.read_text(encoding="utf-8")) == list(all_rows())
