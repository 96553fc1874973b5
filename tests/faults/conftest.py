"""How many rows are played: a fixed tenth, or all of them (`--faults all`), with the values of a seed."""

from __future__ import annotations

import pytest

from tests.faults.matrix import all_rows, in_every_run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", choices=("tenth", "all"), default="tenth", help="which rows of the matrix are played")
    parser.addoption("--faults-seed", type=int, default=0, help="another seed: the same kinds of faults, other values")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    rows = all_rows(option("faults_seed"))
    chosen = [row for name, row in rows.items() if option("faults") == "all" or in_every_run(name)]
    metafunc.parametrize("row", chosen, ids=[row.name for row in chosen])
