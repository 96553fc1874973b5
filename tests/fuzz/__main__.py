"""`make fuzz`: every parser of others' bytes for some minutes, by mutation of good samples.

One parser can be fuzzed guided by coverage where atheris is installed (--atheris --only NAME).

    python -m tests.fuzz [--seconds 600] [--seed 1] [--only NAME]

Exit 1 with the input (as Python bytes) at the first crash or hang of each parser.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import random
import signal
import sys
import time
import traceback

from tests.fuzz.mutation import mutated
from tests.fuzz.parsers import DECLARED, Parser, all_parsers

HANG_S = 10.0


class Hang(BaseException):
    """A parser took too long."""


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.fuzz")
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--only", metavar="NAME", help="one parser")
    words.add_argument("--atheris", action="store_true", help="guided by coverage; needs atheris and --only")
    args = words.parse_args()
    parsers = [parser for parser in all_parsers() if args.only in (None, parser.name)]
    if args.atheris:
        return _guided(parsers[0], args.seconds)
    signal.signal(signal.SIGALRM, _ring)
    chance, counts = random.Random(args.seed), collections.Counter[str]()
    failed: dict[str, str] = {}
    end_s = time.monotonic() + args.seconds
    while time.monotonic() < end_s and len(failed) < len(parsers):
        for parser in parsers:
            if parser.name in failed:
                continue
            for _ in range(50):
                data = mutated(parser.good, parser.structured, chance)
                counts[parser.name] += 1
                if (why := _tried(parser, data)) is not None:
                    failed[parser.name] = why
                    sys.stdout.write(f"{parser.name}: {why}\n  input: {data[:4000]!r}\n")
                    break
    for name, count in sorted(counts.items()):
        sys.stdout.write(f"{name:<26} {count:>9,} inputs  {'FAILED' if name in failed else 'ok'}\n")
    sys.stdout.write(f"{sum(counts.values()):,} inputs, {len(failed)} of {len(parsers)} parsers failed\n")
    return 1 if failed else 0


def _ring(number: int, frame: object) -> None:
    raise Hang


def _tried(parser: Parser, data: bytes) -> str | None:
    """What went wrong, if anything did."""
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        parser.run(data)
    except DECLARED:
        pass
    except Hang:
        return f"a hang: more than {HANG_S:g} s"
    except Exception:
        return traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    return None


def _guided(parser: Parser, seconds: float) -> int:
    import atheris  # type: ignore[import-not-found]

    def one(data: bytes) -> None:
        with contextlib.suppress(DECLARED):
            parser.run(data)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds:g}", f"-timeout={HANG_S:g}", "-rss_limit_mb=2048"], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
