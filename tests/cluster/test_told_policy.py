"""What a release on a real API server decides with, loaded as the controller loads it; that needs no server."""

from __future__ import annotations

from pathlib import Path

from policies.registry import create_policy
from tests.cluster.release import values


def test_the_policy_of_the_release_is_one_that_the_controller_takes(tmp_path: Path) -> None:
    given = values(tmp_path / "wants.json")
    for name, text in given["files"].items():
        (tmp_path / name).write_text(text)

    policy = create_policy(given["config"]["policy"]["name"], {}, tmp_path)

    assert policy.name == "told"
