"""How quick the readers of metric pages and of traces are, against plain Python over the same text.

    python benchmarks/bench_reading.py

A page of one megabyte with few wanted lines: for the first time, again with the series known, and cut into lines by
Python alone. A trace of 200,000 requests: by the reader, and its cells turned into numbers one by one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from autoscaler.sources.exposition import Memory, parse
from simulator.workload.traces import read_requests

_ROUNDS = 5
_ROWS = 200_000


def best_s(work: Callable[[], object]) -> float:
    """Processor time of the quickest round."""
    found = []
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        work()
        found.append(time.process_time() - began_s)
    return min(found)


def page() -> bytes:
    others = b"".join(b'ray_other_total{node="n%d",worker="w%d"} %d\n' % (i, i, i) for i in range(24_000))
    return others + b"".join(b'up{app="a%d",replica="r%d"} 1\n' % (i, i) for i in range(200))


def trace() -> str:
    rows = "".join(f"{i / 100:.2f},{i % 900 + 1},{i % 300 + 1}\n" for i in range(_ROWS))
    return f"timestamp_s,prompt_tokens,output_tokens\n{rows}"


def cell_by_cell(text: str) -> int:
    return sum(len([float(cell) for cell in line.split(",")]) for line in text.splitlines()[1:])


def row(what: str, seconds: float, measure_s: float) -> None:
    print(f"{what:<44} {seconds * 1e3:>8.2f} {seconds / measure_s:>8.2f}")


def main() -> None:
    print(f"{'':<44} {'cpu_ms':>8} {'ratio':>8}")
    metrics, wanted, memory = page(), frozenset({b"up"}), Memory()
    lines_s = best_s(metrics.splitlines)
    row(f"page of {len(metrics) / 1e6:.2f} MB, cut into lines", lines_s, lines_s)
    row("page, nothing known", best_s(lambda: parse(metrics, wanted)), lines_s)
    row("page, its series known", best_s(lambda: parse(metrics, wanted, memory)), lines_s)
    text = trace()
    cells_s = best_s(lambda: cell_by_cell(text))
    row(f"{_ROWS} requests, cell by cell", cells_s, cells_s)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.csv"
        path.write_text(text, encoding="utf-8")
        row("requests, by the reader", best_s(lambda: read_requests(path)), cells_s)


if __name__ == "__main__":
    main()
