"""What `make audit` says: a package that could not be asked about is never counted as good."""

from __future__ import annotations

import json

from benchmarks.audit import verdict

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


def said(*packages: dict[str, object]) -> tuple[int, list[str]]:
    return verdict("x.lock", json.dumps({"dependencies": packages}), "")


def test_an_audit_says_what_is_weak_and_what_was_not_asked_about() -> None:
    assert said(GOOD) == (0, ["x.lock: 1 packages, none with a known weakness"])
    assert said(GOOD, BAD) == (1, ["b 2: PYSEC-1; mended in 3"])
    code, (line,) = said(GOOD, UNKNOWN)
    assert (code, line) == (2, "x.lock: 1 of 2 packages not audited, the advisory service did not answer for them: c")
    assert said(BAD, UNKNOWN)[0] == 1


def test_a_service_that_cannot_be_reached_is_told() -> None:
    code, (line,) = verdict("x.lock", "", "Traceback\nConnectionError: refused")
    assert (code, line) == (2, "x.lock: not audited: the advisory service cannot be asked: ConnectionError: refused")
