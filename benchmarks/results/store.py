"""What is finished, by content: a run is found again by its scenario, traffic, policy, options, seed and policy's code.

A change of the simulator itself does not make old runs invalid here; the revision that made them is kept beside each,
and told in the table. `--fresh` begins anew.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from autoscaler.common.errors import LeadtimeError
from policies.registry import create_policy

ROOT = Path(__file__).resolve().parents[2]
_IMPORT = re.compile(r"^\s*from (policies[\w.]*) import", re.MULTILINE)
_NOUNS = ("policies.base", "policies.options", "autoscaler.core.policy_host")


class Store:
    """A folder of JSON files, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, key: str) -> bool:
        return (self.folder / f"{key}.json").is_file()

    def get(self, key: str) -> dict[str, Any] | None:
        path = self.folder / f"{key}.json"
        return _read(path) if path.is_file() else None

    def everything(self) -> list[dict[str, Any]]:
        """Whatever is there, also of settings that are no longer asked for."""
        return [_read(path) for path in sorted(self.folder.glob("*.json"))]

    def put(self, key: str, found: Mapping[str, Any]) -> None:
        write_whole(self.folder / f"{key}.json", json.dumps({**found, "revision": revision()}))


def write_whole(path: Path, text: str) -> None:
    """The file has all of the text or, if this is broken off, is as it was."""
    part = path.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    """One finished run. Errors: LeadtimeError for a file that this class has not written."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:  # not JSON, or not UTF-8
        found = None
    if not isinstance(found, dict):
        raise LeadtimeError(f"{path}: is no finished run any more; without the file it is played again")
    return found


def key_of(kind: str, scenario: Path, policy: str, *rest: Any) -> str:
    """Of a run, by everything that it depends on but the simulator's code."""
    content = json.dumps([kind, content_of(str(scenario)), policy, code_of(policy), *rest], sort_keys=True)
    return blake2b(content.encode(), digest_size=12).hexdigest()


@cache
def content_of(scenario: str) -> str:
    """A scenario with its traces' bytes instead of their paths."""
    text = Path(scenario).read_text("utf-8")
    document = yaml.safe_load(text)
    for d in document["deployments"]:
        path = Path(d["workload"]["rates"])
        d["workload"]["rates"] = blake2b(path.read_bytes(), digest_size=12).hexdigest()
    return json.dumps(document, sort_keys=True)


@cache
def code_of(policy: str) -> str:
    """What the policy's module and those of `policies` that it imports do, with the forecasters where it asks for a
    forecast. Neither words nor places count, nor the nouns that all policies speak.
    """
    made = create_policy(policy, {})
    todo, seen = [type(made).__module__], dict[str, str]()
    if made.forecast is not None:
        found = sorted((ROOT / "policies" / "forecasting").rglob("*.py"))
        todo += [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in found]
    while todo:
        name = todo.pop()
        base = ROOT / Path(*name.split("."))
        path = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if name in seen or _room(name) in _NOUNS or not path.is_file():
            continue
        text = path.read_text("utf-8")
        seen[name] = what_it_does(text)
        todo += _IMPORT.findall(text)
    return blake2b("".join(sorted(seen.values())).encode(), digest_size=8).hexdigest()


def _room(module: str) -> str:
    """The module, or the package right below `policies` that it is in."""
    return ".".join(module.split(".")[:2])


def what_it_does(text: str) -> str:
    """A hash of a module without comments, strings that nobody reads, and imports."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _says_nothing(s)]  # type: ignore[attr-defined]
    return blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()


def _says_nothing(statement: ast.AST) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Import | ast.ImportFrom)


@cache
def revision() -> str:
    """The commit, with + where the tree was changed."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"
