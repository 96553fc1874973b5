"""Random small worlds for the data plane, and the comparison of the fast one with the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from policies.base.durations import Duration
from policies.capacity.profile import EngineProfile, Limits, Scheduling, StepLaw
from simulator.dataplane.plane import CompletedRequests, DataPlane, Status
from simulator.engine.layout import Ints, Reals
from tests.simulator.dataplane.reference_fleet import Control, ReferenceFleet
from tests.simulator.engine.reference_engine import Request


def profile(
    limits: Limits, scheduling: Scheduling, step: StepLaw, host_s: float = 0.0, api_s: float = 0.0
) -> EngineProfile:
    return EngineProfile("test", 1, "gpu", step, host_s, api_s, limits, scheduling, Duration(0.0), Duration(0.0))


AFFINE = StepLaw("affine", a_s=0.0101831, b_s=0.00041712, c_s=0.000137113, d_s=0.00031171, e_s=1.71e-7, h_s=0.0012713)
TABLE = StepLaw(
    "table",
    a_s=0.0091831,
    b_s=0.00011712,
    c_s=0.0000317113,
    e_s=2.71e-7,
    h_s=0.0007713,
    knots=((1.0, 0.00001123), (4.0, 0.0009377), (11.0, 0.0031337), (40.0, 0.0290917)),
)


@dataclass(frozen=True)
class Case:
    profile: EngineProfile
    max_ongoing: int
    timeout_s: float | None
    max_queued: int
    arrivals: tuple[tuple[float, int, int, int], ...]
    """(time, prompt, output, cached prompt) in order."""
    controls: tuple[Control, ...]
    slice_s: float
    until_s: float


@st.composite
def cases(draw: st.DrawFn, single: bool = False) -> Case:
    """Worlds in which limits bind: few blocks, few slots, small budgets, long and short requests."""
    size = draw(st.sampled_from([1, 2, 4, 16]))
    seqs = draw(st.integers(1, 6))
    blocks = draw(st.integers(3, 40))
    chunked = draw(st.booleans())
    longest = min(draw(st.integers(8, 200)), blocks * size)
    budget = max(seqs, draw(st.integers(1, 64)), 0 if chunked else longest)
    limits = Limits(seqs, budget, size, blocks * size + draw(st.integers(0, size - 1)), longest)
    scheduling = Scheduling(draw(st.booleans()), draw(st.booleans()), chunked)
    host_s = draw(st.sampled_from([0.0, 0.0017311, 0.0133117, 0.071317]))
    law = draw(st.sampled_from([AFFINE, TABLE]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 40))
    gap_s = draw(st.sampled_from([0.003, 0.03, 0.3]))
    times = np.cumsum(rng.exponential(gap_s, count))
    if single and draw(st.booleans()):  # bursts: several at one instant
        times = np.sort(times[rng.integers(0, count, count)])
    prompts = rng.integers(1, max(2, draw(st.integers(2, longest + 2))), count)
    outputs = rng.integers(1, draw(st.integers(2, 60)), count)
    cached = rng.integers(0, 80, count) * (draw(st.booleans()))
    span_s = float(times[-1]) + 0.1
    controls = [Control(float(rng.uniform(0, span_s / 4)) if draw(st.booleans()) else 0.0, "add", 0)]
    if not single:
        for number in range(1, draw(st.integers(1, 4))):
            controls.append(Control(float(rng.uniform(0, span_s)), "add", number))
        for control in list(controls):
            if draw(st.booleans()):
                at_s = float(rng.uniform(control.at_s, span_s))
                controls.append(Control(at_s, draw(st.sampled_from(["drain", "kill"])), control.replica))
    return Case(
        profile=profile(limits, scheduling, law, host_s, api_s=0.007),
        max_ongoing=10_000 if single else draw(st.sampled_from([1, 3, 7, 100])),
        timeout_s=draw(st.sampled_from([None, None, 0.23171, 1.77213])),
        max_queued=draw(st.sampled_from([-1, -1, 0, 2])),
        arrivals=tuple(zip(times.tolist(), prompts.tolist(), outputs.tolist(), cached.tolist(), strict=True)),
        controls=tuple(sorted(controls, key=lambda c: c.at_s)),
        slice_s=draw(st.sampled_from([0.0173, 0.31, 1e9])),
        until_s=span_s + draw(st.sampled_from([0.0, 1.0, 1e3])),
    )


def run_reference(case: Case) -> ReferenceFleet:
    fleet = ReferenceFleet(
        case.profile,
        max_ongoing_requests=case.max_ongoing,
        request_timeout_s=case.timeout_s,
        seed=7,
        max_queued_requests=case.max_queued,
    )
    requests = [Request(i, *arrival) for i, arrival in enumerate(case.arrivals)]
    fleet.run(requests, list(case.controls), case.until_s)
    return fleet


def run_fast(case: Case, slice_s: float | None = None) -> tuple[DataPlane, CompletedRequests]:
    """The same world, in slices, telemetry read in between."""
    plane = DataPlane(
        case.profile,
        max_ongoing_requests=case.max_ongoing,
        request_timeout_s=case.timeout_s,
        seed=7,
        max_queued_requests=case.max_queued,
    )
    plane.feed(*(np.array(column) for column in zip(*case.arrivals, strict=True)))
    stops = np.arange(0.0, case.until_s, slice_s or case.slice_s)[:400].tolist()
    events: list[tuple[float, Control | None]] = [(s, None) for s in [*stops, case.until_s]]
    events += [(c.at_s, c) for c in case.controls if c.at_s <= case.until_s]
    for at_s, control in sorted(events, key=lambda e: (e[0], e[1] is None)):
        if control is None:
            plane.advance(at_s)
        elif control.what == "add":
            plane.add_replica(control.replica, at_s)
        elif control.what == "drain":
            if control.replica in plane.replicas:
                plane.drain_replica(control.replica, at_s)
        else:
            plane.kill_replica(control.replica, at_s)
        plane.gauges(at_s)
    return plane, plane.completed()


STATUS = {"ok": Status.OK, "failed": Status.FAILED, "timed_out": Status.TIMED_OUT}


def assert_same(case: Case) -> None:
    """Every request has the same fate at the same times in both."""
    fleet = run_reference(case)
    plane, done = run_fast(case)
    by_id = {int(i): k for k, i in enumerate(done.id)}
    assert len(by_id) == len(done), "a request ended twice"
    inside = plane.unfinished()
    emitted = dict(zip(inside.id.tolist(), inside.output_tokens.tolist(), strict=True))
    api_s = case.profile.api_s
    for request in fleet.requests:
        if request.status == "inside":
            if request.arrival_s <= case.until_s:
                assert emitted[request.id] == request.emitted, f"tokens of {request}"
            assert request.id not in by_id, f"{request} has ended"
            continue
        k = by_id[request.id]
        fate = f"\nreference: {request}\nfast: end {done.arrival_s[k] + done.e2e_s[k]} status {done.status[k]}"
        assert done.status[k] == STATUS[request.status], fate
        assert done.replica[k] == (-1 if request.replica is None else request.replica), fate
        close(done.e2e_s[k] - (api_s if request.status == "ok" else 0.0), request.end_s - request.arrival_s, fate)
        close(done.ttft_s[k] - api_s, since(request, request.first_token_s), fate)
        close(done.queue_s[k], since(request, request.scheduled_s), fate)
        close(done.handle_s[k], since(request, request.sent_s), fate)
        assert done.preemptions[k] == request.preemptions, fate
        assert done.output_tokens[k] == request.emitted_at_end, fate
    assert_same_telemetry(case, fleet, plane)
    counters, means_s = plane.counters(), done.mean_itl_s[~np.isnan(done.mean_itl_s)].tolist()
    same_histogram(counters.mean_itl_counts, counters.mean_itl_sum_s, counters.itl_edges_s, [means_s])
    for number, at_s in fleet.drained_at_s.items():
        close(plane.drained_at_s(number), at_s, f"drain of {number}")


def assert_same_telemetry(case: Case, fleet: ReferenceFleet, plane: DataPlane) -> None:
    """Gauges and counters at the end of the world, which is usually in the middle of the work."""
    gauges, counters = plane.gauges(case.until_s), plane.counters()
    assert sorted(gauges.replica.tolist()) == sorted(fleet.replicas)
    assert gauges.queued == len(fleet.queue)
    engines = {number: replica.engine for number, replica in fleet.replicas.items()}
    for k, number in enumerate(gauges.replica.tolist()):
        engine, replica = engines[number], fleet.replicas[number]
        shown = (gauges.running[k], gauges.waiting[k], round((1 - gauges.kv_usage_fraction[k]) * engine.pool.total))
        assert shown == engine.shown, f"replica {number}"
        assert gauges.ongoing[k] == len(replica.requests)
        busy_s = engine.busy_s + (case.until_s - engine.start_s if engine.current is not None else 0.0)
        close(counters.busy_s[k], busy_s, "busy")
    engines_ever = [*engines.values(), *(r.engine for r in fleet.gone)]
    assert counters.preemptions_total.sum() == sum(e.preemptions for e in engines_ever)
    assert counters.recomputed_tokens_total.sum() == sum(e.recomputed for e in engines_ever)
    if case.timeout_s is None:  # a step under way still counts the token of a client that has gone
        assert counters.output_tokens_total.sum() == sum(e.tokens for e in engines_ever)
        assert counters.prompt_tokens_total.sum() == sum(e.prompt_tokens for e in engines_ever)
        same_histogram(counters.itl_counts, counters.itl_sum_s, counters.itl_edges_s, [e.gaps_s for e in engines_ever])
        same_histogram(
            counters.ttft_counts, counters.ttft_sum_s, counters.ttft_edges_s, [e.ttfts_s for e in engines_ever]
        )


def same_histogram(counts: Ints, sums_s: Reals, edges_s: tuple[float, ...], observed: list[list[float]]) -> None:
    values = np.array([v for engine in observed for v in engine])
    buckets = np.searchsorted(edges_s, values)
    assert counts.sum(0).tolist() == np.bincount(buckets, minlength=len(edges_s) + 1).tolist()
    close(float(sums_s.sum()), float(values.sum()), "sum of a histogram")


def since(request: Request, at_s: float | None) -> float:
    return float("nan") if at_s is None else at_s - request.arrival_s


def close(fast: float | None, reference: float, why: str) -> None:
    assert fast is not None, why
    if np.isnan(reference):
        assert np.isnan(fast), why
    else:
        assert abs(fast - reference) <= 1e-9 * max(1.0, abs(reference)), why
