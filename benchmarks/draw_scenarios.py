"""Plays shipped scenarios under a few policies: a picture each for docs/scenario-results.md, and the rows of its table.

    python benchmarks/draw_scenarios.py NAME [--policies predictive,static,hpa_ongoing,ray_serve] [--out docs/pictures]

A picture shows the first deployments under the first policy: traffic (black), what running replicas can carry (grey),
the share of requests that missed their SLO (red). One seed, that of the scenario.
"""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path
from typing import Any

from autoscaler.common import svg as draw
from simulator.experiments.league import Job, Run, play

_WIDTH, _ROW, _LEFT = 900, 130, 60
_STYLE = (
    "text{font:12px sans-serif;fill:#454e5c}path{vector-effect:non-scaling-stroke;fill:none}.back{fill:#fff}"
    ".carry{fill:#5b6b8433}.line{stroke:#5b6b84}.traffic{stroke:#12161d;stroke-width:1.3}.missed{fill:#d5453b}"
)
_BINS = 180


def picture(name: str, run: Run) -> str:
    """A standalone SVG, a row for each deployment."""
    rows = [_row(key, run, i) for i, key in enumerate(list(run.strips)[:3])]
    height = _ROW * len(rows) + 24
    hours = run.document["duration_s"] / 3600
    clock = "".join(
        f'<text x="{_LEFT + (_WIDTH - _LEFT - 30) * i / 4:.0f}" y="{height - 6}">{hours * i / 4:.3g} h</text>'
        for i in range(5)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(name)} under {escape(run.job.policy)}"><style>{_STYLE}</style>'
        f'<rect class="back" width="{_WIDTH}" height="{height}"/>{"".join(rows)}{clock}</svg>\n'
    )


def _row(key: str, run: Run, index: int) -> str:
    strip, end_s = run.strips[key], run.document["duration_s"]
    each_rps = run.capacities_rps.get(key) or 0.0
    carried = [each_rps * n for n in strip.running]
    traffic = max(strip.arrivals_rps, default=0.0)
    top = draw.nice_ticks(0, max(traffic, min(max(carried, default=0.0), 1.3 * traffic), 1e-9))[-1]
    x, y = draw.Scale(0, end_s), draw.Scale(0, top, flip=True)
    can = [(x(t), y(v)) for t, v in draw.steps(draw.thin(strip.time_s, carried))]
    seen = [(x(t), y(v)) for t, v in draw.thin(strip.time_s, strip.arrivals_rps)]
    missed = draw.bins(strip.time_s, strip.slo_misses, 0, end_s, _BINS)
    tick_s = strip.time_s[1] - strip.time_s[0]
    arrived = draw.bins(strip.time_s, [r * tick_s for r in strip.arrivals_rps], 0, end_s, _BINS)
    shares = [min(m / max(a, m, 1e-9), 1.0) for m, a in zip(missed, arrived, strict=True)]
    width = 1000 / _BINS
    bars = [
        draw.box(i * width, 1000 * (1 - s), (i + 1) * width, 1000, "missed") for i, s in enumerate(shares) if s > 0.005
    ]
    shapes = (draw.area(can, 1000, "carry"), draw.line(can, "line"), *bars, draw.line(seen, "traffic"))
    top_px = index * _ROW
    plot = draw.svg(shapes, key).replace(
        "<svg ", f'<svg x="{_LEFT}" y="{top_px + 22}" width="{_WIDTH - _LEFT - 10}" height="{_ROW - 30}" ', 1
    )
    words = f"{escape(key)}: black traffic, grey what running replicas carry, red share that missed"
    return f'<text x="{_LEFT}" y="{top_px + 15}">{words}</text><text x="4" y="{top_px + 32}">{top:g} req/s</text>{plot}'


def table_rows(run: Run) -> list[str]:
    """A row of the run, and where several deployments share it one of each."""
    d = run.document
    note = "" if d["clairvoyant"] is False else " (knows the traffic)"
    missed = "" if d["reaches_target"] else ", misses the target"
    mean_gpus = d["gpu_hours"]["billed"] / (d["duration_s"] / 3600)
    rows = [
        f"| {run.job.policy}{note} | {d['cost_usd']:.2f} | {_within(d)}{missed} | {_waits(d)} | {mean_gpus:.1f} "
        f"| {100 * d['gpu_utilization_fraction']:.0f} % | {d['cost_usd_per_million_tokens']:.3g} "
        f"| {d['cold_starts_hidden']} / {d['cold_starts_exposed']} |"
    ]
    parts = d["deployments"].items() if len(d["deployments"]) > 1 else ()
    return rows + [f"| - {key} | | {_within(one)} | {_waits(one)} | | | | |" for key, one in parts]


def _within(d: dict[str, Any]) -> str:
    return f"{100 * d['slo_attainment_fraction']:.2f} %"


def _waits(d: dict[str, Any]) -> str:
    return f"{d['ttft_s']['p50']:.2f} / {d['ttft_s']['p99']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--policies", default="predictive,static,hpa_ongoing,ray_serve")
    parser.add_argument(
        "--set", action="append", default=[], help="a key of the scenario, as `leadtime simulate` takes it"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    for name in options.names:
        columns = "policy | USD | within SLO | TTFT p50 / p99 s | GPUs | busy | USD per M tokens | starts hidden / felt"
        print(f"{name}\n| {columns} |\n|{' --- |' * 8}")
        for i, policy in enumerate(options.policies.split(",")):
            run = play(Job(f"preset:{name}", tuple(options.set), policy, options.seed))
            print("\n".join(table_rows(run)), flush=True)
            if i == 0:
                (options.out / f"{name}.svg").write_text(picture(name, run))


if __name__ == "__main__":
    main()
