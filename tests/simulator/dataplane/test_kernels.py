"""What the cached machine code is known by."""

from __future__ import annotations

from pathlib import Path

import simulator
from simulator.engine.jit import kernel_sources

ROOT = Path(simulator.__file__).parent


def test_the_cache_key_covers_every_file_that_holds_kernels() -> None:
    """Whatever is compiled is marked `inner` or `entry`; the constants in it are layout's."""
    compiled = {path for path in ROOT.rglob("*.py") if "simulator.engine.jit import" in path.read_text("utf-8")}
    needed = compiled | {ROOT / "engine" / "layout.py"}
    assert len(needed) > 10
    assert needed - set(kernel_sources()) == set()


def test_every_file_of_the_cache_key_is_there() -> None:
    assert [path for path in kernel_sources() if not path.is_file()] == []
