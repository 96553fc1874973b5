"""How large the packages of the image are: `python -m benchmarks.image_packages SITE-PACKAGES` prints a table.

SITE-PACKAGES is that of an environment with requirements-image.lock in it. Sizes are of files as installed, MB of 10^6.
"""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each distribution's files."""
    found: dict[str, int] = {}
    for one in distributions(path=[str(folder)]):
        files = [Path(str(one.locate_file(file))) for file in one.files or ()]
        name = (one.metadata["Name"] or "?").lower()
        found[name] = found.get(name, 0) + sum(file.stat().st_size for file in files if file.is_file())
    return found


def main(folder: str) -> int:
    found = sizes(Path(folder))
    total, shown = sum(found.values()), 0
    sys.stdout.write("| package | MB | share |\n| --- | --- | --- |\n")
    for name, size in sorted(found.items(), key=lambda item: -item[1])[:15]:
        shown += size
        sys.stdout.write(f"| {name} | {size / 1e6:.1f} | {size / total:.0%} |\n")
    sys.stdout.write(f"| {len(found) - 15} others | {(total - shown) / 1e6:.1f} | {(total - shown) / total:.0%} |\n")
    sys.stdout.write(f"| all {len(found)} | {total / 1e6:.1f} | |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
