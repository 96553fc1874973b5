"""The flagship's sizing on the long development traces, in a fluid fleet: cost, misses, and what each part is worth.

    python benchmarks/attainment.py [--traces WORD,..] [--lead-times 60,480] [--peaks 4,24] [--ablate] [--hpa]

Costs are multiples of what somebody pays who knows the traffic and misses nothing. `--hpa` adds the cheapest of 21 HPA
settings chosen in hindsight on each trace; `--ablate` the flagship minus one part at a time, in the same replay.
Forecasts (a minute for a week of a trace) and results are kept in DIR and taken from there until the code changes, so
an interrupted run goes on. About ten seconds a case.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.attainment_fluid import Figures, Variant, case_of, hpa, material, play
from policies.shadow.price import PriceSettings

ROOT = Path(__file__).parents[1]
FULL = "flagship"
SETTINGS = PriceSettings()
VARIANTS = (
    Variant(FULL),
    Variant("no clock rules", without=("clock", "clock vendor")),
    Variant("no forecast rules", without=("hold", "early", "keep")),
    Variant("no keep rules", without=("keep",)),
    Variant("no newsvendor rules", without=("clock vendor",)),
    Variant("no steady rules", without=("steady",)),
    Variant("no reactive rules", without=("reactive",)),
    Variant("only reactive rules", without=("hold", "early", "keep", "clock", "clock vendor", "steady")),
    Variant("no cost of a start", replace(SETTINGS, start_cost=0.0)),
    Variant("no cap on the price", replace(SETTINGS, cap=1e6)),
    Variant("cap 1 instead of 2", replace(SETTINGS, cap=1.0)),
    Variant("no doubt about single events", replace(SETTINGS, doubt_days=0.0)),
    Variant("steers for the whole target", replace(SETTINGS, aim_share=1.0)),
    Variant("target 0.95", target=0.95),
    Variant("target 0.999", target=0.999),
)


def main() -> int:
    defaults = yaml.safe_load((ROOT / "benchmarks" / "attainment.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", default="", help="words, one of which a trace's name holds")
    parser.add_argument("--lead-times", default=",".join(map(str, defaults["lead_times_s"])))
    parser.add_argument("--peaks", default=",".join(map(str, defaults["peaks"])))
    parser.add_argument("--days", type=float, default=defaults["days"])
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--hpa", action="store_true")
    parser.add_argument("--rates", type=Path, default=ROOT.parent / "shared" / "traces" / "rates")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "attainment")
    args = parser.parse_args()
    words = [w for w in args.traces.split(",") if w]
    names = [n for n in defaults["traces"] if not words or any(w in n for w in words)]
    files = [f for f in (args.rates / f"{n}.csv.gz" for n in names) if f.exists()]
    if not files:
        print(f"skipped: none of these traces in {args.rates}")
        return 0
    leads, peaks = ([float(n) for n in text.split(",")] for text in (args.lead_times, args.peaks))
    variants = VARIANTS if args.ablate else VARIANTS[:1]
    rows: list[Figures] = []
    rivals: dict[tuple[str, float, float], tuple[float, float] | None] = {}
    for file in files:
        for lead_s in leads:
            for peak in peaks:
                rows += _case(file, lead_s, peak, variants, args)
                if args.hpa:
                    rivals[rows[-1].case, lead_s, peak] = _rival(file, lead_s, peak, args)
    report(rows, rivals)
    return 0


def _case(
    file: Path, lead_s: float, peak: float, variants: Sequence[Variant], args: argparse.Namespace
) -> list[Figures]:
    """From the folder, when the code is the same and all variants are there; else computed and kept."""
    name = file.name.removesuffix(".csv.gz")
    kept = args.out / f"{name}-{args.days:g}d-{lead_s:g}s-{peak:g}.json"
    stamp = code_stamp()
    if kept.exists():
        found = json.loads(kept.read_text())
        rows = {row["variant"]: Figures(**row) for row in found["rows"]}
        if found["stamp"] == stamp and all(v.name in rows for v in variants):
            return [rows[v.name] for v in variants]
    m = material(file, args.days, args.out / "forecasts")
    figures, _ = play(m, case_of(m, lead_s, peak), variants)
    args.out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"stamp": stamp, "rows": [asdict(f) for f in figures]}))
    print(f"{name}, lead time {lead_s:g} s, peak {peak:g}: done", file=sys.stderr, flush=True)
    return figures


def _rival(file: Path, lead_s: float, peak: float, args: argparse.Namespace) -> tuple[float, float] | None:
    m = material(file, args.days, args.out / "forecasts")
    return hpa(case_of(m, lead_s, peak), 0.99)


def code_stamp() -> str:
    """A digest of the code that the figures depend on; forecasts are kept apart, by trace and length."""
    digest = hashlib.sha256()
    for file in [*sorted((ROOT / "policies" / "shadow").glob("*.py")), ROOT / "benchmarks" / "attainment_fluid.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def report(rows: Sequence[Figures], rivals: dict[tuple[str, float, float], tuple[float, float] | None]) -> None:
    """Markdown: every case of the flagship, then each variant over all cases."""
    print("\n| trace | lead s | peak | cost / oracle | missed % | starts / oracle | hindsight HPA |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        if r.variant == FULL:
            rival = rivals.get((r.case, r.lead_s, r.peak))
            other = "" if not rivals else "none" if rival is None else f"{rival[0]:.2f} / {100 * rival[1]:.2f} %"
            print(
                f"| {r.case} | {r.lead_s:g} | {r.peak:g} | {r.cost:.2f} | {100 * r.missed_share:.2f} | "
                f"{r.starts:.2f} | {other} |"
            )
    full = {(r.case, r.lead_s, r.peak): r for r in rows if r.variant == FULL}
    print(
        "\n| variant | cases | cost / oracle | / flagship | missed % mean | over 1 % | over 1.1 % | starts / oracle |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(r.variant for r in rows):
        own = [r for r in rows if r.variant == name]
        ratio = _mean([r.cost / full[r.case, r.lead_s, r.peak].cost for r in own])
        over = [sum(r.missed_share > limit for r in own) for limit in (0.01, 0.011)]
        print(
            f"| {name} | {len(own)} | {_mean([r.cost for r in own]):.3f} | {ratio:.3f} | "
            f"{100 * np.mean([r.missed_share for r in own]):.2f} | {over[0]} | {over[1]} | "
            f"{_mean([r.starts for r in own]):.2f} |"
        )


def _mean(values: Sequence[float]) -> float:
    """Geometric."""
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9)))))


if __name__ == "__main__":
    raise SystemExit(main())
