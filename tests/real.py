"""Real parts that tests use: servers and tools of the system. Missing: a visible skip, or a failure where they must be.

`LEADTIME_REQUIRE_REAL=1` (CI) turns the skip into a failure, so that nothing goes untested unseen.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str, package: str) -> NoReturn:
    """Skip this test, naming the package that brings the part; fail where real parts are required."""
    words = f"{what} is not here: install {package}"
    if os.environ.get("LEADTIME_REQUIRE_REAL", "") not in ("", "0"):
        pytest.fail(words, pytrace=False)
    pytest.skip(words)


def require(part: str, package: str) -> str:
    """The path of a program, else `missing`."""
    found = shutil.which(part)
    if found is None:
        missing(part, package)
    return found
