"""Against a real vLLM 0.32 (measured runs under ../shared; skipped where they are not)."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.dataplane.plane import CompletedRequests, Counters, DataPlane
from tests.simulator.engine.groundtruth import FOLDER, PROFILE, replay_schedule, table

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="measured runs are not here")


def simulate(run: str) -> tuple[dict[str, np.ndarray], CompletedRequests, Counters]:
    observed = table(FOLDER / run / "requests.csv")
    order = np.argsort(observed["arrival_s"], kind="stable")
    plane = DataPlane(PROFILE, max_ongoing_requests=10**9, request_timeout_s=None, seed=1)
    plane.add_replica(0, 0.0)
    plane.feed(*(observed[name][order] for name in ("arrival_s", "prompt_tokens", "output_tokens")))
    plane.advance(10_000.0)
    return observed, plane.completed(), plane.counters()


@pytest.mark.parametrize(
    ("run", "preemptions", "recomputed_tokens"), [("low", 0, 0), ("high", 0, 0), ("overload_quiet", 71, 7848)]
)
def test_with_measured_step_times_every_step_has_the_measured_composition(
    run: str, preemptions: int, recomputed_tokens: int
) -> None:
    replay = replay_schedule(run)
    assert replay.differing == []
    assert replay.engine.preemptions == preemptions
    assert replay.engine.recomputed == recomputed_tokens


@pytest.mark.parametrize(
    ("run", "ttft", "e2e", "itl"),
    [("low", 0.18, 0.10, 0.10), ("high", 0.18, 0.10, 0.10), ("overload_quiet", 0.12, 0.08, 0.06)],
)
def test_latencies_are_within_tolerance_of_those_measured(run: str, ttft: float, e2e: float, itl: float) -> None:
    observed, done, _ = simulate(run)
    for name, fraction in (("ttft_s", ttft), ("e2e_s", e2e), ("mean_itl_s", itl)):
        for q in (0.5, 0.9, 0.99):
            ratio = np.nanquantile(getattr(done, name), q) / np.nanquantile(observed[name], q)
            assert ratio == pytest.approx(1.0, abs=fraction), f"{name} p{100 * q:g}"


def test_preemptions_and_recomputed_tokens_are_those_measured_within_tolerance() -> None:
    _, _, counters = simulate("overload_quiet")
    assert counters.preemptions_total.sum() == pytest.approx(71, rel=0.25)
    assert counters.recomputed_tokens_total.sum() == pytest.approx(7848, rel=0.20)
