"""What the live page costs a tick: 100 deployments, 20 pages open, some of them with the detail of a deployment.

    python benchmarks/bench_live_page.py [--ticks N] [--pages N] [--details N]

A simulated fleet (benchmarks/jobs/b-hundred.yaml) is decided tick by tick, and each tick is published. Measured in CPU
time of the process: remembering what charts show (part of every tick), and making ready what 20 readers get (beside the
tick, on the same event loop). Printed: the mean of each in ms, beside the step's, and the size of what a reader gets.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

_JOB = Path(__file__).parent / "jobs" / "b-hundred.yaml"


class _Enough(Exception):
    """The last tick was played."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--details", type=int, default=1, help="pages that each have another deployment open")
    options = parser.parse_args()

    import numpy as np

    from autoscaler.api.live.page import Fragments, LivePages
    from autoscaler.api.telemetry import Telemetry, new_telemetry
    from autoscaler.core.controller import Controller
    from autoscaler.core.types import Plan, Signals
    from simulator.experiments.simulation import simulate
    from simulator.run import Choice, make_policy
    from simulator.scenario.load import load_scenario

    step = Controller.step
    seen: list[tuple[Telemetry, LivePages]] = []
    before: dict[int, Fragments] = {}
    spent: list[tuple[float, float, float, float, float]] = []

    def watched(self: Controller, signals: Signals, now_s: float) -> Plan:
        begun = time.process_time()
        plan = step(self, signals, now_s)
        stepped = time.process_time()
        if not seen:
            telemetry = new_telemetry(self.config)
            seen.append((telemetry, LivePages(telemetry)))
        telemetry, pages = seen[0]
        telemetry.publish(signals, plan, (), 0.0)
        published = time.process_time()
        telemetry.history.remember(plan, telemetry.score.requests, telemetry.score.missed)  # once more, by itself
        remembered = time.process_time()
        keys = [one.key for one in plan.deployments]
        size = 0
        for reader in range(options.pages):
            wanted = keys[reader] if reader < options.details else None
            before[reader], data = pages.news(wanted, before.get(reader), now_s)
            size += len(data)
        done = time.process_time()
        spent.append(
            (stepped - begun, published - stepped, remembered - published, done - remembered, size / options.pages)
        )
        if len(spent) >= options.ticks:
            raise _Enough
        return plan

    Controller.step = watched  # type: ignore[method-assign]
    scenario = load_scenario(str(_JOB), [f"duration_s={(options.ticks + 10) * 10}"])
    with contextlib.suppress(_Enough):
        simulate(scenario, make_policy(scenario, Choice()))
    rows = np.array(spent)[options.ticks // 4 :]
    means = rows.mean(axis=0)
    print(
        f"{options.ticks} ticks, {len(seen[0][0].plan.deployments)} deployments, {options.pages} pages open, "
        f"{options.details} with a detail"
    )  # type: ignore[union-attr]
    print(f"step                          {1000 * means[0]:8.2f} ms of CPU a tick")
    print(f"publishing a tick             {1000 * means[1]:8.2f}")
    print(f"  of it: what charts show     {1000 * means[2]:8.2f}")
    print(f"pages, for all readers        {1000 * means[3]:8.2f}   (median {1000 * np.median(rows[:, 3]):.2f})")
    print(f"one reader gets               {means[4] / 1000:8.1f} kB a tick")


if __name__ == "__main__":
    main()
