"""Kinds of a thing that register themselves: one file each in a folder, named as users name the kind.

To add one is to add its file: no list is edited. Files are imported when the folder is first asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

T = TypeVar("T")


def classes_in(package: str, base: type[T], besides: tuple[str, ...] = ("base",)) -> dict[str, type[T]]:
    """The one class of each file of a package that inherits `base`, by the file's name; `besides`: files of no kind.

    Errors: TypeError for a file with no such class, or with two.
    """
    found = {}
    for module_info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module_info.name in besides:
            continue
        module = importlib.import_module(f"{package}.{module_info.name}")
        own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
        kinds = [one for one in own if issubclass(one, base)]
        if len(kinds) != 1:
            raise TypeError(f"{module.__name__}: {len(kinds)} classes that inherit {base.__name__}; allowed: one")
        found[module_info.name] = kinds[0]
    return dict(sorted(found.items()))
