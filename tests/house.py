"""`python -m tests.house`: rules for the code that no linter knows. Part of `make check`.

- Words: names of modules, classes, functions, arguments and fields use the field's terms (WORDS; prose is free).
- Ports: nothing is asked whether it has an attribute, or of which class it is, in place of a declared port (PROBES).
- Reach: so many files, and no more, are imported by one decision (REACH), statically, lazy imports included.
- Circles: no module imports itself by way of others.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("autoscaler", "policies", "simulator", "leadtime")

WORDS: Mapping[str, str] = {
    "acting": "write_access",
    "asking": "policy_host",
    "board": "telemetry",
    "dear": "pool_cost",
    "dearer": "marginal_cost",
    "everybody": "fleet_context",
    "feel": "smoother",
    "felt": "effective",
    "heard": "scheduled",
    "hear": "scheduled_loads",
    "look": "context, observation",
    "looks": "contexts, observations",
    "nouns": "types",
    "outlook": "observe, forecast",
    "rehearse": "warm_start",
    "rehearsal": "warm_start",
    "rehearses": "wants_backtest",
    "sight": "observation",
    "spared": "cap_by_cost",
    "take_in": "ingest",
    "teach": "backtest",
}
"""Private words of this project's first months, and the terms to use instead."""

_SHAPE = "data of others may have any shape, and one line says so"
_PLUGIN = "a plug-in's class is checked here against the port, once, before anything calls it"
PROBES: Mapping[str, str] = {
    "autoscaler/actuators/ways/request_resources.py:_levels": _SHAPE,
    "autoscaler/cli/controller_api.py:_why": "urllib's errors have a reason or none",
    "autoscaler/cli/explain.py:run": _SHAPE,
    "autoscaler/cli/status.py:run": _SHAPE,
    "autoscaler/core/journal.py:decode_signals": _SHAPE,
    "autoscaler/core/observe.py:DeploymentTick.view": "filled open, then frozen: three times as fast (decision 0023)",
    "autoscaler/kubernetes/leader.py:lease_clock_s": "Linux only; other systems have no such clock",
    "autoscaler/kubernetes/wire.py:WatchStream.close": "urllib3 2.x has shutdown(), older ones have not",
    "autoscaler/settings/document/reading.py:_yaml_error": "PyYAML's errors have a mark or none",
    "autoscaler/sources/prometheus_samples.py:_series": _SHAPE,
    "autoscaler/sources/serve_config.py:parse_serve_config": "PyYAML may be built without libyaml",
    "policies/registry.py:_check": _PLUGIN,
    "policies/registry.py:create_policy": _PLUGIN,
    "policies/registry.py:options_of": _PLUGIN,
}
"""`file:function` that may use hasattr, getattr with a name in quotes, `__class__` or a handler of AttributeError."""

REACH = {
    "one decision": ("autoscaler.core.controller", 46),
    "a tick on a bare Ray": ("autoscaler.runtime.loop", 90),
    "a tick on Kubernetes": ("autoscaler.runtime.loop,autoscaler.wiring.kubernetes", 130),
}
"""What is imported, and in how many files at most (those that hold more than a docstring)."""


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What is named in a module: line and name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def private_words(name: str, file: str, tree: ast.AST) -> Iterator[str]:
    """Names in a module that are on the list."""
    last = name.rpartition(".")[2]
    for line, found in ((1, last), *identifiers(tree)):
        plain = found.strip("_").lower()
        if plain in WORDS:
            yield f"{file}:{line}: `{found}` is a private word; use: {WORDS[plain]}"


def probes(file: str, tree: ast.AST) -> Iterator[str]:
    """Where an object is asked what it can do, instead of a port saying it."""
    stack: list[tuple[ast.AST, str]] = [(tree, "module")]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node.name if inside == "module" else f"{inside}.{node.name}"
        what = _probe(node)
        if what and f"{file}:{inside}" not in PROBES:
            yield f"{file}:{node.lineno}: {what} in {inside} stands in for a port; declare the method"  # type: ignore[attr-defined]
        stack += [(child, inside) for child in ast.iter_child_nodes(node)]


def _probe(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
        if node.func.id == "hasattr" or (node.func.id == "getattr" and named):
            return node.func.id
    if isinstance(node, ast.ExceptHandler) and node.type is not None:
        names = {one.id for one in ast.walk(node.type) if isinstance(one, ast.Name)}
        if "AttributeError" in names:
            return "a handler of AttributeError"
    if isinstance(node, ast.Attribute) and node.attr == "__class__" and isinstance(node.ctx, ast.Store):
        return "an assignment of __class__"
    return ""


def imports(name: str, known: Mapping[str, Path], types_too: bool) -> set[str]:
    """Modules of ours that a module imports, anywhere in it; `types_too`: also what only the type checker sees."""
    tree = ast.parse(known[name].read_text(encoding="utf-8"))
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not types_too and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            hidden |= set(ast.walk(node))
    found = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                full = f"{node.module}.{one.name}"
                found.add(full if full in known else node.module)
    return found & known.keys()


def reached(starts: str, known: Mapping[str, Path]) -> set[str]:
    """Everything that importing these modules may import, their packages too."""
    seen: set[str] = set()
    left = starts.split(",")
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        above = name.rpartition(".")[0]
        left += [*imports(name, known, types_too=False), *([above] if above else [])]
    return seen


def circles(known: Mapping[str, Path]) -> list[list[str]]:
    """Groups of modules that import each other, for the type checker or at run time (Tarjan, Tarjan 1972)."""
    edges = {name: imports(name, known, types_too=True) - {name} for name in known}
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        path.append(name)
        for other in edges[name]:
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in path:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            group = path[path.index(name) :]
            del path[path.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in known:
        if name not in number:
            visit(name)
    return found


def holds_code(path: Path) -> bool:
    """More than a docstring."""
    return len(ast.parse(path.read_text(encoding="utf-8")).body) > 1


def problems() -> Iterator[str]:
    """One line for each breach."""
    known = modules()
    for name, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        file = path.relative_to(ROOT).as_posix()
        yield from private_words(name, file, tree)
        yield from probes(file, tree)
    for what, (starts, most) in REACH.items():
        files = sum(holds_code(known[name]) for name in reached(starts, known))
        if files > most:
            yield f"{what} ({starts}) imports {files} files; allowed: {most}"
    for group in circles(known):
        yield f"a circle of imports: {', '.join(group)}"


if __name__ == "__main__":
    lines = list(problems())
    known = modules()
    reach = ", ".join(
        f"{what} {sum(holds_code(known[name]) for name in reached(starts, known))} files"
        for what, (starts, _) in REACH.items()
    )
    print("\n".join(lines) or f"{len(known)} modules: words, ports and imports as the house has them ({reach})")
    sys.exit(bool(lines))
