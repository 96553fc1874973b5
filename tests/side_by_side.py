"""All tests but those of a cluster, in two processes: those with a real local Ray, which mostly wait, and all others.


    python -m tests.side_by_side [PYTEST ARGUMENTS]

One real Ray at a time, and two cores are enough. What the tests with Ray say is printed when the others have ended.
The exit status is pytest's own: 0 when both are green, else that of the first that is not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile


def main(arguments: list[str]) -> int:
    """Run both and print both; pytest's status."""
    pytest = [sys.executable, "-m", "pytest", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(
            [*pytest, "-m", "ray and not cluster"], stdout=said, stderr=subprocess.STDOUT
        ) as with_ray:
            try:
                others = subprocess.run([*pytest, "-m", "not ray and not cluster"], check=False).returncode
                beside = with_ray.wait()
            finally:
                with_ray.terminate()
        said.seek(0)
        print("== with a real local Ray", flush=True)
        print(said.read(), flush=True)
    return others or beside


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
