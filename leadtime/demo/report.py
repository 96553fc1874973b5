"""The end of the demo in words and figures: the table, who did better, why, and where everything was left.

Pure text; the figures come from summary, the moments of late requests from watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leadtime.demo import summary
from leadtime.demo.nodes_watch import NodesWatch
from leadtime.demo.spec import Spec
from leadtime.demo.users import Served
from leadtime.demo.watch import Watch

LEADTIME_FOLDER, WATCHING_FOLDER, SCENARIO_FOLDER = "leadtime", "watching", "scenario"
NOT_AHEAD_FOLDER = "scenario-nodes-not-ahead"
"""Below the output folder: of the pass that leadtime decides, of the one that it watches, of the simulated days."""

_SERVE_GIVES_BACK_S = 600.0
"""Serve's downscale_delay_s."""


def report(
    spec: Spec,
    outcomes: Sequence[summary.Outcome],
    late: Sequence[summary.Moment],
    folder: Path,
    most_memory_bytes: int,
    nodes: NodesWatch | None = None,
    first_start_s: float | None = None,
) -> list[str]:
    """Lines for the end. `outcomes` holds leadtime's live pass first, and one under Serve's own autoscaler."""
    ours = outcomes[0]
    rival = next(o for o in outcomes if o.who == summary.SERVE)
    lines = ["", f"What users got: {spec.seconds:g} s of traffic, the same requests in each column", ""]
    lines += summary.table(outcomes, spec.ttft_s)
    lines += ["", *summary.verdict(ours, rival, summary.causes_words(summary.causes(late)))]
    same = next((o for o in outcomes if o.who == summary.LEADTIME and o.how == rival.how), ours)
    if same is not ours:
        lines.append(f"Simulated against simulated: {same.late} late against {rival.late}.")
    if nodes is not None:
        lines += ["", *nodes.words(spec.seconds, first_start_s)]
        lines += [_without(same, one) for one in outcomes if one.who == summary.NOT_AHEAD]
    defaults = (
        "Serve's defaults: 2 requests in progress per replica, averaged over 30 s; 30 s until more, 600 s until fewer."
    )
    if spec.seconds < _SERVE_GIVES_BACK_S:
        defaults += f" These are real seconds: within {spec.seconds:g} s of traffic it gives nothing back."
    lines += [
        "",
        defaults,
        f"Most memory: {most_memory_bytes / 1e9:.1f} GB, local Ray and engines together.",
        "",
        "Why each decision was made:",
        f"    leadtime explain {folder / LEADTIME_FOLDER / 'journal'}",
    ]
    if rival.how == "simulated":
        scenario = folder / SCENARIO_FOLDER / "scenario.yaml"
        lines += ["The same day in the simulator:", f"    leadtime compare {scenario}"]
    return lines


def _without(ours: summary.Outcome, other: summary.Outcome) -> str:
    """What asking for nodes ahead did, of two simulated passes that differ in nothing else."""
    late = f"{ours.late} late with nodes asked for ahead, {other.late} without"
    held = f"{ours.replica_seconds:.0f} and {other.replica_seconds:.0f} replica-seconds"
    return f"Simulated against simulated: {late} ({held})."


def moments_of_the_late(spec: Spec, watch: Watch, served: Sequence[Served]) -> list[summary.Moment]:
    """For every request that was late: what its deployment's replicas were doing when it came."""
    return [_moment(spec, watch, one) for one in served if one.missed(spec.ttft_s)]


def _moment(spec: Spec, watch: Watch, one: Served) -> summary.Moment:
    samples = watch.samples.get(one.deployment, [])
    at = next((s for s in reversed(samples) if s.at_s <= one.at_s), samples[0] if samples else None)
    most = spec.most_replicas(one.deployment)
    return summary.Moment(at.running, at.starting, most) if at else summary.Moment(0, 0, most)
