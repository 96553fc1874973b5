"""`make audit`: pip-audit over a lock, with a plain answer where the advisory service did not answer for a package.

Exit 0: every package was asked about and none has a known weakness. 1: some have one. 2: it could not be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def main(lock: str) -> int:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pip-audit")), "-r", lock, "--require-hashes", "--disable-pip",
         "-f", "json", "--progress-spinner", "off", "--timeout", "15"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    code, lines = verdict(lock, done.stdout, done.stderr)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


def verdict(lock: str, answer: str, complaint: str) -> tuple[int, list[str]]:
    """The exit code and what to say, of pip-audit's JSON and its standard error."""
    try:
        packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (complaint.strip().splitlines() or ["no answer"])[-1]
        return 2, [f"{lock}: not audited: the advisory service cannot be asked: {last}"]
    found = [(one, weakness) for one in packages for weakness in one.get("vulns", ())]
    lines = [
        f"{one['name']} {one['version']}: {weakness['id']}; "
        f"mended in {', '.join(weakness['fix_versions']) or 'none yet'}"
        for one, weakness in found
    ]
    left_out = [one for one in packages if "skip_reason" in one]
    if left_out:
        names = ", ".join(one["name"] for one in left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        lines.append(
            f"{lock}: {len(left_out)} of {len(packages)} packages not audited, the advisory service did not answer for "
            f"them: {names}"
        )
    if not lines:
        return 0, [f"{lock}: {len(packages)} packages, none with a known weakness"]
    return 1 if found else 2, lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
