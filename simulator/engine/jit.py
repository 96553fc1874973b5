"""Compiles the kernels of the data plane with numba, or leaves them plain Python where numba is not installed.

Only the engine's files and the router's import this, so that importing the simulator's other modules never loads numba.
Inner functions are compiled into the entry that calls them; only entries are cached on disk. numba's cache looks at the
file of the entry alone, so the entries are closures over a digest of all kernels: a change in any of them recompiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

numba: Any
try:
    import numba
except ImportError:  # the same functions, some hundred times slower
    numba = None

Function = TypeVar("Function", bound=Callable[..., Any])

COMPILED = numba is not None
"""Whether kernels run as machine code."""


def inner(function: Function) -> Function:
    """A function that only other kernels call."""
    if numba is None:
        return function
    return cast(Function, numba.njit(function, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True))


def entry(function: Function) -> Function:
    """A function that Python calls; its machine code is kept beside the source (or in numba's cache folder)."""
    if numba is None:
        return function
    try:
        return cast(Function, numba.njit(function, cache=True, error_model="numpy"))
    except RuntimeError:  # no folder to keep it in: compile every time
        return cast(Function, numba.njit(function, error_model="numpy"))


def kernel_sources() -> list[Path]:
    """Every file that holds kernels: this room's, and those of the router in front of its engines."""
    here = Path(__file__).parent
    return [*sorted(here.glob("*.py")), *(here.parent / "dataplane" / name for name in ("kernels.py", "router.py"))]


def sources_digest() -> int:
    """Of every file that holds kernels: what the cached machine code depends on."""
    text = b"".join(path.read_bytes() for path in kernel_sources())
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
